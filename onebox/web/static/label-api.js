// Requests to the page's own server. Takes addresses and plain values, gives plain values; every request carries the
// secret that this page was given, and failures come as ApiError.

const givenByPage = document.querySelector('meta[name="onebox-secret"]').content;
const secret = givenByPage || secretOfAddress();
// Whether this page was opened from a place where a token is asked for.
export const needsToken = !givenByPage;
const headers = { Authorization: `Bearer ${secret}` };

// From another machine the page comes without the secret: it stands behind the # of the address that was printed, and
// is kept for this tab, out of sight.
function secretOfAddress() {
  const given = decodeURIComponent(window.location.hash.slice(1));
  if (given) {
    sessionStorage.setItem('onebox-secret', given);
    window.history.replaceState(null, '', window.location.pathname);
  }
  // a browser does not open the same address anew when all that was put right is behind its #
  window.addEventListener('hashchange', () => window.location.reload());
  return given || sessionStorage.getItem('onebox-secret') || '';
}

export class ApiError extends Error {
  constructor(status, what, data) {
    super(what);
    this.status = status; // 0: the server could not be reached
    this.data = data;
  }
}

export async function request(method, address, { json, body } = {}) {
  const sent = json === undefined ? { headers, body } : {
    headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(json),
  };
  const response = await reach(address, { method, ...sent });
  const data = await response.json().catch(() => null);
  if (!response.ok) {
    const error = data?.error ?? {};
    const what = [error.what ?? `the server answered ${response.status}`, error.fix].filter(Boolean).join('. ');
    throw new ApiError(response.status, what, data);
  }
  return data;
}

// Pictures as object URLs with their full size: the server may send a smaller rendering.
const views = new Map();
const VIEWS_KEPT = 8;

export function loadView(id) {
  if (views.has(id)) {
    const known = views.get(id);
    views.delete(id);
    views.set(id, known);
    return known;
  }
  const loading = fetchView(id);
  views.set(id, loading);
  loading.catch(() => views.delete(id));
  while (views.size > VIEWS_KEPT) {
    const [oldest, old] = views.entries().next().value;
    views.delete(oldest);
    old.then((view) => setTimeout(() => URL.revokeObjectURL(view.url), 4000), () => {});
  }
  return loading;
}

async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new ApiError(0, 'the server cannot be reached', null);
  }
}

// A thumbnail's object URL, for its taker to give back; null where the picture cannot be read.
export async function loadThumb(id, signal) {
  const response = await fetch(`/thumb/${id}`, { headers, signal }).catch(() => null);
  return response?.ok ? URL.createObjectURL(await response.blob()) : null;
}

async function fetchView(id) {
  const response = await reach(`/view/${id}`, { headers });
  if (!response.ok) {
    const data = await response.json().catch(() => null);
    throw new ApiError(response.status, data?.error?.what ?? 'the picture cannot be shown', data);
  }
  const [width, height] = response.headers.get('X-Picture-Size').split('x').map(Number);
  const url = URL.createObjectURL(await response.blob());
  const image = new Image();
  image.src = url;
  await image.decode();
  return { url, width, height };
}

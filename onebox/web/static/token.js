// Requests to this page's own server: adds the token where one is needed, and turns a problem into an Error in words.
const KEY = "onebox-token";

/** fetch, with the token. Asks for it where the server wants one; rejects where the person gives none. */
export async function fetchGuarded(url, options = {}) {
  for (;;) {
    const headers = new Headers(options.headers);
    const token = sessionStorage.getItem(KEY);
    if (token) headers.set("Authorization", `Bearer ${token}`);
    let response;
    try {
      response = await fetch(url, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.status !== 401) return response;
    sessionStorage.removeItem(KEY);
    if (!(await askOnce(token ? "That token is not the right one." : ""))) throw new Error("A token is needed here.");
  }
}

/** The JSON of an answer. A problem becomes an Error with its text, `status`, `retry` (seconds) and `answer`. */
export async function fetchJson(url, options = {}) {
  const response = await fetchGuarded(url, options);
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // not JSON: told by its status below
  }
  if (response.ok && answer !== null) return answer;
  const told = answer?.error;
  const what = typeof told === "string" ? told : [told?.what, told?.fix].filter(Boolean).map(sentence).join(" ");
  const error = new Error(what || `The server answered ${response.status}.`);
  error.status = response.status;
  error.retry = Number(response.headers.get("Retry-After")) || 0;
  error.answer = answer;
  throw error;
}

/** With a capital and a full stop. */
export function sentence(text) {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

let asking = null;

// several requests may need the token at once: one dialog for all of them
function askOnce(remark) {
  asking ??= ask(remark).finally(() => { asking = null; });
  return asking;
}

function ask(remark) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "token-title");
  const form = document.createElement("form");
  form.method = "dialog";
  const title = Object.assign(document.createElement("h2"), { id: "token-title", textContent: "This server wants a token" });
  const text = Object.assign(document.createElement("p"), {
    className: "quiet small",
    textContent: `${remark} It is in the file that was given as --token-file. This tab remembers it until it is closed.`.trim(),
  });
  const input = Object.assign(document.createElement("input"), { type: "password", required: true, autocomplete: "off" });
  input.setAttribute("aria-label", "Token");
  const row = Object.assign(document.createElement("div"), { className: "row" });
  const cancel = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "Cancel" });
  const go = Object.assign(document.createElement("button"), { className: "primary", textContent: "Continue" });
  row.append(cancel, go);
  form.append(title, text, input, row);
  dialog.append(form);
  document.body.append(dialog);
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", () => sessionStorage.setItem(KEY, input.value.trim()));
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(sessionStorage.getItem(KEY) !== null);
    });
    dialog.showModal();
  });
}

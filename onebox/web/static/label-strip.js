// The film of thumbnails and its filters. Takes the list of pictures, shows only those in sight (there may be ten
// thousand), tells which one was chosen. Knows nothing of boxes.

import { loadThumb } from './label-api.js';

const WIDTH = 96; // of one thumbnail with its gap, pixels; label.css has the same
const SIGNS = { box: '✓', none: '∅', open: '', again: '!', broken: '×' };
const WORDS = { box: 'labelled', none: 'no object here', open: 'not labelled', again: 'please look again', broken: 'cannot be read' };

const FILTERS = [
  ['all', 'All', () => true],
  ['open', 'Unlabelled', (picture) => picture.state === 'open' && !picture.unreadable],
  ['box', 'Labelled', (picture) => picture.state === 'box'],
  ['none', 'No object', (picture) => picture.state === 'none'],
  ['again', 'Look again', (picture) => Boolean(picture.doubt)],
];

const fitting = (key) => FILTERS.find(([one]) => one === key)[2];

// The ids that a filter shows, in the order `ranked` or by name.
export function arrange(pictures, ranked, filter, byName) {
  const names = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });
  const ids = byName ? [...pictures.values()].sort(names).map((picture) => picture.id) : ranked;
  return ids.filter((id) => fitting(filter)(pictures.get(id)));
}

// How many pictures each filter shows, and how many labels each class has.
export function countAll(pictures) {
  const counts = Object.fromEntries(FILTERS.map(([key]) => [key, 0]));
  const perClass = new Map();
  for (const picture of pictures.values()) {
    for (const [key, , fits] of FILTERS) counts[key] += fits(picture) ? 1 : 0;
    if (picture.label) perClass.set(picture.label, (perClass.get(picture.label) ?? 0) + 1);
  }
  return { counts, perClass };
}

export function kindOf(picture) {
  if (picture.unreadable) return 'broken';
  return picture.doubt ? 'again' : picture.state;
}

export function describe(picture) {
  const kind = kindOf(picture);
  const words = kind === 'box' || (kind === 'again' && picture.label) ? `labelled ${picture.label}` : WORDS[picture.state];
  if (kind === 'again') return `${words}, please look again: ${picture.doubt}`;
  return kind === 'broken' ? `cannot be read: ${picture.unreadable}` : words;
}

export class Strip {
  constructor(pictures, chosen) {
    this.pictures = pictures; // Map: id -> picture
    this.chosen = chosen;
    this.root = document.getElementById('strip');
    this.track = document.getElementById('track');
    this.ids = [];
    this.current = null;
    this.nodes = new Map(); // position -> button
    let asked = false;
    this.root.addEventListener('scroll', () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => { asked = false; this.paint(); });
    }, { passive: true });
    this.root.addEventListener('wheel', (event) => {
      if (Math.abs(event.deltaY) <= Math.abs(event.deltaX)) return;
      event.preventDefault();
      this.root.scrollLeft += event.deltaY;
    }, { passive: false });
    this.track.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) this.chosen(button.dataset.id);
    });
    new ResizeObserver(() => this.paint()).observe(this.root);
  }

  setList(ids) {
    this.ids = ids;
    for (const [at, node] of this.nodes) {
      if (node.dataset.id !== ids[at]) this.drop(at, node);
    }
    this.track.style.width = `${ids.length * WIDTH}px`;
    this.paint();
  }

  setCurrent(id) {
    this.current = id;
    const at = this.ids.indexOf(id);
    if (at >= 0) {
      const left = at * WIDTH - this.root.clientWidth / 2 + WIDTH / 2;
      if (Math.abs(this.root.scrollLeft - left) > 2) this.root.scrollLeft = left;
    }
    this.paint();
  }

  update(id) {
    for (const node of this.nodes.values()) if (node.dataset.id === id) this.fill(node, id);
  }

  updateAll() {
    for (const node of this.nodes.values()) this.fill(node, node.dataset.id);
  }

  paint() {
    const first = Math.max(0, Math.floor(this.root.scrollLeft / WIDTH) - 3);
    const last = Math.min(this.ids.length - 1, Math.ceil((this.root.scrollLeft + this.root.clientWidth) / WIDTH) + 3);
    for (const [at, node] of this.nodes) {
      if (at < first || at > last) this.drop(at, node);
    }
    for (let at = first; at <= last; at += 1) {
      if (!this.nodes.has(at)) {
        const node = this.make(this.ids[at], at);
        this.nodes.set(at, node);
        this.track.append(node);
      }
    }
    for (const node of this.nodes.values()) this.fill(node, node.dataset.id);
  }

  drop(at, node) {
    node.leaving.abort();
    node.remove();
    this.nodes.delete(at);
  }

  make(id, at) {
    const node = document.createElement('button');
    node.type = 'button';
    node.className = 'thumb';
    node.dataset.id = id;
    node.style.left = `${at * WIDTH}px`;
    const image = document.createElement('img');
    image.alt = '';
    image.draggable = false;
    image.hidden = true;
    node.leaving = new AbortController();
    loadThumb(id, node.leaving.signal).then((url) => {
      if (!url) return;
      image.src = url;
      image.hidden = false;
      image.addEventListener('load', () => URL.revokeObjectURL(url), { once: true });
    }, () => {});
    const sign = document.createElement('span');
    sign.className = 'sign';
    const text = document.createElement('span');
    text.className = 'word';
    node.append(image, sign, text);
    return node;
  }

  fill(node, id) {
    const picture = this.pictures.get(id);
    if (!picture) return;
    const kind = kindOf(picture);
    const now = id === this.current;
    node.dataset.kind = kind;
    node.querySelector('.sign').textContent = SIGNS[kind];
    const proposed = kind === 'open' && picture.proposal;
    node.dataset.proposed = proposed ? 'yes' : '';
    node.querySelector('.word').textContent = picture.label ?? (proposed ? `${picture.proposal.label}?` : '');
    node.setAttribute('aria-label', `${picture.name}: ${describe(picture)}`);
    node.tabIndex = now ? 0 : -1;
    if (now) node.setAttribute('aria-current', 'true');
    else node.removeAttribute('aria-current');
  }
}

// The filters, with how many pictures each shows.
export class Filters {
  constructor(chosen) {
    this.root = document.getElementById('filters');
    this.buttons = new Map();
    for (const [key, text] of FILTERS) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = `filter show-${key}`;
      const count = document.createElement('span');
      count.className = 'number';
      button.append(text, ' ', count);
      button.addEventListener('click', () => chosen(key));
      this.root.append(button);
      this.buttons.set(key, { button, count });
    }
  }

  show(active, counts) {
    for (const [key, { button, count }] of this.buttons) {
      button.setAttribute('aria-pressed', String(key === active));
      count.textContent = counts[key];
      button.hidden = key === 'again' && !counts.again && active !== 'again';
    }
  }
}

// The page of `onebox label`: which picture is shown, what is said of it, and what every key and button means. The work is
// in the other modules: stage (the box), book (saving, undo), strip (thumbnails), panel, words, intake, input.

import { loadView, request } from './label-api.js';
import { Book } from './label-book.js';
import { listenToButtons, listenToKeys } from './label-input.js';
import { Intake } from './label-intake.js';
import { ClassList, keysOf, showAgain, showModel } from './label-panel.js';
import { Stage } from './label-stage.js';
import { Filters, Strip, arrange, countAll } from './label-strip.js';
import {
  askConflict, hint, notice, showEmpty, showFound, showLost, showMark, showSaved, takeText, toast,
} from './label-words.js';

const byId = (id) => document.getElementById(id);
const AUTOSAVE = 450; // ms after the last change of a box that is labelled already
const SOON = 1200;
const LATER = 4000;
const HIDDEN = 8000;

const drafts = new Map(); // id -> {box, label}: drawn, not saved
let status = null;
let ranked = []; // all ids, in the order in which to label
let list = []; // those that the filter shows
let filter = 'all';
let current = null;
let view = null;
let pending = null; // a class that was chosen before its box was drawn
let lastClass = null;
let autosave = null;

const book = new Book({
  changed: (id) => { strip.update(id); paint(); },
  progressed: () => { showSaved(book.waiting, book.past.length + book.future.length > 0); if (!book.waiting) showFound(); },
  refused: (id, message) => { toast(`Not saved: ${message}`); if (id === current) show(); },
  lost: (error) => showLost(error, book.waiting),
  conflict: async (said, now) => {
    const mine = await askConflict(said, now);
    drafts.delete(now.id);
    if (now.id === current) show();
    return mine;
  },
});
const { pictures } = book;
const stage = new Stage(byId('stage'), boxChanged);
const strip = new Strip(pictures, go);
const filters = new Filters(useFilter);
const classList = new ClassList(choose, addClass);
const intake = new Intake({ added, say: toast });

// -- what the server knows

async function begin() {
  try {
    const state = await request('GET', '/api/state');
    byId('folder').textContent = state.folder;
    byId('file-name').textContent = state.file;
    document.title = `${state.folder} - onebox label`;
    for (const picture of state.pictures) pictures.set(picture.id, picture);
    ranked = state.pictures.map((picture) => picture.id);
    status = state;
    notice([...state.notes, ...state.damaged.map((line) => `${line}. The line is kept as it is.`)]);
    makeList();
    await go(list.find((id) => pictures.get(id).state === 'open') ?? list[0] ?? null);
    setTimeout(poll, SOON);
  } catch (error) {
    showLost(error, false);
    setTimeout(begin, SOON);
  }
}

async function poll() {
  let wait = LATER;
  try {
    const news = await request('GET', `/api/progress?since=${status.sequence}`);
    const { version } = status;
    status = { ...status, ...news };
    news.changed.forEach(learn);
    if (news.version !== version) await reorder();
    const { training, model } = news;
    if (training.state === 'running' || news.checking || (model && model.done < model.total)) wait = SOON;
    if (!book.waiting) showFound();
    paint();
  } catch (error) {
    showLost(error, book.waiting);
  }
  setTimeout(poll, document.hidden ? HIDDEN : wait);
}

function learn(picture) {
  const fresh = !pictures.has(picture.id);
  const changed = book.learn(picture);
  if (fresh) {
    ranked.push(picture.id);
    makeList();
  }
  strip.update(picture.id);
  if (picture.id === current && changed && !drafts.has(current)) show();
}

async function reorder() {
  const news = await request('GET', '/api/order');
  status.version = news.version;
  ranked = news.order;
  for (const [id, picture] of pictures) {
    picture.proposal = news.proposals[id];
    picture.doubt = news.doubts[id];
    picture.unreadable = news.unreadable[id] ?? picture.unreadable;
  }
  makeList();
  if (current && !drafts.has(current) && pictures.get(current).state === 'open' && !stage.drag) show();
}

function makeList() {
  list = arrange(pictures, ranked, filter, byId('sort').value === 'name');
  strip.setList(list);
  strip.setCurrent(current);
  paint();
}

function useFilter(key) {
  filter = key;
  makeList();
  if (!list.includes(current)) go(list[0] ?? null);
}

// -- from picture to picture

async function go(id) {
  settle();
  current = id;
  pending = null;
  view = null;
  strip.setCurrent(id);
  show();
  if (!id) return;
  try {
    const loaded = await loadView(id);
    if (current !== id) return;
    view = loaded;
  } catch (error) {
    if (current !== id) return;
    if (error.status === 0) showLost(error, book.waiting);
    else pictures.get(id).unreadable = error.message;
    strip.update(id);
  }
  show();
  for (const next of upcoming(id, 2)) loadView(next).catch(() => {});
}

const forOpen = () => filter === 'all' || filter === 'open';
const isOpen = (id) => pictures.get(id).state === 'open' && !pictures.get(id).unreadable;

function upcoming(id, count) {
  const behind = list.slice(list.indexOf(id) + 1);
  return behind.filter(forOpen() ? isOpen : (next) => !pictures.get(next).unreadable).slice(0, count);
}

function step(by) {
  const at = list.indexOf(current);
  const next = list[at < 0 ? 0 : at + by];
  if (next) go(next);
  else toast(by > 0 ? 'This is the last picture.' : 'This is the first picture.');
}

// On to the next picture that wants work: behind this one, else from the start.
function advance() {
  const next = upcoming(current, 1)[0] ?? (forOpen() ? list.find((id) => id !== current && isOpen(id)) : undefined);
  if (next) {
    go(next);
    return;
  }
  toast(filter === 'all' ? 'All pictures are done.' : 'That was the last one here.');
  show();
}

// -- what is said of the picture

// The box and class on the stage: what was drawn, else what is saved, else what the model proposes.
function shown() {
  const picture = pictures.get(current);
  if (!picture) return null;
  const draft = drafts.get(current);
  if (draft) return { ...draft, from: picture.state === 'box' ? 'saved' : 'drawn' };
  if (picture.state === 'box') return { box: picture.box, label: picture.label, from: 'saved' };
  return picture.state === 'open' && picture.proposal ? { ...picture.proposal, from: 'proposed' } : null;
}

function boxChanged(box, finished) {
  const label = shown()?.label ?? pending;
  if (box) drafts.set(current, { box: box.map((v) => Math.round(v * 100) / 100), label });
  else drafts.delete(current);
  clearTimeout(autosave);
  if (finished) paint();
  else paintMark();
  if (!finished || !box) return;
  if (pictures.get(current).state === 'box') autosave = setTimeout(settle, AUTOSAVE);
  else if (pending) choose(pending);
}

function put(said) {
  drafts.delete(current);
  book.say(current, said);
}

// Saves a changed box of a labelled picture; a drawn box without a class waits for one.
function settle() {
  clearTimeout(autosave);
  const draft = drafts.get(current);
  if (draft && pictures.get(current).state === 'box') put({ state: 'box', label: draft.label, box: draft.box });
}

function choose(name) {
  if (!current || !view || pictures.get(current).unreadable) return;
  const now = shown();
  lastClass = name;
  if (now) {
    put({ state: 'box', label: name, box: now.box });
    advance();
  } else {
    pending = pending === name ? null : name;
    paint();
  }
}

function take() {
  const picture = pictures.get(current);
  if (!picture || picture.unreadable || !view) return;
  const now = shown();
  if (!now && picture.state === 'open') stage.start();
  else if (!now) advance();
  else if (now.from === 'saved') {
    if (picture.doubt && !drafts.has(current)) confirmLabel(picture);
    settle();
    advance();
  } else {
    const label = now.label ?? lastClass ?? (status.classes.length === 1 ? status.classes[0] : null);
    if (!label) {
      toast(status.classes.length ? 'Which class? Press its number or letter.' : 'Add a class first.');
      if (!status.classes.length) classList.focus();
    } else if (status.classes.includes(label)) choose(label);
    else addClass(label); // the model knows a class that this folder does not have yet
  }
}

function none() {
  if (!current || pictures.get(current).unreadable) return;
  put({ state: 'none' });
  advance();
}

function clear() {
  if (!current) return;
  clearTimeout(autosave);
  drafts.delete(current);
  book.say(current, { state: 'open' });
  show();
}

function escape() {
  clearTimeout(autosave);
  if (pending) pending = null;
  else if (!drafts.delete(current)) stage.fit();
  show();
}

async function turn(entry) {
  if (!entry) return;
  drafts.delete(entry.id);
  if (current !== entry.id) await go(entry.id);
  entry.act();
  show();
}

async function confirmLabel(picture) {
  delete picture.doubt;
  strip.update(picture.id);
  try {
    await request('POST', `/api/pictures/${picture.id}/confirm`);
  } catch (error) {
    toast(error.message);
  }
}

async function addClass(name) {
  try {
    const answer = await request('POST', '/api/classes', { json: { name } });
    status.classes = answer.classes;
    classList.leave();
    paint();
    if (shown() && shown().from !== 'saved') choose(answer.name);
  } catch (error) {
    toast(error.message);
  }
}

// -- what is seen

function show() {
  const picture = pictures.get(current);
  stage.root.classList.toggle('waiting', Boolean(picture) && !view && !picture.unreadable);
  showEmpty(picture, pictures.size > 0);
  stage.show(picture?.unreadable ? null : view, view ? shown()?.box ?? null : null);
  paint();
}

function paint() {
  if (!status) return;
  const { counts, perClass } = countAll(pictures);
  const now = shown();
  const saved = now?.from === 'saved';
  classList.show(status.classes, perClass, saved ? now.label : pending, now && !saved ? now.label ?? lastClass : null);
  filters.show(filter, counts);
  byId('bar').max = Math.max(1, counts.all);
  byId('bar').value = counts.box + counts.none;
  byId('count').textContent = `${counts.box + counts.none} of ${counts.all}`;
  byId('undo').disabled = !book.past.length;
  byId('redo').disabled = !book.future.length;
  showModel(status, counts.box);
  showAgain(counts.again, status, counts.box);
  paintMark();
}

function paintMark() {
  const picture = pictures.get(current);
  const now = shown();
  const guess = now ? now.label ?? lastClass : null;
  showMark(picture, now, guess, drafts.has(current), stage.boxNode, status?.classes.length === 1);
  byId('hint').textContent = hint(picture, now, guess, { classes: status?.classes ?? [], pending });
  byId('take-text').textContent = takeText(picture, now, guess, drafts.has(current));
  byId('take').disabled = !picture || !view || Boolean(picture.unreadable);
}

// -- everything that can be pressed

function added(picture, goThere) {
  if (!pictures.has(picture.id)) ranked.unshift(picture.id);
  pictures.set(picture.id, picture);
  makeList();
  if (goThere || !current) go(picture.id);
}

async function ask(method, address) {
  try {
    status = { ...status, ...(await request(method, address)) };
  } catch (error) {
    toast(error.message);
  }
  paint();
}

const actions = {
  take, none, clear, escape,
  previous: () => step(-1),
  next: () => step(1),
  undo: () => { settle(); turn(book.undoing()); },
  redo: () => turn(book.redoing()),
  zoomIn: () => stage.zoomBy(1.4),
  zoomOut: () => stage.zoomBy(1 / 1.4),
  help: () => byId('help').showModal(),
  findClass: () => classList.focus(),
  classKey: (key) => {
    const name = keysOf(status?.classes ?? []).get(key);
    if (name) choose(name);
    return Boolean(name);
  },
};
listenToKeys(actions, stage);

listenToButtons({
  take, none, clear,
  undo: actions.undo,
  redo: actions.redo,
  previous: actions.previous,
  next: actions.next,
  'zoom-in': actions.zoomIn,
  'zoom-out': actions.zoomOut,
  'zoom-fit': () => stage.fit(),
  'open-help': actions.help,
  'close-help': () => byId('help').close(),
  'add-files': () => intake.choose(),
  'empty-add': () => intake.choose(),
  'open-camera': () => intake.openCamera(),
  'empty-camera': () => intake.openCamera(),
  train: () => ask('POST', '/api/train'),
  cancel: () => ask('DELETE', '/api/train'),
  check: () => ask('POST', '/api/check'),
  'show-again': () => useFilter('again'),
  'toggle-side': () => {
    const open = document.body.classList.toggle('side-open');
    byId('toggle-side').setAttribute('aria-expanded', String(open));
  },
}, stage);
byId('sort').addEventListener('change', () => {
  makeList();
  stage.root.focus();
});
window.addEventListener('beforeunload', (event) => {
  settle();
  if (book.waiting) event.preventDefault();
});

begin();

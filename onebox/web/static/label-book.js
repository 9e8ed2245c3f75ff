// What is said of every picture, on its way to the server: one change after the other, sent again until it is answered,
// with undo and redo. Takes changes, tells what became of them through `told`; shows nothing itself.

import { ApiError, request } from './label-api.js';

const RETRY = 1500; // ms

export function saidOf(picture) {
  return picture.state === 'box'
    ? { state: 'box', label: picture.label, box: picture.box }
    : { state: picture.state };
}

export class Book {
  // told: {changed(id), progressed(), refused(id, message), lost(error), conflict(said, now) -> Promise of "mine"}
  constructor(told) {
    this.told = told;
    this.pictures = new Map(); // id -> picture, as the server has it with our changes laid over
    this.past = [];
    this.future = [];
    this.queue = []; // changes on their way: {id, said, before}
    this.sending = false;
  }

  get waiting() { return this.queue.length > 0; }

  // A picture as the server has it, unless our own change of it is on the way. Whether anything is new.
  learn(picture) {
    const known = this.pictures.get(picture.id);
    if (known && (this.queue.some((item) => item.id === picture.id) || known.revision > picture.revision)) return false;
    this.pictures.set(picture.id, picture);
    return !known || known.revision !== picture.revision;
  }

  // Says something of a picture; it is shown at once and saved as soon as can be.
  say(id, said, remember = true) {
    const picture = this.pictures.get(id);
    const before = saidOf(picture);
    if (JSON.stringify(before) === JSON.stringify(said)) return;
    if (remember) {
      this.past.push({ id, before, after: said });
      this.future = [];
    }
    this.apply(picture, said);
    this.queue.push({ id, said, before });
    this.send();
  }

  // Which picture the undoing (or redoing) is about, null where there is nothing; `act` does it.
  undoing() { return this.turn(this.past, this.future, 'before'); }

  redoing() { return this.turn(this.future, this.past, 'after'); }

  turn(from, to, which) {
    const entry = from.pop();
    if (!entry) return null;
    to.push(entry);
    return { id: entry.id, act: () => this.say(entry.id, entry[which], false) };
  }

  apply(picture, said) {
    delete picture.label;
    delete picture.box;
    delete picture.doubt;
    Object.assign(picture, said);
    this.told.changed(picture.id);
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.waiting) {
      this.told.progressed();
      await this.sendOne(this.queue[0]);
    }
    this.sending = false;
    this.told.progressed();
  }

  async sendOne(item) {
    const picture = this.pictures.get(item.id);
    try {
      const json = { ...item.said, revision: picture.revision };
      const saved = await request('PUT', `/api/pictures/${item.id}`, { json });
      this.queue.shift();
      if (this.queue.some((other) => other.id === item.id)) picture.revision = saved.revision;
      else this.pictures.set(item.id, { ...saved, proposal: saved.proposal ?? picture.proposal });
      this.told.changed(item.id);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 0 || error.status === 401 || error.status >= 500) {
        this.told.lost(error);
        await new Promise((resolve) => { setTimeout(resolve, RETRY); });
        return;
      }
      this.queue = this.queue.filter((other) => other.id !== item.id);
      if (error.status === 409) {
        this.pictures.set(item.id, error.data.now);
        this.past = this.past.filter((entry) => entry.id !== item.id); // it would undo another's work
        this.told.changed(item.id);
        const mine = await this.told.conflict(item.said, error.data.now);
        if (mine) this.say(item.id, item.said);
      } else {
        this.apply(picture, item.before);
        this.past = this.past.filter((entry) => entry.id !== item.id || entry.after !== item.said);
        this.told.refused(item.id, error.message);
      }
    }
  }
}

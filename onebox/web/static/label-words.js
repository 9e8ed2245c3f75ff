// What the page says in words: hints, the state of the picture, notices, short messages. Takes what is known, writes text
// into its place, never markup.

import { needsToken } from './label-api.js';
import { describe, kindOf } from './label-strip.js';

const byId = (id) => document.getElementById(id);

// `now`: the box and class on the stage and where they come from ("saved", "drawn", "proposed"), null for none.
export function hint(picture, now, guess, { classes, pending }) {
  if (!picture) return '';
  if (picture.unreadable) return 'This picture cannot be read; it is left alone.';
  if (picture.doubt) return `Please look again: ${picture.doubt}.`;
  if (pending && !now) return `Now drag a box around the ${pending}.`;
  if (!classes.length) return now ? 'Name its class below.' : 'Drag a box around the object, then name its class.';
  if (!now) return picture.state === 'none' ? 'Nothing to box here.' : 'Drag a box around the object, then press its class.';
  if (now.from === 'saved') return 'Labelled. Drag anew or move an edge to correct it.';
  if (now.from === 'proposed') return 'Proposed by the model. Take it, draw anew, or press another class.';
  return guess ? `Press its class, or take ${guess}.` : 'Press its class.';
}

export function takeText(picture, now, guess, changed) {
  if (picture?.doubt) return 'It is right';
  if (!now) return picture?.state === 'none' ? 'Go on' : 'Start a box';
  if (now.from === 'saved') return changed ? 'Save' : 'Go on';
  return guess ? `Take ${guess}` : 'Take it';
}

// The chip below the picture and the tag at its box. `alone`: there is one class, whose share, always 1, is not told.
export function showMark(picture, now, guess, drawn, boxNode, alone) {
  const kind = !picture ? '' : drawn && picture.state !== 'box' ? 'drawn' : now?.from === 'proposed' ? 'proposed' : kindOf(picture);
  const words = { drawn: 'not saved yet', proposed: 'proposed', again: 'please look again' };
  const mark = byId('mark');
  mark.dataset.kind = kind;
  mark.textContent = picture ? words[kind] ?? describe(picture) : '';
  boxNode.dataset.from = now?.from ?? '';
  byId('tag').textContent = tagText(now, guess, alone);
}

function tagText(now, guess, alone) {
  if (!now) return '';
  if (now.from === 'proposed') return alone ? now.label : `${now.label} ${Math.round(now.score * 100)} %`;
  if (now.from === 'saved') return `✓ ${now.label}`;
  return guess ? `${guess}?` : 'class?';
}

export function showSaved(waiting, any) {
  const node = byId('saved');
  node.textContent = waiting ? 'Saving ...' : any ? 'Saved' : '';
  node.classList.toggle('waiting', waiting);
}

export function showEmpty(picture, any) {
  byId('empty').hidden = Boolean(picture);
  byId('broken').hidden = !picture?.unreadable;
  byId('empty-title').textContent = any ? 'No picture here.' : 'This folder has no pictures yet.';
  byId('empty-text').textContent = any ? 'Choose another filter below.' : 'Drop some here, choose them, or use the camera.';
  byId('empty-add').hidden = byId('empty-camera').hidden = any;
  byId('broken').textContent = picture?.unreadable ? `This picture cannot be read: ${picture.unreadable}.` : '';
  byId('name').textContent = picture?.name ?? '';
}

export function notice(lines, { lost = false, action = null } = {}) {
  const node = byId('notice');
  const texts = lines.length > 4 ? [...lines.slice(0, 4), `and ${lines.length - 4} more`] : lines;
  node.replaceChildren(...texts.map((line) => {
    const item = document.createElement('p');
    item.textContent = line;
    return item;
  }));
  node.hidden = !lines.length;
  node.classList.toggle('lost', lost);
  const press = action ?? (lost ? null : ['Close', () => notice([])]);
  if (!press || !lines.length) return;
  const button = document.createElement('button');
  button.type = 'button';
  [button.textContent] = press;
  button.addEventListener('click', press[1]);
  node.append(button);
}

// The server does not answer; or it is another one than this page came from.
export function showLost(error, waiting) {
  if (error.status === 401 && needsToken) {
    const place = `${window.location.origin}/#TOKEN`;
    const line = `The token is missing or wrong. Open ${place}, with the token that is in the file of --token-file.`;
    notice([line], { lost: true });
  } else if (error.status === 401) {
    const action = ['Reload the page', () => window.location.reload()];
    notice(['onebox label was started anew since this page was opened.'], { lost: true, action });
  } else {
    const start = waiting ? 'Not saved yet' : 'Waiting';
    notice([`${start}: ${error.message}. Is "onebox label" still running? Trying again ...`], { lost: true });
  }
}

export function showFound() {
  if (byId('notice').classList.contains('lost')) notice([]);
}

// Asks which of two changes counts; resolves to whether it is this page's own.
export function askConflict(said, now) {
  const dialog = byId('conflict');
  const text = (one) => (one.state === 'box' ? `"${one.label}"` : one.state === 'none' ? '"no object here"' : 'not labelled');
  byId('conflict-text').textContent = `${now.name} is now ${text(now)}; here it was to be ${text(said)}.`;
  return new Promise((resolve) => {
    const finish = (mine) => {
      dialog.close();
      resolve(mine);
    };
    byId('keep-theirs').onclick = () => finish(false);
    byId('use-mine').onclick = () => finish(true);
    dialog.oncancel = (event) => {
      event.preventDefault();
      finish(false);
    };
    dialog.showModal();
  });
}

let fading = null;
export function toast(text) {
  const node = byId('toast');
  node.textContent = text;
  node.classList.add('on');
  clearTimeout(fading);
  fading = setTimeout(() => node.classList.remove('on'), 3200);
}

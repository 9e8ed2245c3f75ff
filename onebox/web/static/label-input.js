// Keys and buttons. Takes events, calls the one action that each means; a key that means nothing is left to the browser.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ALL = [0, 1, 2, 3];

export function listenToKeys(actions, stage) {
  let held = 0; // repeats of an arrow that is held down: it goes faster
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input, select, textarea');
    if (typing || document.querySelector('dialog[open]') || event.isComposing) return;
    held = event.repeat ? held + 1 : 0;
    if (act(event, actions, stage, held)) event.preventDefault();
  });
  // the picture shows that it has the keys only to who goes by Tab: for others it always has them
  document.addEventListener('keydown', (event) => { if (event.key === 'Tab') document.body.classList.add('by-tab'); }, true);
  document.addEventListener('pointerdown', () => document.body.classList.remove('by-tab'), true);
  document.addEventListener('keyup', (event) => {
    if (event.key === ' ') setSpace(stage, false);
  });
  window.addEventListener('blur', () => setSpace(stage, false));
}

export function listenToButtons(actions, stage) {
  for (const [id, action] of Object.entries(actions)) document.getElementById(id).addEventListener('click', action);
  // after a click the keys belong to the picture again; who came by Tab stays
  document.addEventListener('click', (event) => {
    const byPointer = event.detail > 0 && event.target.closest('button');
    if (byPointer && !document.querySelector('dialog[open]')) stage.root.focus({ preventScroll: true });
  });
}

function act(event, actions, stage, held) {
  const { key } = event;
  const control = event.ctrlKey || event.metaKey;
  if (ARROWS[key]) return arrow(event, ARROWS[key], control, actions, stage, held);
  if (control && key.toLowerCase() === 'z') return done(event.shiftKey ? actions.redo : actions.undo);
  if (control && key.toLowerCase() === 'y') return done(actions.redo);
  if (control || event.altKey) return false;
  // a button that was reached by Tab is pressed by these itself
  const onButton = event.target.closest?.('button');
  if (key === 'Enter') return onButton ? false : done(actions.take);
  if (key === ' ') {
    if (onButton) return false;
    setSpace(stage, true);
    return true;
  }
  const plain = {
    Escape: actions.escape, Delete: actions.clear, Backspace: actions.clear, 0: actions.none, '+': actions.zoomIn,
    '=': actions.zoomIn, '-': actions.zoomOut, '?': actions.help, '/': actions.findClass,
    PageUp: actions.previous, PageDown: actions.next,
  }[key];
  if (plain) return done(plain);
  return key.length === 1 && !event.repeat ? actions.classKey(key.toLowerCase()) : false;
}

function arrow(event, [dx, dy], control, actions, stage, held) {
  const times = held > 24 ? 8 : held > 8 ? 3 : 1;
  let edges = null;
  if (event.shiftKey) edges = ALL;
  else if (event.altKey) edges = [dx ? 2 : 3];
  else if (control) edges = [dx ? 0 : 1];
  if (edges) {
    stage.nudge(dx, dy, edges, times);
    return true;
  }
  return done(dx + dy < 0 ? actions.previous : actions.next);
}

function setSpace(stage, on) {
  stage.spaceHeld = on;
  stage.root.classList.toggle('hand', on);
}

function done(action) {
  action();
  return true;
}

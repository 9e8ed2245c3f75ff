// The side panel: classes, the model and its training, labels to look at again. Takes what is known, shows it, and calls
// back on a choice. All text is set as text, never as markup.

const byId = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(share * 100)} %`;

// What keys mean which class: the first nine by number, and a first letter that only one class has.
export function keysOf(classes) {
  const letters = new Map();
  for (const name of classes) {
    const letter = name[0].toLowerCase();
    letters.set(letter, letters.has(letter) ? null : name);
  }
  const keys = new Map();
  classes.slice(0, 9).forEach((name, at) => keys.set(String(at + 1), name));
  for (const [letter, name] of letters) if (name && /\p{L}/u.test(letter)) keys.set(letter, name);
  return keys;
}

export class ClassList {
  constructor(chosen, added) {
    this.root = byId('classes');
    this.find = byId('find');
    this.chosen = chosen;
    this.shown = '';
    this.root.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) chosen(button.dataset.name);
    });
    this.find.addEventListener('input', () => this.filter());
    this.find.addEventListener('keydown', (event) => {
      const first = [...this.root.children].find((node) => !node.hidden);
      if (event.key === 'Enter' && first) chosen(first.dataset.name);
      if (event.key === 'Enter' || event.key === 'Escape') this.leave();
    });
    byId('new-class').addEventListener('submit', (event) => {
      event.preventDefault();
      const name = byId('new-name').value.trim();
      if (name) added(name);
    });
    byId('new-name').addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.leave();
    });
  }

  leave() {
    this.find.value = byId('new-name').value = '';
    this.filter();
    byId('stage').focus();
  }

  focus() { (this.find.hidden ? byId('new-name') : this.find).focus(); }

  filter() {
    const wanted = this.find.value.trim().toLowerCase();
    for (const node of this.root.children) node.hidden = !node.dataset.name.toLowerCase().includes(wanted);
  }

  // `counts`: labelled pictures per class; `active`: the class of the present picture, if any; `guess`: what Enter takes.
  show(classes, counts, active, guess) {
    if (this.shown !== JSON.stringify(classes)) {
      this.shown = JSON.stringify(classes);
      this.find.hidden = classes.length <= 9;
      this.root.replaceChildren(...classes.map((name, at) => this.row(name, at, keysOf(classes))));
    }
    for (const node of this.root.children) {
      const { name } = node.dataset;
      node.querySelector('.number').textContent = counts.get(name) ?? 0;
      node.setAttribute('aria-pressed', String(name === active));
      node.classList.toggle('guess', name === guess && name !== active);
    }
  }

  row(name, at, keys) {
    const node = document.createElement('button');
    node.type = 'button';
    node.className = 'class';
    node.dataset.name = name;
    const text = document.createElement('span');
    text.className = 'text';
    text.textContent = name;
    const number = document.createElement('span');
    number.className = 'number';
    node.append(text, number);
    const letter = name[0].toLowerCase();
    if (keys.get(letter) === name) node.append(key(letter));
    if (at < 9) node.append(key(String(at + 1)));
    return node;
  }
}

function key(text) {
  const node = document.createElement('kbd');
  node.textContent = text;
  return node;
}

// The model's card. `status` is what /api/progress says; `labelled` how many pictures have a box.
export function showModel(status, labelled) {
  const { training, model } = status;
  const running = training.state === 'running';
  byId('model-text').textContent = modelText(status, labelled);
  byId('training').hidden = !running;
  byId('train').hidden = running;
  byId('cancel').hidden = !running;
  byId('train').disabled = Boolean(status.can_train) || labelled < status.least;
  byId('train').classList.toggle('main', status.worth_training && !byId('train').disabled);
  byId('train').textContent = model || training.state === 'done' ? 'Train again' : 'Train now';
  const error = byId('model-error');
  error.textContent = training.state === 'failed' ? `The training failed: ${training.message}` : model?.error ?? '';
  error.hidden = !error.textContent;
  if (running) showTraining(training);
}

function modelText(status, labelled) {
  const { training, model } = status;
  if (training.state === 'running') {
    const last = training.epochs.at(-1);
    const start = `Learning from ${training.labels} labels, ${clock(training.seconds)}. `;
    if (training.message) return start + training.message;
    if (!last) return `${start}Reading the pictures`;
    const score = last.joint === null || last.joint === undefined ? '' : `: ${percent(last.joint)} named and boxed right`;
    return `${start}Epoch ${last.epoch} of ${last.epochs}${score}`;
  }
  if (status.can_train) return `Training is not possible here: ${status.can_train}`;
  if (model && model.done < model.total && !model.error) return `${model.name} is looking at the pictures: ${model.done} of ${model.total}`;
  const news = status.worth_training && labelled >= status.least ? ' Many new labels: worth another training.' : '';
  if (model && !model.error) {
    const fits = model.judged >= 5 ? ` Of its last ${model.judged} proposals ${model.fitting} fitted.` : '';
    const order = model.ordered ? '; the most useful pictures come first' : '';
    return `${model.name} proposes${order}.${fits}${news}`;
  }
  if (training.state === 'cancelled') return 'The training was cancelled.';
  if (labelled < status.least) return `After ${status.least} labels a model can be trained, which then proposes the rest. ${status.least - labelled} to go.`;
  return `${labelled} labels: enough to train a model, which then proposes the rest.${news}`;
}

function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

function showTraining(training) {
  const rows = training.epochs;
  const last = rows.at(-1);
  const bar = byId('epochs');
  if (last) bar.value = last.epoch / last.epochs;
  else bar.removeAttribute('value');
  // without pictures held out there is no score: the loss then, from where it began down to 0
  const scored = typeof last?.joint === 'number';
  const scores = rows.map((row) => (scored ? row.joint : row.loss / rows[0].loss)).map((value) => Math.min(1, value));
  const curve = byId('curve');
  curve.toggleAttribute('hidden', scores.length < 2);
  curve.replaceChildren();
  if (scores.length < 2) return;
  const x = (at) => 4 + (232 * at) / Math.max(1, last.epochs - 1);
  const y = (score) => 52 - 48 * score;
  const draw = (name, attributes) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key_, value] of Object.entries(attributes)) node.setAttribute(key_, value);
    curve.append(node);
  };
  for (const level of [0, 0.5, 1]) draw('line', { x1: 4, x2: 236, y1: y(level), y2: y(level), class: 'grid' });
  draw('polyline', { points: scores.map((score, at) => `${x(at)},${y(score)}`).join(' '), class: 'score' });
  draw('circle', { cx: x(scores.length - 1), cy: y(scores.at(-1)), r: 3, class: 'dot' });
  const name = document.createElementNS('http://www.w3.org/2000/svg', 'text');
  name.setAttribute('x', 236);
  name.setAttribute('y', scored ? 50 : 13);
  name.textContent = scored ? 'named and boxed right' : 'loss';
  curve.append(name);
  const what = scored ? 'Named and boxed right after each epoch' : 'Loss after each epoch, of the first';
  curve.setAttribute('aria-label', `${what}, now ${percent(scores.at(-1))}`);
}

export function showAgain(count, { checking, check_error: error }, labelled) {
  const text = count === 1 ? '1 label looks odd.' : `${count} labels look odd.`;
  byId('again-text').textContent = checking ? 'Going through the labels; with a model this takes some minutes ...'
    : error ? `The check failed: ${error}` : count ? text : 'Nothing odd is known.';
  byId('check').disabled = checking || !labelled;
  byId('show-again').hidden = !count;
}

// The picture and its one box: drawing, handles, nudging, zoom and pan, by mouse, touch and pen. Takes a view and a box
// in pixels of the upright picture, gives changed boxes back through `changed(box, finished)`. Knows no labels, saves
// nothing.

const CLICK = 4; // screen pixels: less is no drag
const SMALLEST = 2; // picture pixels
const MOST = 40; // times the size at which the whole picture fits

export class Stage {
  constructor(root, changed) {
    this.root = root;
    this.changed = changed;
    this.photo = root.querySelector('#photo');
    this.boxNode = root.querySelector('#box');
    this.crossX = root.querySelector('#cross-x');
    this.crossY = root.querySelector('#cross-y');
    this.scaleNode = root.querySelector('#scale');
    this.view = null;
    this.box = null;
    this.zoom = 1; // 1: the whole picture fits
    this.centre = [0, 0]; // the picture's point in the middle of the stage
    this.pointers = new Map();
    this.drag = null;
    this.spaceHeld = false;
    this.listen();
    new ResizeObserver(() => this.paint()).observe(root);
  }

  show(view, box) {
    const other = this.view !== view;
    this.view = view;
    this.box = box;
    this.drag = null;
    if (other) {
      this.photo.hidden = !view;
      if (view) {
        this.photo.src = view.url;
        this.photo.style.width = `${view.width}px`;
        this.photo.style.height = `${view.height}px`;
      } else this.photo.removeAttribute('src');
      this.fit();
    } else this.paint();
  }

  setBox(box) {
    this.box = box;
    this.paint();
  }

  fit() {
    this.zoom = 1;
    if (this.view) this.centre = [this.view.width / 2, this.view.height / 2];
    this.paint();
  }

  get zoomed() { return this.zoom > 1.001; }

  zoomBy(factor, at) {
    if (!this.view) return;
    const point = at ?? [this.root.clientWidth / 2, this.root.clientHeight / 2];
    const before = this.toPicture(point);
    this.zoom = Math.min(MOST, Math.max(1, this.zoom * factor));
    const after = this.toPicture(point);
    this.centre = [this.centre[0] + before[0] - after[0], this.centre[1] + before[1] - after[1]];
    this.paint();
  }

  panBy(dx, dy) {
    const scale = this.scale();
    this.centre = [this.centre[0] - dx / scale, this.centre[1] - dy / scale];
    this.paint();
  }

  // A box in the middle, for hands that have no mouse.
  start() {
    const { width, height } = this.view;
    this.change([width * 0.25, height * 0.25, width * 0.75, height * 0.75], true);
  }

  // `edges`: which of left, top, right, bottom move along.
  nudge(dx, dy, edges, times = 1) {
    if (!this.box || !this.view) return false;
    const step = Math.max(1, Math.round(1 / this.scale())) * times;
    const moved = [...this.box];
    for (const edge of edges) moved[edge] += (edge % 2 ? dy : dx) * step;
    this.change(edges.length === 4 ? this.kept(moved) : this.ordered(moved, edges), true);
    return true;
  }

  scale() {
    if (!this.view) return 1;
    const margin = Math.min(24, this.root.clientWidth * 0.03);
    const fit = Math.min(
      (this.root.clientWidth - 2 * margin) / this.view.width,
      (this.root.clientHeight - 2 * margin - 44) / this.view.height,
    );
    return Math.max(fit, 1e-6) * this.zoom;
  }

  offset() {
    const scale = this.scale();
    return [
      this.root.clientWidth / 2 - this.centre[0] * scale,
      (this.root.clientHeight - 36) / 2 - this.centre[1] * scale,
    ];
  }

  toPicture([x, y]) {
    const scale = this.scale();
    const [left, top] = this.offset();
    return [(x - left) / scale, (y - top) / scale];
  }

  // -- what is seen

  paint() {
    if (!this.view) {
      this.boxNode.hidden = true;
      return;
    }
    if (!this.zoomed) this.centre = [this.view.width / 2, this.view.height / 2];
    else {
      this.centre[0] = Math.min(this.view.width, Math.max(0, this.centre[0]));
      this.centre[1] = Math.min(this.view.height, Math.max(0, this.centre[1]));
    }
    const scale = this.scale();
    const [left, top] = this.offset();
    this.photo.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    this.photo.classList.toggle('grain', scale > 6);
    this.scaleNode.textContent = `${Math.round(scale * 100)} %`;
    this.boxNode.hidden = !this.box;
    if (!this.box) return;
    const [x0, y0, x1, y1] = this.box;
    const style = this.boxNode.style;
    const [width, height] = [(x1 - x0) * scale, (y1 - y0) * scale];
    style.transform = `translate(${left + x0 * scale}px, ${top + y0 * scale}px)`;
    style.width = `${width}px`;
    style.height = `${height}px`;
    this.boxNode.classList.toggle('tiny', Math.min(width, height) < 56);
    this.boxNode.classList.toggle('tag-inside', top + y0 * scale < 30);
    this.boxNode.classList.toggle('tag-left', left + x0 * scale > this.root.clientWidth - 130);
  }

  // -- pointers

  listen() {
    const root = this.root;
    root.addEventListener('pointerdown', (event) => this.down(event));
    root.addEventListener('pointermove', (event) => this.move(event));
    root.addEventListener('pointerup', (event) => this.up(event));
    root.addEventListener('pointercancel', (event) => this.up(event, true));
    root.addEventListener('pointerleave', () => this.cross(null));
    root.addEventListener('contextmenu', (event) => event.preventDefault());
    // the browser must not take a stroke for a fling: Chromium swallows the tap that comes while it believes in one
    root.addEventListener('touchstart', (event) => {
      if (this.view && !event.target.closest('button')) event.preventDefault();
    }, { passive: false });
    root.addEventListener('wheel', (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
      this.zoomBy(Math.exp(-Math.max(-120, Math.min(120, pixels)) * (event.ctrlKey ? 0.01 : 0.002)), this.at(event));
    }, { passive: false });
  }

  at(event) {
    const place = this.root.getBoundingClientRect();
    return [event.clientX - place.left, event.clientY - place.top];
  }

  down(event) {
    if (!this.view || event.target.closest('button')) return;
    this.root.focus({ preventScroll: true });
    const point = this.at(event);
    this.pointers.set(event.pointerId, point);
    try {
      this.root.setPointerCapture(event.pointerId);
    } catch { /* a pointer that is gone already */ }
    event.preventDefault();
    if (this.pointers.size === 2) {
      if (this.drag?.before !== undefined) this.restore();
      this.drag = { kind: 'pinch', ...this.spread() };
    } else if (event.button === 1 || event.button === 2 || this.spaceHeld) {
      this.drag = { kind: 'pan', last: point };
      this.root.classList.add('panning');
    } else if (event.button === 0) {
      const part = event.target.dataset?.part;
      const kind = part === 'move' ? 'move' : part ? 'resize' : 'draw';
      this.drag = { kind, part, from: point, start: this.toPicture(point), before: this.box, moved: false };
    }
  }

  move(event) {
    const point = this.at(event);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, point);
    const drag = this.drag;
    if (!drag) {
      if (event.pointerType === 'mouse') this.cross(event.target.closest('button') ? null : point);
      return;
    }
    if (drag.kind === 'pinch') return this.pinch();
    if (drag.kind === 'pan') {
      this.panBy(point[0] - drag.last[0], point[1] - drag.last[1]);
      drag.last = point;
      return undefined;
    }
    this.cross(drag.kind === 'draw' && event.pointerType === 'mouse' ? point : null);
    if (!drag.moved && Math.hypot(point[0] - drag.from[0], point[1] - drag.from[1]) < CLICK) return undefined;
    drag.moved = true;
    this.follow(drag, this.toPicture(point));
    return undefined;
  }

  up(event, cancelled = false) {
    this.pointers.delete(event.pointerId);
    this.root.classList.remove('panning');
    const drag = this.drag;
    if (!drag) return;
    if (drag.kind === 'pinch') {
      if (this.pointers.size === 0) this.drag = null;
      return;
    }
    this.drag = null;
    if (!drag.moved) return;
    if (cancelled || !this.large()) {
      this.box = drag.before;
      this.paint();
      this.changed(this.box, false);
    } else this.change(this.box, true);
  }

  follow(drag, [x, y]) {
    let box;
    if (drag.kind === 'draw') box = this.ordered([drag.start[0], drag.start[1], x, y]);
    else {
      const [dx, dy] = [x - drag.start[0], y - drag.start[1]];
      box = [...drag.before];
      if (drag.kind === 'move') box = this.kept([box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy]);
      else {
        if (drag.part.includes('w')) box[0] += dx;
        if (drag.part.includes('e')) box[2] += dx;
        if (drag.part.includes('n')) box[1] += dy;
        if (drag.part.includes('s')) box[3] += dy;
        box = this.ordered(box);
      }
    }
    this.change(box, false);
  }

  // Two fingers zoom about their middle and move the picture with it.
  pinch() {
    if (this.pointers.size < 2) return;
    const now = this.spread();
    this.panBy(now.middle[0] - this.drag.middle[0], now.middle[1] - this.drag.middle[1]);
    this.zoomBy(now.distance / this.drag.distance, now.middle);
    this.drag = { kind: 'pinch', ...now };
  }

  spread() {
    const [a, b] = [...this.pointers.values()];
    return {
      middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2],
      distance: Math.max(8, Math.hypot(a[0] - b[0], a[1] - b[1])),
    };
  }

  restore() {
    this.box = this.drag.before;
    this.paint();
    this.changed(this.box, false);
  }

  cross(point) {
    const inside = point && this.view && this.within(this.toPicture(point));
    this.crossX.hidden = this.crossY.hidden = !inside;
    if (!inside) return;
    this.crossX.style.transform = `translateY(${Math.round(point[1])}px)`;
    this.crossY.style.transform = `translateX(${Math.round(point[0])}px)`;
  }

  // -- boxes

  change(box, finished) {
    this.box = box;
    this.paint();
    this.changed(box, finished);
  }

  large() { return this.box && this.box[2] - this.box[0] >= SMALLEST && this.box[3] - this.box[1] >= SMALLEST; }

  within([x, y]) { return x >= 0 && y >= 0 && x <= this.view.width && y <= this.view.height; }

  // The corners in order and inside the picture; `edges` that were pushed through their opposite stop there.
  ordered(box, edges) {
    const { width, height } = this.view;
    const clip = (value, most) => Math.min(most, Math.max(0, value));
    let [x0, y0, x1, y1] = [clip(box[0], width), clip(box[1], height), clip(box[2], width), clip(box[3], height)];
    if (edges) {
      if (edges.includes(0)) x0 = Math.min(x0, x1 - SMALLEST);
      if (edges.includes(2)) x1 = Math.max(x1, x0 + SMALLEST);
      if (edges.includes(1)) y0 = Math.min(y0, y1 - SMALLEST);
      if (edges.includes(3)) y1 = Math.max(y1, y0 + SMALLEST);
    }
    return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  }

  // The box moved back inside, its size kept.
  kept(box) {
    const { width, height } = this.view;
    const dx = Math.max(0, -box[0]) - Math.max(0, box[2] - width);
    const dy = Math.max(0, -box[1]) - Math.max(0, box[3] - height);
    return [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy];
  }
}

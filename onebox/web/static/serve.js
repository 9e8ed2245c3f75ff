// The page of `onebox serve`: pictures come in by dropping, pasting, picking or filming, and each is shown with its
// answer. Talks to its own server only; keeps pictures in memory until they are removed or the page is left.
import { Camera } from "./camera.js";
import { describe, drawAnswer, drawThumbnail } from "./canvas.js";
import { Panel } from "./panel.js";
import { fetchJson } from "./token.js";

const AT_ONCE = 2; // requests in flight
const TRIES = 6; // where the server is busy
const MOST = 200; // pictures kept

const $ = (id) => document.getElementById(id);
const panel = new Panel();
const camera = new Camera();
const entries = [];
const waiting = [];
let current = null;
let model = null;
let running = 0;
let shots = 0;

// ---- pictures in ----

function add(files) {
  say("");
  const list = [...files].slice(0, MOST - entries.length);
  if (list.length < files.length) say(`Only ${MOST} pictures are kept at a time. Remove some first.`);
  const fresh = list.map((file) => newEntry(file));
  entries.push(...fresh);
  if (!fresh.length) return;
  if (camera.on) stopCamera();
  select(fresh[0]);
  for (const entry of fresh) enqueue(entry);
}

function newEntry(file, picture = null) {
  return { file, name: file.name || "picture", picture, answer: null, error: "", asked: null };
}

function enqueue(entry) {
  waiting.push(entry);
  pump();
}

function pump() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    look(waiting.shift()).finally(() => {
      running -= 1;
      pump();
    });
  }
}

async function look(entry) {
  entry.error = "";
  entry.picture ??= await createImageBitmap(entry.file).catch(() => null);
  redraw(entry);
  try {
    const limit = model?.limits.request_bytes ?? Infinity;
    if (entry.file.size + 1000 > limit) throw new Error(`This file is larger than the ${Math.round(limit / 2 ** 20)} MiB allowed.`);
    // what the browser cannot show, the server draws
    const answer = await ask(entry.file, entry.name, entry.picture === null);
    if (entry.picture === null && answer.drawn) {
      const image = Object.assign(new Image(), { src: answer.drawn });
      entry.picture = await image.decode().then(() => createImageBitmap(image)).catch(() => null);
      entry.drawn = true;
    }
    entry.answer = answer;
  } catch (error) {
    entry.answer = null;
    entry.error = error.answer?.predictions?.[0]?.error?.what ?? error.message;
  }
  entry.asked = share();
  redraw(entry);
}

/** One picture's answer. A busy server is asked again, a little later each time. */
async function ask(file, name, draw = false) {
  const query = new URLSearchParams();
  if (share()) query.set("coverage", share());
  if (draw) query.set("draw", "1");
  for (let tries = 1; ; tries += 1) {
    const body = new FormData();
    body.append("file", file, name);
    try {
      const answer = await fetchJson(`/v1/predict?${query}`, { method: "POST", body });
      return answer.predictions[0];
    } catch (error) {
      if (error.status !== 503 || tries >= TRIES) throw error;
      await new Promise((done) => setTimeout(done, 1000 * Math.max(error.retry, 1) * tries * (0.5 + Math.random() / 2)));
    }
  }
}

// ---- what is shown ----

function select(entry) {
  current = entry;
  showState();
  if (entry) redraw(entry);
  strip();
}

function redraw(entry) {
  if (entry === current && !camera.on) {
    show(entry);
    panel.show(entry);
  }
  mark(entry);
}

function show(entry) {
  const { picture, answer } = entry;
  $("canvas").hidden = !picture;
  $("unseen").hidden = Boolean(picture);
  $("unseen").textContent = entry.error ? "This file cannot be shown." : "Opening …";
  $("save").disabled = !picture || !answer;
  if (!picture) return;
  const size = answer && !entry.drawn ? answer.image_size : [picture.width, picture.height];
  const shown = entry.drawn ? null : answer; // the server has drawn the box into it
  drawAnswer($("canvas"), picture, size[0], size[1], shown, room());
  $("canvas").setAttribute("aria-label", answer ? `${entry.name}: ${describe(answer)}` : entry.name);
}

function room() {
  const screen = $("screen");
  const narrow = window.innerWidth <= 640;
  return { width: screen.clientWidth, height: Math.max(220, window.innerHeight * (narrow ? 0.5 : 0.66)) };
}

function showState() {
  const work = current !== null || camera.on;
  $("empty").hidden = work;
  $("work").hidden = !work;
  $("film").hidden = camera.on;
  $("snap").hidden = $("stop").hidden = !camera.on;
  $("save").hidden = $("remove").hidden = camera.on;
}

function strip() {
  $("strip").replaceChildren(...entries.map((entry) => {
    const item = document.createElement("li");
    entry.button ??= thumbnail(entry);
    entry.button.setAttribute("aria-current", String(entry === current));
    item.append(entry.button);
    mark(entry);
    return item;
  }));
  $("strip").hidden = entries.length < 2;
  current?.button?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function thumbnail(entry) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("canvas"), Object.assign(document.createElement("span"), { className: "mark" }));
  button.addEventListener("click", () => {
    if (camera.on) stopCamera();
    select(entry);
  });
  return button;
}

function mark(entry) {
  if (!entry.button) return;
  const [canvas, sign] = entry.button.children;
  if (entry.picture && !entry.small) {
    drawThumbnail(canvas, entry.picture, entry.picture.width, entry.picture.height);
    entry.small = true;
  }
  const busy = !entry.answer && !entry.error;
  sign.hidden = Boolean(entry.answer);
  sign.className = `mark ${busy ? "busy" : ""}`;
  sign.textContent = busy ? "…" : "!";
  const state = entry.answer ? entry.answer.label : busy ? "waiting" : "no answer";
  entry.button.setAttribute("aria-label", `${entry.name}: ${state}`);
}

function step(by) {
  if (!current || camera.on) return;
  const next = entries[entries.indexOf(current) + by];
  if (!next) return;
  const focused = document.activeElement === current.button;
  select(next);
  if (focused) next.button.focus();
}

function remove() {
  if (!current || camera.on) return;
  const at = entries.indexOf(current);
  const focused = document.activeElement === current.button;
  current.picture?.close();
  entries.splice(at, 1);
  const queued = waiting.indexOf(current);
  if (queued >= 0) waiting.splice(queued, 1);
  select(entries[at] ?? entries[at - 1] ?? null);
  if (focused) current?.button.focus();
}

function say(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text;
}

// ---- camera ----

async function startCamera() {
  say("");
  try {
    await camera.start();
  } catch (error) {
    say(error.message);
    return;
  }
  showState();
  $("snap").focus();
  film();
}

// One frame after the other, as fast as answers come.
async function film() {
  while (camera.on) {
    const shot = await camera.frame("camera.jpg");
    const entry = newEntry(shot.file, shot.picture);
    try {
      entry.answer = await ask(shot.file, "camera.jpg");
    } catch (error) {
      entry.error = error.message;
    }
    if (!camera.on) break;
    show(entry);
    $("canvas").hidden = false;
    panel.show({ ...entry, name: "Camera" });
    shot.picture.close();
    await new Promise((done) => setTimeout(done, entry.error ? 1000 : 60));
  }
}

async function snap() {
  shots += 1;
  const shot = await camera.frame(`photo-${shots}.jpg`);
  stopCamera();
  const entry = newEntry(shot.file, shot.picture);
  entries.push(entry);
  select(entry);
  enqueue(entry);
}

function stopCamera() {
  camera.stop();
  select(current);
}

// ---- the rest ----

function share() {
  return $("coverage").hidden ? "" : $("share").value;
}

function save() {
  $("canvas").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${current.name.replace(/\.[^.]*$/, "")}-box.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

async function meetModel() {
  try {
    model = await fetchJson("/v1/model");
  } catch (error) {
    say(error.message);
    return;
  }
  const names = model.class_names;
  document.title = `${model.name} · onebox`;
  $("model").textContent = `${model.name} · ${names.length} ${names.length === 1 ? "class" : "classes"}`;
  const some = names.slice(0, 12).join(", ") + (names.length > 12 ? ` and ${names.length - 12} more` : "");
  $("known").textContent = `It knows: ${some}`;
  $("known").hidden = false;
  $("coverage").hidden = !("scores" in model.calibration);
}

function listen() {
  for (const button of document.querySelectorAll("[data-pick]")) button.addEventListener("click", () => $("files").click());
  for (const button of document.querySelectorAll("[data-film]")) button.addEventListener("click", startCamera);
  $("files").addEventListener("change", () => {
    add($("files").files);
    $("files").value = "";
  });
  $("snap").addEventListener("click", snap);
  $("stop").addEventListener("click", stopCamera);
  $("save").addEventListener("click", save);
  $("remove").addEventListener("click", remove);
  $("share").addEventListener("change", () => { for (const entry of entries) if (!waiting.includes(entry)) enqueue(entry); });
  window.addEventListener("resize", () => { if (current && !camera.on) show(current); });
  window.addEventListener("pagehide", () => camera.stop());
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) add(event.clipboardData.files);
  });
  listenToDrops();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, dialog")) return;
    const action = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Delete: remove, Backspace: remove, Escape: () => camera.on && stopCamera() }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function listenToDrops() {
  let depth = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files");
  const over = (shown) => { $("over").hidden = !shown; };
  document.addEventListener("dragenter", (event) => { if (files(event)) { depth += 1; over(true); } });
  document.addEventListener("dragleave", (event) => { if (files(event)) { depth -= 1; over(depth > 0); } });
  document.addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    over(false);
    add(event.dataTransfer.files);
  });
}

listen();
meetModel();

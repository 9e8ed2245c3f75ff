// Draws a picture with its boxes. Takes an ImageBitmap (or video) and an answer of /v1/predict; text is drawn, never parsed.
const FOUND = "#ff9f1c";
const PROMISED = "#ffd9a0";
const RIM = "#101216";
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/** Fits `picture` (`width` x `height`) into `most` CSS pixels and draws it on `canvas`, with what `answer` says. */
export function drawAnswer(canvas, picture, width, height, answer, most) {
  const scale = Math.min(most.width / width, most.height / height, 4);
  const shown = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  canvas.width = shown.width * ratio;
  canvas.height = shown.height * ratio;
  canvas.style.width = `${shown.width}px`;
  canvas.style.height = `${shown.height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, shown.width, shown.height);
  if (answer) drawBoxes(pen, shown, width, height, answer);
}

/** A small square of the middle of the picture. */
export function drawThumbnail(canvas, picture, width, height) {
  const side = Math.min(width, height);
  canvas.width = canvas.height = 168;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, (width - side) / 2, (height - side) / 2, side, side, 0, 0, 168, 168);
}

/** In words, for those who do not see the canvas. */
export function describe(answer) {
  if (!answer?.box) return "";
  const [left, top, right, bottom] = answer.box.map(Math.round);
  return `${answer.label}, in the box from ${left}, ${top} to ${right}, ${bottom} pixels`;
}

/** Does the model know one class alone? Its share is always 1 then, which would read as if the box were sure. */
export function oneClass(answer) {
  return Object.keys(answer.probabilities).length === 1;
}

function drawBoxes(pen, shown, width, height, answer) {
  const place = ([left, top, right, bottom]) => {
    const x = (left / width) * shown.width;
    const y = (top / height) * shown.height;
    return { x, y, w: (right / width) * shown.width - x, h: (bottom / height) * shown.height - y };
  };
  const faint = answer.present === false;
  if (answer.outer_box) frame(pen, place(answer.outer_box), PROMISED, [7, 5], 2);
  const box = place(answer.box);
  pen.globalAlpha = faint ? 0.6 : 1;
  frame(pen, box, FOUND, faint ? [2, 6] : [], 3);
  const share = oneClass(answer) ? "" : ` ${Math.round(answer.score * 100)} %`;
  tag(pen, box, shown, answer.label + share);
  pen.globalAlpha = 1;
}

function frame(pen, { x, y, w, h }, colour, dashes, line) {
  pen.lineJoin = "round";
  pen.setLineDash([]);
  pen.strokeStyle = RIM;
  pen.lineWidth = line + 2.5;
  pen.globalAlpha *= 0.55;
  pen.strokeRect(x, y, w, h);
  pen.globalAlpha /= 0.55;
  pen.setLineDash(dashes);
  pen.strokeStyle = colour;
  pen.lineWidth = line;
  pen.strokeRect(x, y, w, h);
  pen.setLineDash([]);
}

function tag(pen, box, shown, text) {
  const size = shown.width < 360 ? 13 : 15;
  pen.font = `650 ${size}px ${FONT}`;
  const high = size + 11;
  const words = shorten(pen, text, shown.width - 16);
  const wide = pen.measureText(words).width + 16;
  const x = Math.max(0, Math.min(box.x - 1.5, shown.width - wide));
  const y = box.y - high >= 0 ? box.y - high : Math.min(box.y, shown.height - high);
  pen.fillStyle = FOUND;
  pen.fillRect(x, y, wide, high);
  pen.fillStyle = RIM;
  pen.textBaseline = "middle";
  pen.fillText(words, x + 8, y + high / 2 + 0.5);
}

function shorten(pen, text, most) {
  if (pen.measureText(text).width <= most) return text;
  const letters = Array.from(text);
  while (letters.length > 1 && pen.measureText(letters.join("") + "…").width > most) letters.pop();
  return letters.join("") + "…";
}

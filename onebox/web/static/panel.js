// The answer beside the picture: label, bars, presence, facts. Takes answers of /v1/predict; everything is set as text.
import { oneClass } from "./canvas.js";
import { sentence } from "./token.js";

const SHOWN = 6;
const $ = (id) => document.getElementById(id);

export class Panel {
  constructor() {
    this.all = false;
    this.entry = null;
    $("more").addEventListener("click", () => {
      this.all = !this.all;
      this.#bars(this.entry.answer);
    });
    $("copy").addEventListener("click", () => this.#copy());
  }

  /** `entry`: a picture's name, and its answer, its error, or neither as yet. */
  show(entry) {
    if (this.entry !== entry) this.all = false;
    this.entry = entry;
    const { answer, error } = entry;
    $("file").textContent = entry.name;
    $("file").title = entry.name;
    document.querySelector(".answer").classList.toggle("waiting", !answer && !error);
    $("label").textContent = answer ? answer.label : error ? "No answer" : "Looking …";
    $("score").textContent = answer && !oneClass(answer) ? `${percent(answer.score)} sure` : "";
    $("error").hidden = !error;
    $("error").textContent = error ? sentence(error) : "";
    $("details").hidden = !answer;
    this.#presence(answer);
    if (answer) {
      this.#bars(answer);
      this.#facts(answer);
    }
  }

  #presence(answer) {
    const known = typeof answer?.presence === "number";
    $("presence").hidden = !known;
    if (!known) return;
    const present = answer.present !== false;
    $("presence").className = `presence ${present ? "present" : "absent"}`;
    $("presence").textContent = present
      ? `One of its objects is there: ${percent(answer.presence)} sure`
      : `Probably none of its objects: ${percent(answer.presence)} that one is there`;
  }

  #bars(answer) {
    const ordered = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
    const few = this.all ? ordered : ordered.slice(0, SHOWN);
    const inside = answer.class_set ? new Set(answer.class_set) : null;
    $("bars").replaceChildren(...few.map(([name, share]) => {
      const item = document.createElement("li");
      item.classList.toggle("best", name === answer.label);
      item.classList.toggle("out", inside !== null && !inside.has(name));
      const fill = document.createElement("i");
      fill.style.width = `${100 * share}%`;
      item.append(part("span", "name", name), part("span", "share", percent(share)), part("div", "bar", ""));
      item.lastChild.append(fill);
      item.lastChild.setAttribute("aria-hidden", "true");
      return item;
    }));
    $("bars").hidden = oneClass(answer);
    $("bars").tabIndex = this.all ? 0 : -1; // what scrolls must be reached by keyboard
    $("more").hidden = ordered.length <= SHOWN;
    $("more").textContent = this.all ? "Show fewer" : `Show all ${ordered.length} classes`;
  }

  #facts(answer) {
    const rows = [["Picture", answer.image_size.join(" × ") + " px"], ["Box", corners(answer.box)]];
    if (answer.edge_sigmas?.every((sigma) => sigma !== null)) {
      rows.push(["Edges", answer.edge_sigmas.map((sigma) => `±${sigma.toFixed(1)}`).join("  ") + " px"]);
    }
    if (answer.outer_box) rows.push(["Safe box", corners(answer.outer_box)]);
    if (answer.class_set) rows.push(["Classes", answer.class_set.join(", ")]);
    $("facts").replaceChildren(...rows.flatMap(([term, text]) => [part("dt", "", term), part("dd", "", text)]));
  }

  async #copy() {
    const { drawn, ...answer } = this.entry.answer;
    try {
      await navigator.clipboard.writeText(JSON.stringify(answer, null, 2));
      $("copy").textContent = "Copied";
    } catch {
      $("copy").textContent = "The browser did not allow it";
    }
    setTimeout(() => { $("copy").textContent = "Copy as JSON"; }, 1500);
  }
}

function part(kind, name, text) {
  const element = document.createElement(kind);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

function corners(box) {
  const [left, top, right, bottom] = box.map((v) => Math.round(v));
  return `${left}, ${top} – ${right}, ${bottom}`;
}

function percent(share) {
  const value = 100 * share;
  if (value > 99.9 && value < 100) return "> 99.9 %";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

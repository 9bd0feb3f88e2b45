/** Why a pixel has its class: the memory patches that voted for it. */

/** @import {ExplainAnswer, Neighbor} from "./types.js" */
import { explain } from "./api.js";
import { showImage } from "./image_dialog.js";
import { picture } from "./pictures.js";
import { counted, make, need, percent } from "./dom.js";
import { swatch } from "./legend.js";
import { columnOf } from "./palettes.js";
import { on, state } from "./state.js";
import { attempt } from "./status.js";
import { main } from "./viewer.js";

/** How many votes are shown at first: they have nearly all the weight. */
const FIRST = 6;
/** Where the panels lie below the photo. */
const NARROW = matchMedia("(max-width: 60rem)");

let asking = new AbortController();

/**
 * @param {number} row
 * @param {number} col
 */
export function askWhy(row, col) {
  const { photo } = state;
  if (!photo?.mask) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  void attempt(async () => {
    const answer = await explain(photo.id, row, col, signal);
    if (photo === state.photo) draw(answer);
  });
}

/** @param {ExplainAnswer} answer */
function draw(answer) {
  main.mark(answer.patch);
  const { name, confidence } = answer.class;
  const column = columnOf(name);
  const heading = make("p", { className: "verdict" }, swatch(column), make("strong", {}, name), ` with confidence ${percent(confidence)}`);
  const total = answer.neighbors.length;
  const sentence = make("p", {}, `The ${counted(total, "patch")} of the memory that look most alike. Each votes with its weight.`);
  const list = make("ol", { className: "votes" }, ...answer.neighbors.slice(0, FIRST).map(vote));
  /** @type {HTMLElement[]} */
  const parts = [heading, sentence, list];
  if (total > FIRST) {
    const more = make("button", { type: "button" }, `Show the other ${total - FIRST}`);
    more.addEventListener("click", () => {
      list.append(...answer.neighbors.slice(FIRST).map(vote));
      more.remove();
      list.querySelectorAll("button")[FIRST].focus();
    });
    parts.push(more);
  }
  const why = need("why", HTMLElement);
  why.replaceChildren(...parts);
  if (NARROW.matches) why.parentElement?.scrollIntoView({ block: "start" });
}

/** @param {Neighbor} neighbor */
function vote(neighbor) {
  const [name = "nothing", share = 0] = Object.entries(neighbor.classes).sort((one, other) => other[1] - one[1])[0] ?? [];
  const bar = make("meter", { value: neighbor.weight, max: 1, "aria-hidden": "true" });
  const button = make(
    "button", { type: "button", className: "vote" },
    picture(neighbor.number, "", neighbor.box, true),
    make("span", { className: "vote-text" },
      make("span", { className: "vote-class" }, swatch(columnOf(name)), share < 0.995 ? `${name} ${percent(share)}` : name),
      make("small", {}, `weight ${percent(neighbor.weight)} · similarity ${neighbor.similarity.toFixed(2)}`),
      bar),
    make("span", { className: "aside" }, `Show the memory image ${neighbor.image}`),
  );
  button.addEventListener("click", () => showImage(neighbor.number, neighbor.box));
  return make("li", {}, button);
}

export function showExplanations() {
  const why = need("why", HTMLElement);
  const hint = [...why.childNodes];
  on(["photo", "mask"], () => {
    main.mark(null);
    why.replaceChildren(...hint);
  });
}

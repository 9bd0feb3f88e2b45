/** What is shown: the photo with its mask, beside it the truth, and the sliders over both. */

import { make, need, percent } from "./dom.js";
import { columnAt } from "./masks.js";
import { lookOf } from "./palettes.js";
import { close, show } from "./photos.js";
import { Stage } from "./stage.js";
import { on, state, tell } from "./state.js";
import { around } from "./strokes.js";

/** @import {Photo, Rect} from "./types.js" */

export const main = new Stage(need("stage", HTMLElement));
const truth = new Stage(need("truth-stage", HTMLElement));
main.moved = () => {
  if (state.photo?.truth) truth.follow(main);
};

function showPhoto() {
  const { photo } = state;
  fresh = null; // a rectangle of the photo before
  need("welcome", HTMLElement).hidden = photo !== null;
  need("bench", HTMLElement).hidden = photo === null;
  document.body.classList.toggle("working", photo !== null);
  const beside = need("truth-side", HTMLElement);
  beside.hidden = !photo?.truth;
  if (!photo?.width) return;
  main.setPhoto(photo.bitmap, photo.width, photo.height);
  main.root.setAttribute("aria-label", `${photo.name} with its mask. Arrow keys move a cross, Enter asks or paints.`);
  if (photo.truth) {
    truth.setPhoto(photo.bitmap, photo.width, photo.height);
    truth.layer?.setMask(photo.truth);
  }
  main.layer?.setPaint(photo.paint);
}

function showMask() {
  const { photo } = state;
  if (photo?.mask) main.layer?.setMask(photo.mask);
  main.layer?.setChanged(null);
  draw();
}

/** @param {number} flash */
function draw(flash = 0) {
  const { photo } = state;
  if (!photo) return;
  main.layer?.draw(lookOf(photo, flash));
  if (photo.truth) truth.layer?.draw({ ...lookOf(null), threshold: 0 });
}

/** @param {Rect} [rect] what was painted; all of it where not told */
export function drawPaint(rect) {
  const { photo } = state;
  if (!rect || !photo?.paint) main.layer?.setPaint(photo?.paint ?? null);
  main.layer?.draw(lookOf(photo), photo?.paint ? rect : undefined);
}

/** @type {Rect | null} painted since the last picture on the screen */
let fresh = null;

/**
 * Draws what was painted with the next picture: a hand gives more places than a screen shows.
 * @param {Rect} rect
 */
export function drawPaintSoon(rect) {
  if (fresh === null) {
    requestAnimationFrame(() => {
      if (fresh) drawPaint(fresh);
      fresh = null;
    });
  }
  fresh = around(fresh, rect);
}

const CALM = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Flashes the pixels that changed; where motion is unwelcome they stay lit for a moment.
 * @param {Uint8Array} changed
 */
export function flash(changed) {
  const { layer } = main;
  if (!layer) return;
  layer.setChanged(changed);
  const start = performance.now();
  const step = () => {
    const time = performance.now() - start;
    const over = time > 1500;
    // two slow waves: well below three flashes a second (WCAG 2.3.1)
    draw(over ? 0 : CALM.matches ? 0.8 : Math.sin((Math.PI * time) / 750) ** 2);
    if (layer === main.layer && !over) requestAnimationFrame(step);
    else layer.setChanged(null);
  };
  requestAnimationFrame(step);
}

/**
 * Says what is at a pixel.
 * @param {{row: number, col: number} | null} at
 */
export function readOut(at) {
  const line = need("readout", HTMLElement);
  const { photo } = state;
  if (!at || !photo?.mask) {
    line.textContent = photo?.mask ? "Point at a pixel to see its class; click it to see why." : "";
    return;
  }
  const column = columnAt(photo.mask, at.row, at.col, state.threshold);
  const place = at.row * photo.mask.width + at.col;
  const sure = photo.mask.confidence ? `, confidence ${percent(photo.mask.confidence[place] / 255)}` : "";
  const drawn = photo.truth ? `, truth ${state.classes[columnAt(photo.truth, at.row, at.col)]?.name ?? "none"}` : "";
  line.textContent = `${state.classes[column]?.name ?? "left blank"}${sure}${drawn} · row ${at.row}, column ${at.col}`;
}

function showStrip() {
  const strip = need("strip", HTMLUListElement);
  strip.hidden = state.photos.length < 1;
  strip.replaceChildren(...state.photos.map(stripItem));
  main.root.setAttribute("aria-busy", String(state.photo?.stage === "busy"));
}

const STAGES = { waiting: "waiting", busy: "being segmented", done: "", failed: "failed" };

/** @param {Photo} photo */
function stripItem(photo) {
  const picture = photo.thumbnail
    ? make("img", { src: photo.thumbnail, alt: "" })
    : make("span", { className: "no-picture", "aria-hidden": "true" }, "▦");
  const note = STAGES[photo.stage];
  const open = make("button", { type: "button", className: "open", title: photo.name }, picture, make("span", {}, photo.name));
  if (note) open.append(make("small", {}, note));
  open.setAttribute("aria-current", String(photo === state.photo));
  open.addEventListener("click", () => show(photo));
  const shut = make("button", { type: "button", className: "shut", "aria-label": `Close ${photo.name}` }, "×");
  shut.addEventListener("click", () => close(photo));
  return make("li", { className: photo.stage }, open, shut);
}

/**
 * @param {string} id of a slider
 * @param {"opacity" | "threshold"} key
 */
function slides(id, key) {
  const slider = need(id, HTMLInputElement);
  const shown = need(`${id}-value`, HTMLOutputElement);
  const read = () => {
    state[key] = Number(slider.value) / 100;
    shown.value = `${slider.value} %`;
  };
  read();
  slider.addEventListener("input", () => {
    read();
    tell("look");
  });
}

export function showViewer() {
  on("photo", showPhoto);
  on("mask", showMask);
  on(["look", "classes"], () => draw());
  on("paint", () => drawPaint());
  on(["photos", "photo"], showStrip);
  on(["photo", "mask"], () => readOut(null));
  slides("opacity", "opacity");
  slides("threshold", "threshold");
  const palette = need("palette", HTMLSelectElement);
  palette.addEventListener("change", () => {
    state.palette = /** @type {import("./state.js").Palette} */ (palette.value);
    tell("look");
  });
}

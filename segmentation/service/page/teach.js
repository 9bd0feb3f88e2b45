/** Teaching: what is painted goes into the memory, and what it changes is seen at once. */

import { removeImage, teach } from "./api.js";
import { counted, make, need, percent } from "./dom.js";
import { keep } from "./keep.js";
import { pack } from "./packing.js";
import { renewAll } from "./photos.js";
import { on, state, tell } from "./state.js";
import { attempt, complain, say } from "./status.js";
import { countPainted, takeBack } from "./strokes.js";
import { flash } from "./viewer.js";

const NEW = "\u0000new";
let working = false;

/**
 * Chooses what the brush paints; from looking it turns to painting.
 * @param {string} name
 */
export function choosePaint(name) {
  state.paintName = name;
  if (state.tool === "look" || state.tool === "eraser") state.tool = "brush";
  tell("tool");
}

/** The class to paint, or null with a sentence when none is named. */
export function paintName() {
  if (state.paintName) return state.paintName;
  complain("Name the class first: choose one, or write a new name.");
  const writing = !need("new-class-row", HTMLElement).hidden;
  need(writing ? "new-class" : "paint-class", HTMLElement).focus();
  return null;
}

function drawChoice() {
  const select = need("paint-class", HTMLSelectElement);
  const names = state.classes.map((info) => info.name);
  const options = names.map((name) => make("option", { value: name }, name));
  select.replaceChildren(make("option", { value: "" }, "Choose …"), ...options, make("option", { value: NEW }, "New class …"));
  const known = names.includes(state.paintName);
  const row = need("new-class-row", HTMLElement);
  if (known) row.hidden = true;
  else if (state.paintName) row.hidden = false;
  select.value = known ? state.paintName : row.hidden ? "" : NEW;
}

function drawButtons() {
  const { photo } = state;
  const painted = countPainted(photo?.paint ?? null);
  need("teach", HTMLButtonElement).disabled = !painted || working;
  need("painted", HTMLElement).textContent = painted ? `${counted(painted, "pixel")} painted` : "Nothing is painted yet.";
  const undo = need("undo", HTMLButtonElement);
  const stroke = Boolean(photo?.strokes.length);
  undo.disabled = working || !(stroke || state.taught.length);
  undo.textContent = stroke || !state.taught.length ? "Undo stroke" : "Undo teaching";
  need("clear-paint", HTMLButtonElement).disabled = !painted || working;
}

async function teachNow() {
  const { photo } = state;
  if (!photo?.paint) return;
  await keep(photo); // before the request: what fails must lose nothing
  const { paint } = photo;
  const start = performance.now();
  const packed = await pack(new Uint8Array(paint.pixels), paint.height, paint.width);
  const answer = await teach(photo.id, paint.names, packed);
  const time = Math.round(performance.now() - start);
  state.taught.push({ number: answer.number, patches: answer.patches });
  photo.paint = null;
  photo.strokes = [];
  await keep(photo);
  tell("paint");
  tell("memory");
  await changes(`+${counted(answer.patches, "patch")}`, time);
}

/**
 * @param {string} what
 * @param {number} time in ms
 */
async function changes(what, time) {
  say(`${what}. The open photos are being segmented again …`);
  const { share, changed } = await renewAll();
  const own = state.photo && changed.get(state.photo);
  if (own) {
    flash(own);
  }
  say(`${what}, ${percent(share)} changed, ${time} ms`);
}

async function undoTeaching() {
  const last = state.taught.at(-1);
  if (!last) return;
  const start = performance.now();
  await removeImage(last.number);
  state.taught.pop();
  tell("memory");
  await changes(`−${counted(last.patches, "patch")}`, Math.round(performance.now() - start));
}

/** Takes the last stroke back, or else what was taught last. */
export function undo() {
  const { photo } = state;
  if (working) return;
  if (photo && takeBack(photo)) {
    void keep(photo);
    tell("paint");
  } else if (state.taught.length) {
    exclusively(undoTeaching);
  }
}

/** @param {() => Promise<void>} work */
function exclusively(work) {
  if (working) return;
  working = true;
  drawButtons();
  void attempt(work).finally(() => {
    working = false;
    drawButtons();
  });
}

function clear() {
  const { photo } = state;
  if (!photo) return;
  photo.paint = null;
  photo.strokes = [];
  void keep(photo);
  tell("paint");
}

/**
 * @param {string} id of a slider
 * @param {"brush" | "tolerance"} key
 * @param {string} unit
 */
function slides(id, key, unit) {
  const slider = need(id, HTMLInputElement);
  slider.addEventListener("input", () => {
    state[key] = Number(slider.value);
    tell("tool");
  });
  const draw = () => {
    slider.value = String(state[key]);
    need(`${id}-value`, HTMLOutputElement).value = `${state[key]} ${unit}`;
  };
  on("tool", draw);
  draw();
}

export function listenForTeaching() {
  slides("brush-size", "brush", "px");
  slides("tolerance", "tolerance", "%");
  on(["classes", "tool"], drawChoice);
  on(["paint", "tool", "photo", "mask", "memory"], drawButtons);
  const select = need("paint-class", HTMLSelectElement);
  const field = need("new-class", HTMLInputElement);
  select.addEventListener("change", () => {
    need("new-class-row", HTMLElement).hidden = select.value !== NEW;
    if (select.value === NEW) {
      state.paintName = field.value.trim();
      tell("tool");
      field.focus();
    } else if (select.value) choosePaint(select.value);
  });
  field.addEventListener("input", () => {
    state.paintName = field.value.trim();
  });
  field.addEventListener("change", () => {
    if (state.paintName) choosePaint(state.paintName);
  });
  need("teach", HTMLButtonElement).addEventListener("click", () => exclusively(teachNow));
  need("undo", HTMLButtonElement).addEventListener("click", undo);
  need("clear-paint", HTMLButtonElement).addEventListener("click", clear);
  for (const part of document.querySelectorAll("[data-writes]")) {
    on("classes", () => part.toggleAttribute("hidden", !state.index?.writable));
  }
  need("read-only", HTMLElement).hidden = true;
  on("classes", () => (need("read-only", HTMLElement).hidden = state.index?.writable !== false));
}

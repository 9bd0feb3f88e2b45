/** What fingers, pens, mice and keys do on the photo. */

/** @import {Rect} from "./types.js" */
import { askWhy } from "./explain.js";
import { keep } from "./keep.js";
import { state, tell } from "./state.js";
import { attempt, say } from "./status.js";
import { NONE, around, countPainted, drawLine, grow, paintFor, remember } from "./strokes.js";
import { paintName } from "./teach.js";
import { drawPaint, drawPaintSoon, main, readOut } from "./viewer.js";

/** @typedef {{row: number, col: number}} Place */

/** @type {Map<number, {clientX: number, clientY: number}>} where each finger is */
const fingers = new Map();
/** @type {{before: Uint8Array, rect: Rect | null, last: Place, value: number} | null} */
let stroke = null;
let panning = false;
let travelled = 0;
export const held = { space: false };

/**
 * @param {Place} at
 * @returns {boolean} whether a stroke began
 */
function begin(at) {
  const { photo, tool } = state;
  if (!photo?.mask) return false;
  if (tool === "eraser") {
    if (!photo.paint) return false;
    stroke = { before: photo.paint.pixels.slice(), rect: null, last: at, value: NONE };
  } else {
    const name = paintName();
    if (!name) return false;
    const { paint, value } = paintFor(photo, name);
    stroke = { before: paint.pixels.slice(), rect: null, last: at, value };
    drawPaint(); // the painting may be new
  }
  go(at);
  return true;
}

/** @param {Place} at */
function go(at) {
  const { photo } = state;
  if (!stroke || !photo?.paint) return;
  const rect = drawLine(photo.paint, stroke.last, at, state.brush, stroke.value);
  stroke.rect = around(stroke.rect, rect);
  stroke.last = at;
  drawPaintSoon(rect);
}

function end() {
  const { photo } = state;
  if (!stroke || !photo) return;
  if (stroke.rect) remember(photo, stroke.rect, stroke.before);
  stroke = null;
  if (!countPainted(photo.paint)) photo.paint = null;
  void keep(photo);
  tell("paint");
}

/** @param {Place} at */
function growFrom(at) {
  const { photo } = state;
  const name = photo?.mask ? paintName() : null;
  const pixels = name ? main.pixels() : null;
  if (!photo || !name || !pixels) return;
  if (!photo.bitmap) return say("This browser cannot read the colours of this file; use the brush.");
  const { paint, value } = paintFor(photo, name);
  const before = paint.pixels.slice();
  const rect = grow(pixels, paint, at.row, at.col, state.tolerance, value);
  remember(photo, rect, before);
  void keep(photo);
  tell("paint");
}

/** @param {Place} at what the tool does on one pixel */
export function use(at) {
  main.point(at.row, at.col);
  if (state.tool === "look") return askWhy(at.row, at.col);
  if (state.tool === "grow") return void attempt(async () => growFrom(at));
  void attempt(async () => {
    if (begin(at)) end();
  });
}

/** @param {PointerEvent} event */
function down(event) {
  main.root.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { clientX: event.clientX, clientY: event.clientY });
  travelled = 0;
  if (fingers.size > 1) {
    end();
    panning = true;
    return;
  }
  const paints = state.tool === "brush" || state.tool === "eraser";
  panning = held.space || event.button === 1 || !paints;
  const at = main.pixelAt(event);
  if (!panning && at) void attempt(async () => void begin(at));
}

/** @param {PointerEvent} event */
function move(event) {
  const before = fingers.get(event.pointerId);
  const at = main.pixelAt(event);
  readOut(at);
  if (!before) return;
  const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
  travelled += Math.abs(x) + Math.abs(y);
  if (fingers.size === 2) pinch(event);
  fingers.set(event.pointerId, { clientX: event.clientX, clientY: event.clientY });
  if (panning && travelled > 4) main.move(x / fingers.size, y / fingers.size);
  else if (stroke && at) for (const step of event.getCoalescedEvents?.() ?? [event]) go(main.pixelAt(step) ?? at);
}

/** @param {PointerEvent} event of one of two fingers */
function pinch(event) {
  const [one, other] = [...fingers.entries()].map(([id, place]) => ({ id, ...place }));
  const still = one.id === event.pointerId ? other : one;
  const moving = one.id === event.pointerId ? one : other;
  const before = Math.hypot(moving.clientX - still.clientX, moving.clientY - still.clientY);
  const now = Math.hypot(event.clientX - still.clientX, event.clientY - still.clientY);
  if (before > 0) main.zoom(now / before, still);
}

/** @param {PointerEvent} event */
function up(event) {
  const single = fingers.size === 1 && fingers.has(event.pointerId);
  fingers.delete(event.pointerId);
  const at = main.pixelAt(event);
  const clicked = single && travelled <= 4 && event.type === "pointerup" && event.button === 0;
  if (stroke) end();
  else if (clicked && at && !held.space && (state.tool === "look" || state.tool === "grow")) use(at);
  if (!fingers.size) panning = false;
}

export function listenOnStage() {
  const { root } = main;
  root.addEventListener("pointerdown", down);
  root.addEventListener("pointermove", move);
  root.addEventListener("pointerup", up);
  root.addEventListener("pointercancel", up);
  root.addEventListener("pointerleave", () => readOut(main.row < 0 ? null : main));
  root.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      main.zoom(Math.exp(-event.deltaY / 400), event);
    },
    { passive: false },
  );
}

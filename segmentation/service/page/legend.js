/** The list of classes: colour, share, IoU, what is shown, and the number key of each. */

import { make, need, percent } from "./dom.js";
import { countColumns } from "./masks.js";
import { PATTERNS, cssColor } from "./palettes.js";
import { on, state, tell } from "./state.js";
import { choosePaint } from "./teach.js";

function draw() {
  const { photo, classes } = state;
  const body = need("legend-rows", HTMLElement);
  const counts = photo?.mask ? countColumns(photo.mask, classes.length, state.threshold) : null;
  const pixels = photo?.mask ? photo.mask.columns.length : 1;
  need("legend", HTMLTableElement).classList.toggle("compared", Boolean(photo?.truth));
  const rows = classes.map((_, column) => row(column, counts ? counts[column] / pixels : null));
  const kept = body.contains(document.activeElement) ? document.activeElement?.id : "";
  body.replaceChildren(...rows);
  if (kept) document.getElementById(kept)?.focus();
  const blank = counts ? 1 - counts.reduce((sum, count) => sum + count, 0) / pixels : 0;
  need("blank-share", HTMLElement).textContent = blank > 0 ? `Left blank: ${percent(blank)}` : "";
  need("mean-iou", HTMLElement).textContent = photo?.truth ? meanIou() : "";
}

function meanIou() {
  const ious = [...(state.photo?.ious.values() ?? [])];
  if (!ious.length) return "";
  const mean = ious.reduce((sum, iou) => sum + iou, 0) / ious.length;
  return `Mean IoU ${(100 * mean).toFixed(1)} % over ${ious.length} classes`;
}

/**
 * @param {number} column
 * @param {number | null} share
 */
function row(column, share) {
  const { name } = state.classes[column];
  const shown = make("input", { type: "checkbox", id: `show-${column}`, checked: !state.hidden.has(name) });
  shown.setAttribute("aria-label", `Show ${name}`);
  shown.addEventListener("change", () => {
    if (shown.checked) state.hidden.delete(name);
    else state.hidden.add(name);
    tell("look");
  });
  const painted = state.paintName === name;
  const pick = make(
    "button",
    { type: "button", className: "class-name", id: `class-${column}`, "aria-pressed": painted },
    swatch(column), make("span", {}, name), column < 9 ? make("kbd", { title: `Key ${column + 1}` }, String(column + 1)) : "",
  );
  pick.disabled = !state.index?.writable;
  pick.addEventListener("click", () => choosePaint(name));
  const iou = state.photo?.ious.get(column);
  return make(
    "tr", { className: share === 0 ? "absent" : "" },
    make("td", {}, make("label", { className: "tick" }, shown)),
    make("th", { scope: "row" }, pick),
    make("td", { className: "number" }, share === null ? "" : percent(share)),
    make("td", { className: "number iou" }, iou === undefined ? "" : percent(iou)),
  );
}

/** @param {number} column */
export function swatch(column) {
  const element = make("span", { className: "swatch", "aria-hidden": "true" });
  element.style.backgroundColor = cssColor(column);
  if (state.palette === "patterns") element.dataset.pattern = String(column % PATTERNS);
  return element;
}

export function showLegend() {
  on(["classes", "look", "photo", "mask", "tool"], draw);
  const all = need("show-all", HTMLButtonElement);
  all.addEventListener("click", () => {
    if (state.hidden.size) state.hidden.clear();
    else for (const info of state.classes) state.hidden.add(info.name);
    tell("look");
  });
  on(["look", "classes"], () => (all.textContent = state.hidden.size ? "Show all" : "Hide all"));
}

/** The keyboard: everything that a mouse does on the photo. */

import { showHelp } from "./dialogs.js";
import { need } from "./dom.js";
import { held, use } from "./pointer.js";
import { state, tell } from "./state.js";
import { choosePaint, undo } from "./teach.js";
import { main, readOut } from "./viewer.js";

/** @typedef {import("./state.js").Tool} Tool */

const TOOLS = /** @type {Record<string, Tool>} */ ({ v: "look", b: "brush", e: "eraser", g: "grow" });
const ARROWS = /** @type {Record<string, [number, number]>} */ ({
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
});

/** @param {Tool} tool */
export function chooseTool(tool) {
  if (tool !== "look" && !state.index?.writable) return;
  state.tool = tool;
  tell("tool");
  if (tool !== "look") need("teach-panel", HTMLElement).scrollIntoView({ block: "nearest" });
}

/** @param {number} factor */
function resizeBrush(factor) {
  const most = Number(need("brush-size", HTMLInputElement).max);
  const size = factor > 1 ? Math.ceil(state.brush * factor) : Math.floor(state.brush * factor);
  state.brush = Math.min(most, Math.max(1, size));
  tell("tool");
}

/**
 * Keys that need the photo to have the focus.
 * @param {KeyboardEvent} event
 * @returns {boolean} whether it was one
 */
function onPhoto(event) {
  if (document.activeElement !== main.root || !state.photo?.mask) return false;
  const arrow = ARROWS[event.key];
  if (arrow && (event.altKey || held.space)) main.move(-60 * arrow[1], -60 * arrow[0]);
  else if (arrow) {
    const middle = { row: main.height >> 1, col: main.width >> 1 };
    const from = main.row < 0 ? middle : main;
    const step = event.shiftKey ? Math.max(1, Math.round(main.width / 12)) : Math.max(1, Math.round(4 / main.scale));
    main.point(from.row + step * arrow[0], from.col + step * arrow[1]);
    readOut(main);
  } else if (event.key === "Enter" && main.row >= 0) use({ row: main.row, col: main.col });
  else return false;
  return true;
}

/**
 * @param {KeyboardEvent} event
 * @returns {boolean} whether the key means something
 */
function pressed(event) {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") undo();
  else if (event.ctrlKey || event.metaKey) return false;
  else if (onPhoto(event)) return true;
  else if (event.altKey) return false;
  else if (event.key === "?") showHelp();
  else if (!state.photo) return false;
  else if (TOOLS[event.key.toLowerCase()]) chooseTool(TOOLS[event.key.toLowerCase()]);
  else if (event.key === "[") resizeBrush(1 / 1.25);
  else if (event.key === "]") resizeBrush(1.25);
  else if (event.key === "+" || event.key === "=") main.zoom(1.5);
  else if (event.key === "-") main.zoom(1 / 1.5);
  else if (event.key === "0") main.fit();
  else if (/^[1-9]$/.test(event.key)) {
    const info = state.classes[Number(event.key) - 1];
    if (info && state.index?.writable) choosePaint(info.name);
  } else return false;
  return true;
}

/** @param {EventTarget | null} target */
function writes(target) {
  if (target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "range", "file"].includes(target.type);
}

/** Whoever speaks to the computer, or touches keys unwillingly, can turn single keys off (WCAG 2.1.4). */
const SWITCH = "mycelia-letter-keys";

function mayAct(/** @type {KeyboardEvent} */ event) {
  const single = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey;
  return !single || document.activeElement === main.root || need("letter-keys", HTMLInputElement).checked;
}

export function listenForKeys() {
  const letters = need("letter-keys", HTMLInputElement);
  letters.checked = localStorage.getItem(SWITCH) !== "off";
  letters.addEventListener("change", () => localStorage.setItem(SWITCH, letters.checked ? "on" : "off"));
  addEventListener("keydown", (event) => {
    if (writes(event.target) || document.querySelector("dialog[open]") || need("memory", HTMLElement).hidden === false) return;
    if (event.key === " " && (event.target === main.root || event.target === document.body)) {
      held.space = true;
      main.root.classList.add("grabs");
      event.preventDefault();
    } else if (mayAct(event) && pressed(event)) event.preventDefault();
  });
  const release = () => {
    held.space = false;
    main.root.classList.remove("grabs");
  };
  addEventListener("keyup", (event) => {
    if (event.key === " ") release();
  });
  addEventListener("blur", release);
}

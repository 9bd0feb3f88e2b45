/** Colours of classes. */

/** @import {Look, Photo} from "./types.js" */
import { state } from "./state.js";

/** Okabe and Ito, "Color Universal Design" (2008), without black: told apart with any colour vision. */
const SAFE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999"];
/** After the first round the same hues come lighter, then darker. */
const SHADES = [0, 0.45, -0.4];
export const PATTERNS = 4;

/** @param {string} hex */
function channels(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

/**
 * @param {number} column
 * @returns {number[]} red, green and blue of 0..255
 */
function safeColor(column) {
  const shade = SHADES[Math.floor(column / SAFE.length) % SHADES.length];
  const towards = shade > 0 ? 255 : 0;
  return channels(SAFE[column % SAFE.length]).map((value) => Math.round(value + (towards - value) * Math.abs(shade)));
}

/**
 * The colour of a class in the palette that is chosen; a class that is only just named gets the next one.
 * @param {number} column
 * @returns {number[]} red, green and blue of 0..255
 */
export function colorOf(column) {
  const own = state.classes[column]?.color;
  return state.palette === "own" && own ? own : safeColor(column);
}

/** @param {string} name */
export function columnOf(name) {
  const column = state.classes.findIndex((info) => info.name === name);
  return column < 0 ? state.classes.length : column;
}

/** @param {number} column */
export function cssColor(column) {
  return `rgb(${colorOf(column).join(" ")})`;
}

/**
 * How the layers of a photo look now.
 * @param {Photo | null} photo
 * @param {number} flash 0..1, of the pixels that changed
 * @returns {Look}
 */
export function lookOf(photo, flash = 0) {
  const colors = new Uint8Array(4 * state.classes.length);
  state.classes.forEach((info, column) => {
    colors.set([...colorOf(column), state.hidden.has(info.name) ? 0 : 255], 4 * column);
  });
  const names = photo?.paint?.names ?? [];
  const paint = new Uint8Array(4 * names.length);
  names.forEach((name, place) => paint.set([...colorOf(columnOf(name)), 255], 4 * place));
  const { opacity, palette } = state;
  const threshold = Math.ceil(255 * state.threshold);
  return { colors, paint, opacity, threshold, patterns: palette === "patterns", flash };
}

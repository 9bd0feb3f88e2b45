/** What the page knows, and who is told when it changes. */

/** @import {ClassInfo, IndexInfo, Photo} from "./types.js" */

/** @typedef {"look" | "brush" | "eraser" | "grow"} Tool */
/** @typedef {"own" | "safe" | "patterns"} Palette */
/**
 * - classes: their list, names or colours; look: opacity, threshold, palette or what is hidden
 * - photos: the list or the stage of one; photo: another one is shown; mask: what it shows is new
 * - paint, tool: what is painted, and with what; memory: its images are others now
 * @typedef {"classes" | "look" | "photos" | "photo" | "mask" | "paint" | "tool" | "memory"} Change
 */

export const state = {
  /** @type {IndexInfo | null} */ index: null,
  /** @type {ClassInfo[]} */ classes: [],
  /** @type {Photo[]} */ photos: [],
  /** @type {Photo | null} */ photo: null,
  /** @type {Tool} */ tool: "look",
  /** @type {Palette} */ palette: "own",
  /** @type {Set<string>} */ hidden: new Set(),
  /** the class that is painted */ paintName: "",
  /** diameter in pixels of the photo */ brush: 24,
  /** how far a colour may be from where it grew from, 0..100 */ tolerance: 16,
  opacity: 0.55,
  /** confidence of 0..1 below which a pixel is left blank */ threshold: 0,
  /** images taught in this session, the newest last @type {{number: number, patches: number}[]} */
  taught: [],
};

const bus = new EventTarget();

/** @param {Change} change */
export function tell(change) {
  bus.dispatchEvent(new Event(change));
}

/**
 * @param {Change | Change[]} changes
 * @param {() => void} listener
 */
export function on(changes, listener) {
  for (const change of [changes].flat()) bus.addEventListener(change, listener);
}

/** A photo with its mask over it: two canvases on one spot, which zoom and move together. */

/** @import {Layer, Rect} from "./types.js" */
import { makeLayer } from "./masks.js";
import { make } from "./dom.js";

const MOST = 40;

export class Stage {
  scale = 1;
  left = 0;
  top = 0;
  width = 0;
  height = 0;
  /** the pixel that was asked last: where keys move from, and zoom goes to */ row = -1;
  col = -1;
  /** @type {Layer | null} */ layer = null;
  /** @type {() => void} told when it zoomed or moved */ moved = () => {};
  #whole = true;

  /** @param {HTMLElement} root the window onto the photo */
  constructor(root) {
    this.root = root;
    this.photo = make("canvas", { className: "photo", "aria-hidden": "true" });
    this.mask = make("canvas", { className: "mask", "aria-hidden": "true" });
    this.patch = make("div", { className: "patch", hidden: true });
    this.cross = make("div", { className: "cross", hidden: true });
    this.sheet = make("div", { className: "sheet" }, this.photo, this.mask, this.patch);
    root.append(this.sheet, this.cross);
    new ResizeObserver(() => (this.#whole ? this.fit() : this.#place())).observe(root);
  }

  /**
   * @param {ImageBitmap | null} bitmap null where the browser cannot decode the photo: its mask on grey
   * @param {number} width
   * @param {number} height
   */
  setPhoto(bitmap, width, height) {
    [this.width, this.height] = [width, height];
    [this.photo.width, this.photo.height] = [width, height];
    if (bitmap) this.photo.getContext("2d")?.drawImage(bitmap, 0, 0, width, height);
    // a canvas keeps its kind of context for good: each photo gets one that fits its size
    const fresh = make("canvas", { className: "mask", "aria-hidden": "true" });
    this.mask.replaceWith(fresh);
    this.mask = fresh;
    this.layer = makeLayer(fresh, width, height);
    this.root.dataset.layer = this.layer.kind;
    this.row = this.col = -1;
    this.mark(null);
    this.fit();
  }

  /** The pixels of the photo, RGBA. */
  pixels() {
    return this.photo.getContext("2d", { willReadFrequently: true })?.getImageData(0, 0, this.width, this.height).data;
  }

  fit() {
    this.#whole = true;
    const { clientWidth, clientHeight } = this.root;
    if (!this.width || !clientWidth || !clientHeight) return;
    this.scale = Math.min(clientWidth / this.width, clientHeight / this.height);
    this.left = (clientWidth - this.width * this.scale) / 2;
    this.top = (clientHeight - this.height * this.scale) / 2;
    this.#place();
  }

  /**
   * @param {number} factor
   * @param {{clientX: number, clientY: number}} [at] the point that stays; else the pixel asked last, or the middle
   */
  zoom(factor, at) {
    const edges = this.root.getBoundingClientRect();
    const known = this.row >= 0;
    const x = at ? at.clientX - edges.left : known ? this.left + (this.col + 0.5) * this.scale : edges.width / 2;
    const y = at ? at.clientY - edges.top : known ? this.top + (this.row + 0.5) * this.scale : edges.height / 2;
    const least = Math.min(1, edges.width / this.width, edges.height / this.height) / 2;
    const scale = Math.min(MOST, Math.max(least, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.#whole = false;
    if (!at && known) this.reveal();
    this.#place();
  }

  /**
   * @param {number} x in pixels of the screen
   * @param {number} y
   */
  move(x, y) {
    this.left += x;
    this.top += y;
    this.#whole = false;
    this.#place();
  }

  /** Moves so that the pixel asked last can be seen. */
  reveal() {
    const { clientWidth, clientHeight } = this.root;
    const x = this.left + (this.col + 0.5) * this.scale;
    const y = this.top + (this.row + 0.5) * this.scale;
    if (x < 0 || x > clientWidth) this.left += clientWidth / 2 - x;
    if (y < 0 || y > clientHeight) this.top += clientHeight / 2 - y;
    this.#place();
  }

  /** @param {Stage} other whose view this one takes */
  follow(other) {
    this.scale = other.scale;
    this.left = other.left;
    this.top = other.top;
    this.#whole = false;
    this.#place(false);
  }

  /**
   * The pixel under a pointer, or null beside the photo.
   * @param {{clientX: number, clientY: number}} at
   */
  pixelAt(at) {
    const edges = this.root.getBoundingClientRect();
    const col = Math.floor((at.clientX - edges.left - this.left) / this.scale);
    const row = Math.floor((at.clientY - edges.top - this.top) / this.scale);
    return row >= 0 && col >= 0 && row < this.height && col < this.width ? { row, col } : null;
  }

  /**
   * @param {number} row
   * @param {number} col
   */
  point(row, col) {
    this.row = Math.min(this.height - 1, Math.max(0, row));
    this.col = Math.min(this.width - 1, Math.max(0, col));
    this.reveal();
  }

  /** @param {Rect | null} rect the patch that is explained */
  mark(rect) {
    this.patch.hidden = rect === null;
    if (!rect) return;
    this.patch.style.left = `${rect.left}px`;
    this.patch.style.top = `${rect.top}px`;
    this.patch.style.width = `${rect.right - rect.left}px`;
    this.patch.style.height = `${rect.bottom - rect.top}px`;
  }

  #place(told = true) {
    this.sheet.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
    this.patch.style.setProperty("--thin", `${1 / this.scale}px`);
    this.sheet.classList.toggle("near", this.scale > 2);
    this.cross.hidden = this.row < 0;
    this.cross.style.left = `${this.left + (this.col + 0.5) * this.scale}px`;
    this.cross.style.top = `${this.top + (this.row + 0.5) * this.scale}px`;
    if (told) this.moved();
  }
}

/** A mask drawn by the processor, where there is no WebGL 2 or the photo is too large for it. */

/** @import {Layer, Look, Mask, Paint, Rect} from "./types.js" */

/** @param {number[] | Uint8Array} color red, green, blue and alpha; packed as ImageData has it */
function packed(color) {
  return ((color[3] << 24) | (color[2] << 16) | (color[1] << 8) | color[0]) >>> 0;
}

/** @implements {Layer} */
export class Layer2d {
  kind = "2d";
  /** @type {Mask | null} */ #mask = null;
  /** @type {Paint | null} */ #paint = null;
  /** @type {Uint8Array | null} */ #changed = null;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const context = canvas.getContext("2d");
    if (!context) throw new Error("This browser gives the page no canvas to draw on.");
    this.context = context;
  }

  /** @param {Mask} mask */
  setMask(mask) {
    this.#mask = mask;
  }

  /** @param {Paint | null} paint */
  setPaint(paint) {
    this.#paint = paint;
  }

  /** @param {Uint8Array | null} changed */
  setChanged(changed) {
    this.#changed = changed;
  }

  /**
   * @param {Look} look
   * @param {Rect} [rect]
   */
  draw(look, rect) {
    const { canvas } = this.context;
    const area = rect ?? { left: 0, top: 0, right: canvas.width, bottom: canvas.height };
    const wide = area.right - area.left;
    const high = area.bottom - area.top;
    if (wide <= 0 || high <= 0) return;
    const image = this.context.createImageData(wide, high);
    this.#fill(new Uint32Array(image.data.buffer), look, area, canvas.width);
    this.context.putImageData(image, area.left, area.top);
  }

  /**
   * @param {Uint32Array} out
   * @param {Look} look
   * @param {Rect} area
   * @param {number} width
   */
  #fill(out, look, area, width) {
    const [mask, paint, changed] = [this.#mask, this.#paint?.pixels, look.flash > 0 ? this.#changed : null];
    const solid = tints(look.colors, look.opacity);
    const faint = tints(look.colors, look.opacity * 0.45);
    const painted = tints(look.paint, 0.85);
    const edge = packed([255, 255, 255, 217]);
    const flash = packed([255, 255, 255, Math.round(230 * look.flash)]);
    const period = stripe(width);
    const least = mask?.confidence ? look.threshold : 0;
    let next = 0;
    for (let row = area.top; row < area.bottom; row++) {
      for (let col = area.left; col < area.right; col++, next++) {
        const place = row * width + col;
        if (paint && paint[place] !== 255) {
          out[next] = (row + col) % period < period / 4 ? edge : painted[paint[place]];
        } else if (changed && changed[place]) {
          out[next] = flash;
        } else if (mask && (least === 0 || /** @type {Uint8Array} */ (mask.confidence)[place] >= least)) {
          const column = mask.columns[place];
          const thin = look.patterns && !inPattern(column, row, col, period);
          out[next] = (thin ? faint : solid)[column] ?? 0;
        }
      }
    }
  }
}

/**
 * @param {Uint8Array} colors
 * @param {number} opacity
 */
function tints(colors, opacity) {
  const found = new Uint32Array(colors.length / 4);
  for (let place = 0; place < found.length; place++) {
    const [red, green, blue, shown] = colors.subarray(4 * place, 4 * place + 4);
    found[place] = packed([red, green, blue, Math.round(shown * opacity)]);
  }
  return found;
}

/**
 * The width of a stripe and its gap, in pixels of the photo.
 * @param {number} width
 */
export function stripe(width) {
  return Math.max(8, 4 * Math.round(width / 240));
}

/**
 * Solid, rising, falling and level stripes, by turns; the shader has the same.
 * @param {number} column
 * @param {number} row
 * @param {number} col
 * @param {number} period
 */
function inPattern(column, row, col, period) {
  const kind = column % 4;
  if (kind === 0) return true;
  const along = kind === 1 ? row + col : kind === 2 ? row - col + 65536 * period : row;
  return along % period < period / 2;
}

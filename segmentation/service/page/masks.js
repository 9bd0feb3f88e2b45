/** Masks: from an answer to pixels, from pixels to a picture. */

/** @import {Layer, Mask, SegmentAnswer} from "./types.js" */
import { Layer2d } from "./layer_2d.js";
import { makeLayerGl } from "./layer_gl.js";
import { unpack } from "./packing.js";

/**
 * @param {SegmentAnswer} answer
 * @returns {Promise<Mask>}
 */
export async function readMask(answer) {
  const [columns, confidence] = await Promise.all([
    unpack(answer.mask),
    answer.confidence ? unpack(answer.confidence) : null,
  ]);
  const { width, height } = answer;
  if (columns.length !== width * height) throw new Error("The service sent a mask of another size than the photo.");
  return { width, height, columns, confidence: confidence instanceof Uint8Array ? confidence : null };
}

/**
 * The value that stands for "nothing" in a mask.
 * @param {Mask} mask
 */
export function nothing(mask) {
  return mask.columns instanceof Uint16Array ? 65535 : 255;
}

/**
 * The class column of a pixel, or -1 for none; `threshold` of 0..1 leaves doubtful pixels blank.
 * @param {Mask} mask
 * @param {number} row
 * @param {number} col
 * @param {number} threshold
 */
export function columnAt(mask, row, col, threshold = 0) {
  const place = row * mask.width + col;
  const blank = mask.confidence !== null && mask.confidence[place] < Math.ceil(255 * threshold);
  const column = mask.columns[place];
  return blank || column === nothing(mask) ? -1 : column;
}

/**
 * How many pixels each column has, those left blank apart.
 * @param {Mask} mask
 * @param {number} classes
 * @param {number} threshold of 0..1
 */
export function countColumns(mask, classes, threshold) {
  const counts = new Float64Array(classes);
  const least = Math.ceil(255 * threshold);
  for (let place = 0; place < mask.columns.length; place++) {
    if (mask.confidence && mask.confidence[place] < least) continue;
    if (mask.columns[place] < classes) counts[mask.columns[place]]++;
  }
  return counts;
}

/**
 * Where two masks of one photo differ: 1 for each such pixel, and how many there are.
 * @param {Mask} before
 * @param {Mask} after
 */
export function difference(before, after) {
  const changed = new Uint8Array(after.columns.length);
  const [none, now] = [nothing(before), nothing(after)];
  let count = 0;
  for (let place = 0; place < changed.length; place++) {
    const [old, fresh] = [before.columns[place], after.columns[place]];
    if (old === fresh || (old === none && fresh === now)) continue;
    changed[place] = 1;
    count++;
  }
  return { changed, count };
}

/**
 * What draws a mask on a canvas: the graphics card where it can, else the processor.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @returns {Layer}
 */
export function makeLayer(canvas, width, height) {
  canvas.width = width;
  canvas.height = height;
  return makeLayerGl(canvas) ?? new Layer2d(canvas);
}

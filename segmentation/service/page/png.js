/**
 * PNG files of labels, read as they are: a canvas would turn the ids of a palette into colours.
 * After the W3C's "Portable Network Graphics (PNG) Specification", sections 7, 9, 11 and 13.
 */

import { inflate } from "./packing.js";

/**
 * @typedef {{width: number, height: number, depth: number, kind: number, interlaced: boolean,
 *   palette: Uint8Array | null, data: Uint8Array<ArrayBuffer>}} Png
 * @typedef {{width: number, height: number, values: Uint16Array | null, colors: Uint8Array | null}} Labels
 *   one value a pixel (grey, or the number in the palette), or its colour as RGB; of a palette both
 */

const GREY = 0, RGB = 2, PALETTE = 3;
const CHANNELS = /** @type {Record<number, number>} */ ({ 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 });

/**
 * The parts of a PNG, or null for another file.
 * @param {Blob} file
 * @returns {Promise<Png | null>}
 */
export async function openPng(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  if (bytes.length < 33 || view.getUint32(0) !== 0x89504e47) return null;
  /** @type {Uint8Array[]} */
  const parts = [];
  let palette = null;
  for (let place = 8; place + 12 <= bytes.length; ) {
    const length = view.getUint32(place);
    const name = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const content = bytes.subarray(place + 8, place + 8 + length);
    if (name === "PLTE") palette = content;
    if (name === "IDAT") parts.push(content);
    place += 12 + length;
  }
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let filled = 0;
  for (const part of parts) {
    data.set(part, filled);
    filled += part.length;
  }
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  return { width, height, depth: bytes[24], kind: bytes[25], interlaced: bytes[28] !== 0, palette, data };
}

/** @param {Png} png */
export function mayBeLabels(png) {
  return png.kind === PALETTE || png.kind === GREY;
}

/**
 * @param {Png} png
 * @returns {Promise<Labels>}
 */
export async function readLabels(png) {
  const { width, height, depth, kind, palette } = png;
  if (png.interlaced) throw new Error("This mask is an interlaced PNG; save it without interlacing.");
  const channels = CHANNELS[kind];
  const bits = channels * depth;
  const lines = unfilter(await inflate(png.data), Math.ceil((width * bits) / 8), height, Math.max(1, bits >> 3));
  const colors = kind === GREY || kind === 4 ? null : new Uint8Array(3 * width * height);
  const values = kind === RGB || kind === 6 ? null : new Uint16Array(width * height);
  const line = lines.length / height;
  for (let row = 0, place = 0; row < height; row++) {
    for (let col = 0; col < width; col++, place++) {
      const first = sample(lines, row * line, col * channels, depth);
      if (values) values[place] = first;
      if (colors && kind === PALETTE && palette) colors.set(palette.subarray(3 * first, 3 * first + 3), 3 * place);
      else if (colors) for (let c = 0; c < 3; c++) colors[3 * place + c] = sample(lines, row * line, col * channels + c, depth);
    }
  }
  return { width, height, values, colors };
}

/**
 * @param {Uint8Array} lines
 * @param {number} start of the line
 * @param {number} number of the sample in it
 * @param {number} depth in bits
 */
function sample(lines, start, number, depth) {
  if (depth === 8) return lines[start + number];
  if (depth === 16) return (lines[start + 2 * number] << 8) | lines[start + 2 * number + 1];
  const bit = number * depth;
  return (lines[start + (bit >> 3)] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

/**
 * @param {Uint8Array} raw lines, each with the number of its filter before it
 * @param {number} wide bytes a line
 * @param {number} height
 * @param {number} step bytes a pixel
 */
function unfilter(raw, wide, height, step) {
  const out = new Uint8Array(wide * height);
  for (let row = 0; row < height; row++) {
    const kind = raw[row * (wide + 1)];
    const from = row * (wide + 1) + 1;
    const to = row * wide;
    for (let x = 0; x < wide; x++) {
      const left = x >= step ? out[to + x - step] : 0;
      const up = row ? out[to + x - wide] : 0;
      const corner = row && x >= step ? out[to + x - wide - step] : 0;
      const guess = kind === 1 ? left : kind === 2 ? up : kind === 3 ? (left + up) >> 1 : kind === 4 ? paeth(left, up, corner) : 0;
      out[to + x] = raw[from + x] + guess;
    }
  }
  return out;
}

/**
 * @param {number} left
 * @param {number} up
 * @param {number} corner
 */
function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

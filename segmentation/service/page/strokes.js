/** Painting as arithmetic on pixels: brush, eraser, growing, and taking strokes back. */

/** @import {Paint, Photo, Rect} from "./types.js" */

export const NONE = 255;
const STROKES = 50;

/**
 * The painting of a photo, made when there is none, and the value of a class in it.
 * @param {Photo} photo
 * @param {string} name
 * @returns {{paint: Paint, value: number}}
 */
export function paintFor(photo, name) {
  const { width, height } = photo;
  photo.paint ??= { width, height, names: [], pixels: new Uint8Array(width * height).fill(NONE) };
  let value = photo.paint.names.indexOf(name);
  if (value < 0) value = photo.paint.names.push(name) - 1;
  if (value >= NONE) throw new Error("At most 255 classes can be painted at a time. Teach these first.");
  return { paint: photo.paint, value };
}

/**
 * A line as thick as the brush, with round ends.
 * @param {Paint} paint
 * @param {{row: number, col: number}} from
 * @param {{row: number, col: number}} to
 * @param {number} size diameter in pixels
 * @param {number} value
 * @returns {Rect} what may have changed
 */
export function drawLine(paint, from, to, size, value) {
  const radius = Math.max(0.5, size / 2);
  const rect = {
    left: Math.max(0, Math.floor(Math.min(from.col, to.col) - radius)),
    top: Math.max(0, Math.floor(Math.min(from.row, to.row) - radius)),
    right: Math.min(paint.width, Math.ceil(Math.max(from.col, to.col) + radius) + 1),
    bottom: Math.min(paint.height, Math.ceil(Math.max(from.row, to.row) + radius) + 1),
  };
  const [dx, dy] = [to.col - from.col, to.row - from.row];
  const length = dx * dx + dy * dy;
  for (let row = rect.top; row < rect.bottom; row++) {
    for (let col = rect.left; col < rect.right; col++) {
      const along = length ? ((col - from.col) * dx + (row - from.row) * dy) / length : 0;
      const nearest = Math.min(1, Math.max(0, along));
      const [x, y] = [col - from.col - nearest * dx, row - from.row - nearest * dy];
      if (x * x + y * y <= radius * radius) paint.pixels[row * paint.width + col] = value;
    }
  }
  return rect;
}

/**
 * The area around a pixel whose colours are near its own, joined by sides.
 * @param {Uint8ClampedArray} photo RGBA
 * @param {Paint} paint
 * @param {number} row
 * @param {number} col
 * @param {number} tolerance 0..100, the share of the distance between black and white
 * @param {number} value
 * @returns {Rect} what may have changed
 */
export function grow(photo, paint, row, col, tolerance, value) {
  const { width, height, pixels } = paint;
  const seed = row * width + col;
  const [red, green, blue] = photo.subarray(4 * seed, 4 * seed + 3);
  const most = 3 * (2.55 * tolerance) ** 2;
  const seen = new Uint8Array(width * height);
  /** @param {number} place */
  const fits = (place) => {
    if (seen[place]) return false;
    const [r, g, b] = [photo[4 * place] - red, photo[4 * place + 1] - green, photo[4 * place + 2] - blue];
    return r * r + g * g + b * b <= most;
  };
  const rect = { left: col, top: row, right: col + 1, bottom: row + 1 };
  const open = [seed];
  while (open.length) {
    const place = /** @type {number} */ (open.pop());
    if (!fits(place)) continue;
    const start = place - (place % width);
    let [left, right] = [place, place];
    while (left > start && fits(left - 1)) left--;
    while (right < start + width - 1 && fits(right + 1)) right++;
    seen.fill(1, left, right + 1);
    pixels.fill(value, left, right + 1);
    for (const beside of [left - width, left + width]) {
      if (beside < 0 || beside >= width * height) continue;
      let before = false;
      for (let next = beside; next <= beside + right - left; next++) {
        const here = fits(next);
        if (here && !before) open.push(next);
        before = here;
      }
    }
    rect.left = Math.min(rect.left, left - start);
    rect.right = Math.max(rect.right, right - start + 1);
    rect.top = Math.min(rect.top, start / width);
    rect.bottom = Math.max(rect.bottom, start / width + 1);
  }
  rect.bottom = Math.min(rect.bottom, height);
  return rect;
}

/**
 * Remembers what a stroke covered, so that it can be taken back.
 * @param {Photo} photo
 * @param {Rect} rect
 * @param {Uint8Array} before all of the painting as it was
 */
export function remember(photo, rect, before) {
  const wide = rect.right - rect.left;
  const kept = new Uint8Array(wide * (rect.bottom - rect.top));
  for (let row = rect.top; row < rect.bottom; row++) {
    const start = row * photo.width + rect.left;
    kept.set(before.subarray(start, start + wide), (row - rect.top) * wide);
  }
  photo.strokes.push({ rect, before: kept });
  if (photo.strokes.length > STROKES) photo.strokes.shift();
}

/**
 * Takes the last stroke back; where nothing stays painted, the painting goes.
 * @param {Photo} photo
 * @returns {boolean} false when there is none
 */
export function takeBack(photo) {
  const stroke = photo.strokes.pop();
  if (!stroke || !photo.paint) return false;
  const { rect, before } = stroke;
  const wide = rect.right - rect.left;
  for (let row = rect.top; row < rect.bottom; row++) {
    const kept = before.subarray((row - rect.top) * wide, (row - rect.top + 1) * wide);
    photo.paint.pixels.set(kept, row * photo.width + rect.left);
  }
  if (!countPainted(photo.paint)) photo.paint = null;
  return true;
}

/** @param {Paint | null} paint */
export function countPainted(paint) {
  let count = 0;
  for (const value of paint?.pixels ?? []) if (value !== NONE) count++;
  return count;
}

/**
 * @param {Rect | null} one
 * @param {Rect} other
 * @returns {Rect} around both
 */
export function around(one, other) {
  if (!one) return other;
  return {
    left: Math.min(one.left, other.left), top: Math.min(one.top, other.top),
    right: Math.max(one.right, other.right), bottom: Math.max(one.bottom, other.bottom),
  };
}

/** The memory as a map: like patches lie close to each other. */

/** @import {MapPoint} from "./types.js" */
import { getMap } from "./api.js";
import { counted, need } from "./dom.js";
import { showImage } from "./image_dialog.js";
import { cssColor } from "./palettes.js";
import { state } from "./state.js";

const MARGIN = 10;
const NEAR = 14;

/** @type {{point: MapPoint, x: number, y: number}[]} */
let placed = [];

/** Asks for the points and draws them; a click shows the image of the nearest. */
export async function drawMap() {
  const { points } = await getMap();
  const canvas = need("map", HTMLCanvasElement);
  const context = canvas.getContext("2d");
  if (!context) return;
  const sharp = devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [wide * sharp, high * sharp];
  context.scale(sharp, sharp);
  const [across, down] = [scaleOf(points.map(({ x }) => x), wide), scaleOf(points.map(({ y }) => y), high)];
  placed = points.map((point) => ({ point, x: across(point.x), y: down(point.y) }));
  const size = points.length > 3000 ? 1.6 : points.length > 500 ? 2.4 : 3.5;
  context.globalAlpha = 0.8;
  for (const { point, x, y } of placed) {
    context.fillStyle = cssColor(point.column);
    shape(context, point.column, x, y, size);
  }
  const classes = new Set(points.map((point) => point.column));
  const names = [...classes].map((column) => state.classes[column]?.name).filter(Boolean);
  canvas.setAttribute("aria-label", `Map of ${counted(points.length, "patch")}: ${names.join(", ")}`);
  canvas.onclick = (event) => {
    const nearest = find(event.offsetX, event.offsetY);
    if (nearest) showImage(nearest.number);
  };
}

/**
 * Circle, square, triangle and cross by turns, so that colour does not stand alone.
 * @param {CanvasRenderingContext2D} context
 * @param {number} column
 * @param {number} x
 * @param {number} y
 * @param {number} size
 */
function shape(context, column, x, y, size) {
  context.beginPath();
  const kind = column % 4;
  if (kind === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else if (kind === 1) context.rect(x - size, y - size, 2 * size, 2 * size);
  else if (kind === 2) {
    context.moveTo(x, y - 1.3 * size);
    context.lineTo(x + 1.2 * size, y + size);
    context.lineTo(x - 1.2 * size, y + size);
  } else {
    context.rect(x - 1.4 * size, y - 0.5 * size, 2.8 * size, size);
    context.rect(x - 0.5 * size, y - 1.4 * size, size, 2.8 * size);
  }
  context.fill();
}

/**
 * @param {number[]} values
 * @param {number} length in pixels
 */
function scaleOf(values, length) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) [least, most] = [Math.min(least, value), Math.max(most, value)];
  return (/** @type {number} */ value) => MARGIN + ((value - least) / (most - least || 1)) * (length - 2 * MARGIN);
}

/**
 * @param {number} x
 * @param {number} y
 */
function find(x, y) {
  let best = NEAR;
  let found = null;
  for (const one of placed) {
    const distance = Math.hypot(one.x - x, one.y - y);
    if (distance < best) [best, found] = [distance, one.point];
  }
  return found;
}

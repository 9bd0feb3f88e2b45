/** A mask that someone drew, beside the one that was found: which photo it is of, and the IoU of each class. */

/** @import {Mask, Photo} from "./types.js" */
/** @import {Labels} from "./png.js" */
import { nothing } from "./masks.js";
import { mayBeLabels, openPng, readLabels } from "./png.js";
import { state, tell } from "./state.js";

/** @param {string} name */
function stem(name) {
  return name.replace(/\.[^.]*$/, "").toLowerCase();
}

/**
 * Parts files into photos and the masks of photos: a PNG of labels whose name or size is that of a photo.
 * @param {File[]} files
 * @returns {Promise<{photos: File[], masks: File[]}>}
 */
export async function sort(files) {
  /** @type {File[]} */ const photos = [];
  /** @type {File[]} */ const masks = [];
  for (const file of files) {
    const others = [...state.photos.map((photo) => photo.file), ...files.filter((other) => other !== file)];
    const named = others.some((other) => fits(stem(file.name), stem(other.name)));
    const png = file.type === "image/png" ? await openPng(file) : null;
    const isMask = png !== null && mayBeLabels(png) && (await (named ? png.kind === 3 || hasKnownIds(png) : isOfShown(png)));
    (isMask ? masks : photos).push(file);
  }
  return { photos, masks };
}

/**
 * @param {string} mask
 * @param {string} photo
 */
function fits(mask, photo) {
  return mask === photo || (mask.startsWith(photo) && /^[-_. ]?(mask|label|labels|truth|gt|annot)s?$/.test(mask.slice(photo.length)));
}

/** @param {import("./png.js").Png} png */
async function isOfShown(png) {
  const { photo } = state;
  return photo?.width === png.width && photo.height === png.height && (await hasKnownIds(png));
}

/** @param {import("./png.js").Png} png */
async function hasKnownIds(png) {
  const { values } = await readLabels(png);
  const ids = new Set([255, ...state.classes.map((info) => info.id)]);
  return values !== null && values.every((value) => ids.has(value));
}

/**
 * Puts a mask beside the photo of its name, else beside the one that is shown.
 * @param {File} file
 */
export async function compare(file) {
  const photo = state.photos.find((one) => fits(stem(file.name), stem(one.name))) ?? state.photo;
  if (!photo?.mask) throw new Error("Open the photo first, then the mask that belongs to it.");
  const png = await openPng(file);
  if (!png) throw new Error(`${file.name} is no PNG. A mask is a PNG whose values are the ids of classes.`);
  if (png.width !== photo.width || png.height !== photo.height) {
    throw new Error(
      `${file.name} is ${png.width} × ${png.height} pixels, ${photo.name} is ${photo.width} × ${photo.height}: they do not belong together.`,
    );
  }
  photo.truth = toColumns(await readLabels(png), file.name);
  score(photo);
  if (photo === state.photo) tell("photo");
  else tell("photos");
  if (photo === state.photo) tell("mask");
}

/**
 * @param {Labels} labels
 * @param {string} name
 * @returns {Mask}
 */
function toColumns(labels, name) {
  const none = state.classes.length > 254 ? 65535 : 255;
  const pixels = labels.width * labels.height;
  const columns = none === 255 ? new Uint8Array(pixels).fill(none) : new Uint16Array(pixels).fill(none);
  const ids = new Map(state.classes.map((info, column) => [info.id, column]));
  const colors = new Map(state.classes.map((info, column) => [info.color.join(), column]));
  let known = 0;
  for (let place = 0; place < pixels; place++) {
    const column = labels.values
      ? ids.get(labels.values[place])
      : colors.get(labels.colors?.subarray(3 * place, 3 * place + 3).join() ?? "");
    if (column === undefined) continue;
    columns[place] = column;
    known++;
  }
  if (!known) throw new Error(`${name} has no value that is the id or the colour of a class.`);
  return { width: labels.width, height: labels.height, columns, confidence: null };
}

/**
 * The IoU of each class over the pixels that the truth labels; none where a class is in neither.
 * @param {Photo} photo
 */
export function score(photo) {
  const { mask, truth } = photo;
  photo.ious = new Map();
  if (!mask || !truth) return;
  const classes = state.classes.length;
  const [both, found, drawn] = [0, 1, 2].map(() => new Float64Array(classes));
  const none = nothing(truth);
  for (let place = 0; place < truth.columns.length; place++) {
    const [is, says] = [truth.columns[place], mask.columns[place]];
    if (is === none) continue;
    drawn[is]++;
    if (says < classes) found[says]++;
    if (is === says) both[is]++;
  }
  for (let column = 0; column < classes; column++) {
    const either = found[column] + drawn[column] - both[column];
    if (either) photo.ious.set(column, both[column] / either);
  }
}

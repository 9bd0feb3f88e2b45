/** The open photos: reading, sending, and what came back. One at a time goes to the service. */

/** @import {Photo} from "./types.js" */
import { getClasses, segment } from "./api.js";
import { counted } from "./dom.js";
import { restore } from "./keep.js";
import { difference, readMask } from "./masks.js";
import { state, tell } from "./state.js";
import { complain, say } from "./status.js";

/** @type {Promise<unknown>} */
let queue = Promise.resolve();

/**
 * Opens photos and has them segmented one after the other; the first is shown.
 * @param {File[]} files
 */
export function openPhotos(files) {
  const limits = state.index?.limits;
  const fitting = files.filter((file) => !limits || file.size <= limits.bytes);
  if (fitting.length < files.length && limits) {
    const most = (limits.bytes / 2 ** 20).toFixed(0);
    complain(`${counted(files.length - fitting.length, "file")} above ${most} MiB, the most that the service takes.`);
  }
  const photos = fitting.map(makePhoto);
  state.photos.push(...photos);
  tell("photos");
  photos.forEach((photo, place) => {
    queue = queue.then(() => first(photo, place === 0));
  });
  return queue;
}

/**
 * @param {File} file
 * @returns {Photo}
 */
function makePhoto(file) {
  return {
    name: file.name, file, id: "", bitmap: null, width: 0, height: 0, mask: null, shares: {}, truth: null,
    ious: new Map(), paint: null, strokes: [], stage: "waiting", problem: "", thumbnail: "",
  };
}

/**
 * @param {Photo} photo
 * @param {boolean} shown
 */
async function first(photo, shown) {
  if (!state.photos.includes(photo)) return;
  try {
    photo.bitmap = await createImageBitmap(photo.file);
    [photo.width, photo.height] = [photo.bitmap.width, photo.bitmap.height];
    photo.thumbnail = URL.createObjectURL(photo.file);
  } catch {
    photo.bitmap = null; // TIFF, HEIC: the service can, the browser cannot
  }
  if (shown) show(photo);
  say(`${photo.name} is being segmented …`);
  try {
    await renew(photo);
    photo.paint = await restore(photo);
    if (photo.paint && photo === state.photo) tell("paint");
    const waiting = state.photos.filter((other) => other.stage === "waiting").length;
    const kept = photo.paint ? " What you had painted on it is back." : "";
    const bare = photo.bitmap ? "" : " This browser cannot show such files: the mask is drawn on grey.";
    say(`${photo.name}: segmented in ${lastTime} ms.${kept}${bare}${waiting ? ` ${waiting} more to come.` : ""}`);
  } catch (problem) {
    photo.stage = "failed";
    photo.problem = problem instanceof Error ? problem.message : String(problem);
    complain(`${photo.name}: ${photo.problem}`);
  }
  tell("photos");
  if (photo === state.photo) tell("mask");
}

let lastTime = 0;

/**
 * Asks the service for a photo's mask, again or for the first time.
 * @param {Photo} photo
 */
async function renew(photo) {
  photo.stage = "busy";
  tell("photos");
  const answer = await segment(photo.file, photo.id);
  await see(answer.version);
  const resized = photo.width !== answer.width || photo.height !== answer.height;
  Object.assign(photo, { id: answer.id, width: answer.width, height: answer.height, shares: answer.shares });
  photo.mask = await readMask(answer);
  photo.stage = "done";
  lastTime = Math.round(answer.milliseconds.total);
  tell("photos");
  if (photo !== state.photo) return;
  if (resized) tell("photo");
  tell("mask");
}

let version = "";

/**
 * Reads the classes again when the memory is another: someone may have taught it one.
 * @param {string} current
 */
export async function see(current) {
  if (current === version) return;
  const known = version !== "";
  version = current;
  if (!known && state.classes.length) return;
  state.classes = await getClasses();
  tell("classes");
}

/**
 * Segments all open photos again, the one that is shown first.
 * @returns {Promise<{share: number, changed: Map<Photo, Uint8Array>}>} which pixels changed, and their share of all
 */
export async function renewAll() {
  /** @type {Map<Photo, Uint8Array>} */
  const changed = new Map();
  const open = state.photos.filter((photo) => photo.mask);
  open.sort((one, other) => Number(other === state.photo) - Number(one === state.photo));
  let [count, pixels] = [0, 0];
  for (const photo of open) {
    const before = photo.mask;
    await renew(photo);
    if (!before || !photo.mask || before.columns.length !== photo.mask.columns.length) continue;
    const found = difference(before, photo.mask);
    changed.set(photo, found.changed);
    count += found.count;
    pixels += found.changed.length;
  }
  return { share: pixels ? count / pixels : 0, changed };
}

/** @param {Photo} photo */
export function show(photo) {
  state.photo = photo;
  tell("photo");
  if (photo.mask) tell("mask");
}

/** @param {Photo} photo */
export function close(photo) {
  if (photo.thumbnail) URL.revokeObjectURL(photo.thumbnail);
  photo.bitmap?.close();
  state.photos = state.photos.filter((other) => other !== photo);
  tell("photos");
  if (photo !== state.photo) return;
  state.photo = state.photos[0] ?? null;
  tell("photo");
  if (state.photo?.mask) tell("mask");
}

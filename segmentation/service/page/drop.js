/** How files come in: dropped, chosen, or pasted; folders with all that is below them. */

import { need, counted } from "./dom.js";
import { openPhotos } from "./photos.js";
import { attempt, say } from "./status.js";
import { compare, sort } from "./truth.js";

const PHOTO = /\.(jpe?g|png|tiff?|bmp|webp|gif|heic|heif|avif)$/i;

/** @param {File[]} files */
async function take(files) {
  const fitting = files.filter((file) => file.type.startsWith("image/") || PHOTO.test(file.name));
  if (!fitting.length) throw new Error("There is no photo among these files. Take JPEG, PNG, TIFF or WebP.");
  if (fitting.length > 1) say(`${counted(fitting.length, "file")} …`);
  const { photos, masks } = await sort(fitting);
  if (photos.length) await openPhotos(photos);
  for (const mask of masks) await compare(mask);
}

/**
 * @param {FileSystemEntry} entry
 * @returns {Promise<File[]>}
 */
async function filesOf(entry) {
  if (entry instanceof FileSystemFileEntry) {
    return [await new Promise((done, failed) => entry.file(done, failed))];
  }
  if (!(entry instanceof FileSystemDirectoryEntry)) return [];
  const reader = entry.createReader();
  /** @type {File[]} */
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} a reader gives at most a hundred at a time */
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    some.sort((one, other) => one.name.localeCompare(other.name));
    for (const one of some) if (!one.name.startsWith(".")) found.push(...(await filesOf(one)));
  }
}

/** @param {DataTransfer} carried */
async function dropped(carried) {
  const items = [...carried.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry());
  const files = [...carried.files];
  if (entries.every((entry) => entry === null)) return files;
  /** @type {File[]} */
  const found = [];
  for (const entry of entries) if (entry) found.push(...(await filesOf(entry)));
  return found;
}

/** @param {string} id of a file input */
function chooses(id) {
  const input = need(id, HTMLInputElement);
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    input.value = ""; // so that the same file can be chosen again
    void attempt(() => take(files));
  });
}

/**
 * @param {string} button
 * @param {string} input
 */
function opens(button, input) {
  need(button, HTMLButtonElement).addEventListener("click", () => need(input, HTMLInputElement).click());
}

export function listenForFiles() {
  chooses("photo-input");
  chooses("folder-input");
  opens("choose-photos", "photo-input");
  opens("choose-folder", "folder-input");
  opens("more-photos", "photo-input");
  opens("choose-truth", "truth-input");
  const truth = need("truth-input", HTMLInputElement);
  truth.addEventListener("change", () => {
    const files = [...(truth.files ?? [])];
    truth.value = "";
    void attempt(async () => {
      for (const file of files) await compare(file);
    });
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const carried = event.dataTransfer;
    if (carried) void attempt(async () => take(await dropped(carried)));
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) void attempt(() => take(files));
  });
}

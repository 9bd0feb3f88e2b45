/** The mask as a file, in every format that the service writes. */

import { segmentAs, segmentMany } from "./api.js";
import { counted, make, need } from "./dom.js";
import { on, state } from "./state.js";
import { attempt, say } from "./status.js";

/** @param {Response} answer */
function fileName(answer) {
  const told = answer.headers.get("Content-Disposition") ?? "";
  const starred = /filename\*=UTF-8''([^;]+)/i.exec(told)?.[1];
  if (starred) return decodeURIComponent(starred);
  return /filename="?([^";]+)"?/i.exec(told)?.[1] ?? "";
}

async function download() {
  const { photo } = state;
  const name = need("format", HTMLSelectElement).value;
  const format = state.index?.formats.find((one) => one.name === name);
  if (!photo?.mask || !format) return;
  const query = new URLSearchParams({ format: name, name: photo.name });
  if (state.threshold > 0) query.set("min_confidence", String(state.threshold));
  const answer = await segmentAs(photo.file, photo.id, String(query));
  const stem = photo.name.replace(/\.[^.]*$/, "");
  const file = fileName(answer) || `${stem}-${name}.${format.extension.replace(/^\./, "")}`;
  save(await answer.blob(), file);
  say(`Saved ${file}.`);
}

/**
 * @param {Blob} content
 * @param {string} file
 */
function save(content, file) {
  const address = URL.createObjectURL(content);
  make("a", { href: address, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function downloadAll() {
  const format = need("format", HTMLSelectElement).value;
  if (state.threshold > 0) throw new Error("The zip holds whole masks. Set the confidence for blanks to 0 %, or download one by one.");
  const files = state.photos.filter((photo) => photo.mask).map((photo) => photo.file);
  say(`${counted(files.length, "mask")} …`);
  const { zip, failed } = await segmentMany(files, format, (done) => say(`${done} of ${counted(files.length, "mask")} …`));
  save(zip, `masks-${format}.zip`);
  say(`Saved masks-${format}.zip${failed ? `, without ${counted(failed, "photo")} that could not be read` : ""}.`);
}

export function listenForExport() {
  on("classes", () => {
    const formats = state.index?.formats ?? [];
    const select = need("format", HTMLSelectElement);
    if (select.options.length === formats.length) return;
    select.replaceChildren(...formats.map(({ name }) => make("option", { value: name, selected: name === "png" }, name)));
  });
  const button = need("download", HTMLButtonElement);
  button.addEventListener("click", () => void attempt(download));
  on(["photo", "mask"], () => (button.disabled = !state.photo?.mask));
  const all = need("download-all", HTMLButtonElement);
  all.addEventListener("click", () => void attempt(downloadAll));
  const select = need("format", HTMLSelectElement);
  const draw = () => {
    all.hidden = state.photos.length < 2;
    all.disabled = ["json", "overlay"].includes(select.value) || state.photos.some((photo) => photo.stage === "waiting");
  };
  on(["photos", "classes"], draw);
  select.addEventListener("change", draw);
}

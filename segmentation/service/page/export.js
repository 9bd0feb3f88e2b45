/** The mask as a file, in every format that the service writes. */

import { segmentAs } from "./api.js";
import { make, need } from "./dom.js";
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
  const address = URL.createObjectURL(await answer.blob());
  const file = fileName(answer) || `${stem}-${name}.${format.extension.replace(/^\./, "")}`;
  make("a", { href: address, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  say(`Saved ${file}.`);
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
}

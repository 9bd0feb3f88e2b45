/** One image of the memory, whole: what it holds, and its removal. */

/** @import {Box} from "./types.js" */
import { getImage, removeImage } from "./api.js";
import { confirmed } from "./dialogs.js";
import { counted, make, need, percent } from "./dom.js";
import { swatch } from "./legend.js";
import { columnOf } from "./palettes.js";
import { renewAll } from "./photos.js";
import { picture } from "./pictures.js";
import { state, tell } from "./state.js";
import { attempt, say } from "./status.js";

/**
 * @param {number} number
 * @param {Box} [box] the patch to frame
 */
export function showImage(number, box) {
  void attempt(async () => {
    const image = await getImage(number);
    const kind = image.taught ? "taught here" : image.added ? "added after the build" : "of the build";
    const shares = make("ul", { className: "shares" }, ...shareItems(image.classes));
    const parts = [
      make("h2", {}, image.id),
      make("p", {}, `${counted(image.patches, "patch")} of the memory, ${kind}.`),
      picture(number, `Memory image ${image.id}`, box),
      shares,
    ];
    const dialog = need("image-dialog", HTMLDialogElement);
    const remove = make("button", { type: "button", className: "danger" }, "Remove from the memory");
    remove.addEventListener("click", () => void attempt(() => forget(number, image.id)));
    const body = need("image-body", HTMLElement);
    body.replaceChildren(...parts, ...(state.index?.writable ? [remove] : []));
    if (!dialog.open) dialog.showModal();
  });
}

/** @param {Record<string, number>} classes */
export function shareItems(classes) {
  return Object.entries(classes)
    .filter(([, share]) => share > 0)
    .sort((one, other) => other[1] - one[1])
    .map(([name, share]) => make("li", {}, swatch(columnOf(name)), `${name} ${percent(share)}`));
}

/**
 * Removes an image of the memory, after a question, and segments what is open again.
 * @param {number} number
 * @param {string} name
 */
export async function forget(number, name) {
  const sentence = `Remove “${name}” and all its patches from the memory? This cannot be taken back.`;
  if (!(await confirmed(sentence, "Remove"))) return;
  await removeImage(number);
  state.taught = state.taught.filter((one) => one.number !== number);
  need("image-dialog", HTMLDialogElement).close();
  tell("memory");
  tell("tool");
  const { share } = await renewAll();
  say(`Removed ${name}${state.photos.length ? `, ${percent(share)} of the open photos changed` : ""}.`);
}

/** The memory: its images, their map, and the labels that look wrong. */

/** @import {MemoryImage, Suspicious} from "./types.js" */
import { getImages, getSuspicious } from "./api.js";
import { counted, make, need, percent } from "./dom.js";
import { forget, shareItems, showImage } from "./image_dialog.js";
import { swatch } from "./legend.js";
import { drawMap } from "./map.js";
import { columnOf } from "./palettes.js";
import { picture } from "./pictures.js";
import { on, state } from "./state.js";
import { attempt } from "./status.js";

const PAGE = 48;
let shown = 0;
/** Whether what is shown is of another memory. */
let stale = true;

/** @param {boolean} again from the first image on */
async function showImages(again) {
  if (again) shown = 0;
  const name = need("memory-class", HTMLSelectElement).value;
  const answer = await getImages(shown, PAGE, name);
  const grid = need("memory-images", HTMLUListElement);
  const cards = answer.images.map(card);
  if (again) grid.replaceChildren(...cards);
  else grid.append(...cards);
  shown += cards.length;
  need("memory-count", HTMLElement).textContent = `${counted(answer.total, "image")}${name ? ` with ${name}` : ""}`;
  need("memory-more", HTMLButtonElement).hidden = shown >= answer.total;
}

/** @param {MemoryImage} image */
function card(image) {
  const open = make("button", { type: "button", className: "open" }, picture(image.number, ""), make("span", { className: "name" }, image.id));
  open.addEventListener("click", () => showImage(image.number));
  const badge = image.taught ? "taught" : image.added ? "added" : "";
  /** @type {HTMLElement[]} */
  const parts = [open, make("ul", { className: "shares" }, ...shareItems(image.classes).slice(0, 4))];
  if (badge) parts.push(make("span", { className: "badge" }, badge));
  if (state.index?.writable) {
    const remove = make("button", { type: "button", className: "quiet", "aria-label": `Remove ${image.id}` }, "Remove");
    remove.addEventListener("click", () => void attempt(() => forget(image.number, image.id)));
    parts.push(remove);
  }
  return make("li", {}, ...parts);
}

async function showSuspicious() {
  const { patches } = await getSuspicious();
  need("suspicious-count", HTMLElement).textContent = patches.length
    ? `${counted(patches.length, "patch")} whose neighbours say something else. Look at them first when masks are wrong.`
    : "No patch has a label that its neighbours contradict.";
  need("suspicious-list", HTMLUListElement).replaceChildren(...patches.map(suspicion));
}

/** @param {Suspicious} patch */
function suspicion(patch) {
  const { labelled, neighbors_say: others } = patch;
  const button = make(
    "button", { type: "button", className: "vote" },
    picture(patch.number, "", patch.box, true),
    make("span", { className: "vote-text" },
      make("span", {}, "labelled ", said(labelled)),
      make("span", {}, "neighbours say ", said(others))),
  );
  button.addEventListener("click", () => showImage(patch.number, patch.box));
  return make("li", {}, button);
}

/** @param {{name: string, share: number}} label */
function said({ name, share }) {
  return make("span", { className: "named" }, swatch(columnOf(name)), `${name} ${percent(share)}`);
}

async function refresh() {
  stale = false;
  const select = need("memory-class", HTMLSelectElement);
  const chosen = select.value;
  const options = state.classes.map(({ name }) => make("option", { value: name }, name));
  select.replaceChildren(make("option", { value: "" }, "All classes"), ...options);
  select.value = state.classes.some(({ name }) => name === chosen) ? chosen : "";
  await showImages(true);
  await drawMap();
  await showSuspicious();
}

/** @param {"photos" | "memory"} view */
function turnTo(view) {
  for (const name of ["photos", "memory"]) {
    need(name, HTMLElement).hidden = name !== view;
    need(`to-${name}`, HTMLButtonElement).setAttribute("aria-pressed", String(name === view));
  }
  if (view === "memory" && stale) void attempt(refresh);
}

export function listenForMemory() {
  for (const view of /** @type {const} */ (["photos", "memory"])) {
    need(`to-${view}`, HTMLButtonElement).addEventListener("click", () => turnTo(view));
  }
  need("memory-more", HTMLButtonElement).addEventListener("click", () => void attempt(() => showImages(false)));
  need("memory-class", HTMLSelectElement).addEventListener("change", () => void attempt(() => showImages(true)));
  on("memory", () => {
    stale = true;
    if (!need("memory", HTMLElement).hidden) void attempt(refresh);
  });
  on("look", () => (stale = true)); // the palette may be another
}

/** Starts the page: asks what the service has, and connects the parts. */

import { asked, getClasses, getIndex } from "./api.js";
import { askKey, listenForDialogs } from "./dialogs.js";
import { counted, need } from "./dom.js";
import { listenForFiles } from "./drop.js";
import { showExplanations } from "./explain.js";
import { listenForExport } from "./export.js";
import { chooseTool, listenForKeys } from "./keys.js";
import { showLegend } from "./legend.js";
import { listenForMemory } from "./memory.js";
import { see } from "./photos.js";
import { listenOnStage } from "./pointer.js";
import { on, state, tell } from "./state.js";
import { attempt, say } from "./status.js";
import { listenForTeaching } from "./teach.js";
import { score } from "./truth.js";
import { main, showViewer } from "./viewer.js";

function listenForTools() {
  const buttons = [...document.querySelectorAll("button[data-tool]")];
  for (const button of buttons) {
    if (!(button instanceof HTMLButtonElement)) continue;
    button.addEventListener("click", () => chooseTool(/** @type {import("./state.js").Tool} */ (button.dataset.tool)));
  }
  on("tool", () => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.getAttribute("data-tool") === state.tool));
    }
    main.root.dataset.tool = state.tool;
  });
  need("zoom-in", HTMLButtonElement).addEventListener("click", () => main.zoom(1.5));
  need("zoom-out", HTMLButtonElement).addEventListener("click", () => main.zoom(1 / 1.5));
  need("zoom-fit", HTMLButtonElement).addEventListener("click", () => main.fit());
}

function showFacts() {
  const { index, classes } = state;
  if (!index) return;
  need("facts", HTMLElement).textContent =
    `${index.name}: ${counted(index.rows, "patch")} of ${counted(index.images, "image")}, ${counted(classes.length, "class")}`;
}

/** After a change of the memory: its sizes, and its classes. */
async function look() {
  state.index = await getIndex();
  await see(state.index.version);
  showFacts();
}

async function start() {
  const [index, classes] = await Promise.all([getIndex(), getClasses()]);
  state.index = index;
  state.classes = classes;
  await see(index.version);
  document.title = `${index.name} · Mycelia`;
  showFacts();
  tell("classes");
  tell("tool");
  say("Ready.");
}

asked.key = askKey;
asked.wait = (seconds) => say(`The service is busy. The page asks again in ${counted(seconds, "second")}.`);
listenForDialogs();
showViewer();
showLegend();
showExplanations();
listenForTeaching();
listenOnStage();
listenForKeys();
listenForFiles();
listenForExport();
listenForMemory();
listenForTools();
// before the legend is drawn, so that it has the new figures
on("mask", () => {
  if (state.photo?.truth) {
    score(state.photo);
    tell("look");
  }
});
on("memory", () => void attempt(look));
on("classes", showFacts);
void attempt(start);

/** The one line that says what happened; a live region, so that it is read aloud. */

import { need } from "./dom.js";

/** @param {string} text */
export function say(text) {
  show(text, "said");
}

/** @param {unknown} problem what was thrown, or a sentence */
export function complain(problem) {
  show(problem instanceof Error ? problem.message : String(problem), "problem");
}

/**
 * @param {string} text
 * @param {string} kind
 */
function show(text, kind) {
  const line = need("status", HTMLElement);
  line.dataset.kind = kind;
  line.textContent = text;
}

/**
 * Runs what a person asked for; what goes wrong becomes a sentence.
 * @param {() => Promise<void>} work
 */
export async function attempt(work) {
  try {
    await work();
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") return;
    complain(problem);
  }
}

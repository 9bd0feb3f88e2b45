/** Forms that come up: the key, a question, help. */

import { ServiceError } from "./api.js";
import { need } from "./dom.js";

/**
 * Shows a dialog with a form until it is sent or closed.
 * @param {HTMLDialogElement} dialog
 * @returns {Promise<boolean>} whether it was sent
 */
function shown(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

/**
 * Asks for the service's key.
 * @param {boolean} wrong whether one was given that the service refused
 */
export async function askKey(wrong) {
  const input = need("key", HTMLInputElement);
  input.value = "";
  need("key-text", HTMLElement).textContent = wrong
    ? "The service does not know this key. Give another."
    : "This service asks for a key. Whoever runs it can tell it to you.";
  if (!(await shown(need("key-dialog", HTMLDialogElement))) || !input.value) {
    throw new ServiceError("The service wants a key. Load the page again to give one.", 401);
  }
  return input.value.trim();
}

/**
 * @param {string} question
 * @param {string} action what the button says
 */
export function confirmed(question, action) {
  need("confirm-text", HTMLElement).textContent = question;
  need("confirm-yes", HTMLButtonElement).textContent = action;
  return shown(need("confirm-dialog", HTMLDialogElement));
}

export function showHelp() {
  const dialog = need("help-dialog", HTMLDialogElement);
  if (!dialog.open) dialog.showModal();
}

export function listenForDialogs() {
  need("help", HTMLButtonElement).addEventListener("click", showHelp);
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside it
    });
    for (const shut of dialog.querySelectorAll("[data-close]")) shut.addEventListener("click", () => dialog.close());
  }
}

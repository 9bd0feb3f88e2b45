/** Thumbnails of memory images. */

/** @import {Box} from "./types.js" */
import { thumbnail } from "./api.js";
import { frame, make } from "./dom.js";

/**
 * A memory image, small, with a patch framed; it is fetched when it comes near the window.
 * @param {number} number
 * @param {string} alt
 * @param {Box} [box] in shares 0..1 of the image
 * @param {boolean} [near] whether only the surroundings of the patch are shown
 */
export function picture(number, alt, box, near = false) {
  const image = make("img", { alt, decoding: "async" });
  const sheet = make("span", { className: "picture-sheet" }, image);
  const shell = make("span", { className: "picture" }, sheet);
  if (box) sheet.append(frame(box));
  if (box && near) zoomTo(sheet, box);
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      thumbnail(number).then(
        (address) => {
          image.src = address;
          shell.classList.add("loaded");
        },
        () => shell.classList.add("missing"),
      );
    },
    { rootMargin: "200px" },
  );
  watch.observe(shell);
  return shell;
}

/** The share of the width that a patch then takes. */
const SHARE = 0.2;

/**
 * @param {HTMLElement} sheet
 * @param {Box} box
 */
function zoomTo(sheet, box) {
  const zoom = Math.max(1, Math.min(8, SHARE / Math.max(box.right - box.left, box.bottom - box.top, 0.001)));
  // the patch in the middle, as far as the picture's edges let it
  const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2].map((middle) =>
    Math.min(0, Math.max(1 - zoom, 0.5 - middle * zoom)),
  );
  sheet.style.transform = `translate(${100 * x}%, ${100 * y}%) scale(${zoom})`;
  sheet.style.setProperty("--thin", `${1 / zoom}px`);
}

/** Thumbnails of memory images. */

/** @import {Box} from "./types.js" */
import { thumbnail } from "./api.js";
import { frame, make } from "./dom.js";

/**
 * A memory image, small, with a patch framed; it is fetched when it comes near the window.
 * @param {number} number
 * @param {string} alt
 * @param {Box} [box] in shares 0..1 of the image
 */
export function picture(number, alt, box) {
  const image = make("img", { alt, decoding: "async" });
  const shell = make("span", { className: "picture" }, image);
  if (box) shell.append(frame(box));
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      thumbnail(number).then(
        (address) => (image.src = address),
        () => shell.classList.add("missing"),
      );
    },
    { rootMargin: "200px" },
  );
  watch.observe(shell);
  return shell;
}

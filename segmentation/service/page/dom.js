/** Short words for the document. */

/**
 * The element with this id, of the type asked for.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function need(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} named ${id}.`);
  return found;
}

/**
 * A new element with properties (`aria-*` and `role` as attributes) and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "role" || name === "for" || name.includes("-")) element.setAttribute(name, String(value));
    else Object.assign(element, { [name]: value });
  }
  element.append(...children);
  return element;
}

/**
 * A share as people read it: "0.4 %", "37 %".
 * @param {number} share of 0..1
 */
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/**
 * A number with its noun, in the plural where it is one.
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : /(ch|ss)$/.test(noun) ? "es" : "s"}`;
}

/**
 * A frame over a picture: `box` in shares 0..1 of it.
 * @param {{top: number, left: number, bottom: number, right: number}} box
 */
export function frame(box) {
  const element = make("span", { className: "frame", "aria-hidden": "true" });
  element.style.left = `${100 * box.left}%`;
  element.style.top = `${100 * box.top}%`;
  element.style.width = `${100 * (box.right - box.left)}%`;
  element.style.height = `${100 * (box.bottom - box.top)}%`;
  return element;
}

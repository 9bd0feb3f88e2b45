/** The service: every request the page makes, and what its refusals mean. */

/** @import {ClassInfo, ExplainAnswer, ImagesAnswer, IndexInfo, MapAnswer, MemoryImage, Packed, SegmentAnswer, SuspiciousAnswer, TeachAnswer} from "./types.js" */

const KEY = "mycelia-key";
const TRIES = 6;

/** What the service refused, or that it is gone (status 0); the message is for people. */
export class ServiceError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** What the page does when the service wants a key or time. */
export const asked = {
  /** @type {(wrong: boolean) => Promise<string>} the key, from a form; rejects when nobody gives one */
  key: async () => Promise.reject(new ServiceError("The service wants a key.", 401)),
  /** @type {(seconds: number) => void} */
  wait: () => {},
};

/** @type {Promise<string> | null} several requests wait for one form */
let asking = null;

/**
 * @param {string} path below /v1/
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function request(path, options = {}) {
  for (let attempt = 1; ; attempt++) {
    const key = sessionStorage.getItem(KEY);
    const headers = new Headers(options.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    const answer = await send(path, { ...options, headers });
    if (answer.ok) return answer;
    if (answer.status === 401) {
      asking ??= asked.key(key !== null).finally(() => (asking = null));
      sessionStorage.setItem(KEY, await asking);
    } else if (mayRetry(answer) && attempt < TRIES) {
      const seconds = Math.min(Number(answer.headers.get("Retry-After")) || attempt, 30);
      asked.wait(seconds);
      await new Promise((done) => setTimeout(done, 1000 * seconds));
    } else {
      throw new ServiceError(await reason(answer), answer.status);
    }
  }
}

/**
 * Whether the service has no time now, or another process changes its index: neither did anything.
 * @param {Response} answer
 */
function mayRetry({ status, headers }) {
  return status === 429 || (status === 503 && headers.has("Retry-After"));
}

/**
 * @param {string} path
 * @param {RequestInit} options
 */
async function send(path, options) {
  try {
    return await fetch(new URL(`v1/${path}`, document.baseURI), options);
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") throw problem;
    throw new ServiceError("The service does not answer. See whether `mycelia serve` still runs, then try again.", 0);
  }
}

/** @param {Response} answer */
async function reason(answer) {
  if (answer.status === 429) return "The service is busy with other photos. Try again in a minute.";
  try {
    return String((await answer.json()).error.message);
  } catch {
    return `The service answered with status ${answer.status}. Its log says why.`;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function json(path, options) {
  return (await request(path, options)).json();
}

/** @param {unknown} body */
function posted(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** @returns {Promise<IndexInfo>} */
export const getIndex = () => json("index");

/** @returns {Promise<ClassInfo[]>} */
export const getClasses = async () => (await json("classes")).classes;

/**
 * The mask of a photo: by its id where the service knows it, else by its bytes.
 * @param {File} file
 * @param {string} id empty for a new photo
 * @returns {Promise<SegmentAnswer>}
 */
export async function segment(file, id) {
  return (await segmentAs(file, id, "")).json();
}

/**
 * The mask in a format, as the service would write it.
 * @param {File} file
 * @param {string} id
 * @param {string} query what follows the question mark
 */
export async function segmentAs(file, id, query) {
  const suffix = query ? `?${query}` : "";
  if (id) {
    try {
      return await request(`segment/${id}${suffix}`, { method: "POST" });
    } catch (problem) {
      if (!(problem instanceof ServiceError && problem.status === 404)) throw problem;
    }
  }
  const form = new FormData();
  form.append("image", file, file.name);
  return request(`segment${suffix}`, { method: "POST", body: form });
}

/**
 * @param {string} id
 * @param {number} row
 * @param {number} col
 * @param {AbortSignal} signal
 * @returns {Promise<ExplainAnswer>}
 */
export const explain = (id, row, col, signal) => json("explain", { ...posted({ id, row, col }), signal });

/**
 * @param {number} offset
 * @param {number} limit
 * @param {string} name of a class, or empty for all
 * @returns {Promise<ImagesAnswer>}
 */
export function getImages(offset, limit, name) {
  const query = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  if (name) query.set("class", name);
  return json(`images?${query}`);
}

/**
 * @param {number} number
 * @returns {Promise<MemoryImage>}
 */
export const getImage = (number) => json(`images/${number}`);

/** @param {number} number */
export const removeImage = (number) => json(`images/${number}`, { method: "DELETE" });

/**
 * @param {string} id
 * @param {string[]} classes
 * @param {Packed} mask
 * @returns {Promise<TeachAnswer>}
 */
export const teach = (id, classes, mask) => json("teach", posted({ id, classes, mask }));

/** @returns {Promise<MapAnswer>} */
export const getMap = () => json("map");

/** @returns {Promise<SuspiciousAnswer>} */
export const getSuspicious = () => json("suspicious?limit=50");

/**
 * Has many photos written in a format, and waits until that is done.
 * @param {File[]} files
 * @param {string} format
 * @param {(completed: number) => void} told how many are done
 * @returns {Promise<{zip: Blob, failed: number}>}
 */
export async function segmentMany(files, format, told) {
  const form = new FormData();
  for (const file of files) form.append("image", file, file.name);
  let job = await json(`jobs?${new URLSearchParams({ format })}`, { method: "POST", body: form });
  while (!["done", "failed"].includes(job.state)) {
    await new Promise((done) => setTimeout(done, 300));
    job = await json(`jobs/${job.job}`);
    told(job.completed);
  }
  if (job.state === "failed") throw new ServiceError("The service could not write the masks. Its log says why.", 500);
  const zip = await (await request(`jobs/${job.job}/result`)).blob();
  await json(`jobs/${job.job}`, { method: "DELETE" });
  return { zip, failed: job.failed.length };
}

/** @type {Map<number, Promise<string>>} */
const thumbnails = new Map();

/**
 * The address of a memory image's thumbnail. A key cannot travel with an <img>, so it is fetched.
 * @param {number} number
 */
export function thumbnail(number) {
  const known = thumbnails.get(number);
  if (known) return known;
  const address = request(`images/${number}/thumbnail`).then(async (answer) => URL.createObjectURL(await answer.blob()));
  thumbnails.set(number, address);
  address.catch(() => thumbnails.delete(number));
  return address;
}

/** Strokes are kept in the browser before anything is sent, so that a failure or a closed tab loses none. */

/** @import {Paint, Photo} from "./types.js" */

const STORE = "strokes";

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((done, failed) => {
    const asked = indexedDB.open("mycelia", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => done(asked.result);
    asked.onerror = () => failed(asked.error);
  });
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} work
 * @returns {Promise<T | undefined>} undefined where the browser keeps nothing (a private window)
 */
async function using(mode, work) {
  try {
    const database = await open();
    return await new Promise((done, failed) => {
      const asked = work(database.transaction(STORE, mode).objectStore(STORE));
      asked.onsuccess = () => done(asked.result);
      asked.onerror = () => failed(asked.error);
    });
  } catch {
    return undefined;
  }
}

/**
 * Keeps what is painted on a photo, or forgets it when nothing is.
 * @param {Photo} photo
 */
export async function keep(photo) {
  const { id, paint } = photo;
  if (!id) return;
  if (paint) await using("readwrite", (store) => store.put(paint, id));
  else await using("readwrite", (store) => store.delete(id));
}

/**
 * What was painted on a photo before, where it still fits.
 * @param {Photo} photo
 * @returns {Promise<Paint | null>}
 */
export async function restore(photo) {
  /** @type {Paint | undefined} */
  const found = await using("readonly", (store) => store.get(photo.id));
  return found && found.width === photo.width && found.height === photo.height ? found : null;
}

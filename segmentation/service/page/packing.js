/** Masks as the service sends and takes them: zlib, then base64. */

/** @import {Packed} from "./types.js" */

/**
 * @param {BlobPart} bytes
 * @param {CompressionStream | DecompressionStream} stream
 */
async function through(bytes, stream) {
  const piped = new Blob([bytes]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(piped).arrayBuffer());
}

/** @param {Uint8Array<ArrayBuffer>} bytes of zlib */
export function inflate(bytes) {
  return through(bytes, new DecompressionStream("deflate"));
}

/**
 * The values of a packed array, row by row.
 * @param {Packed} packed
 * @returns {Promise<Uint8Array | Uint16Array>}
 */
export async function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  const values = await inflate(bytes);
  // typed arrays are little-endian wherever a browser runs, and so is what is sent
  return packed.dtype === "uint16" ? new Uint16Array(values.buffer) : values;
}

/**
 * @param {Uint8Array<ArrayBuffer>} values
 * @param {number} height
 * @param {number} width
 * @returns {Promise<Packed>}
 */
export async function pack(values, height, width) {
  const bytes = await through(values, new CompressionStream("deflate"));
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return { encoding: "deflate", dtype: "uint8", shape: [height, width], data: btoa(text) };
}

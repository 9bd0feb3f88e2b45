/**
 * What the modules hand one another. Read by the type check alone: no module loads this file.
 *
 * @typedef {{id: number, name: string, color: number[]}} ClassInfo
 * @typedef {{name: string, extension: string, media_type: string}} FormatInfo
 * @typedef {{name: string, rows: number, images: number, engine: string, model: string, classes: unknown,
 *   writable: boolean, formats: FormatInfo[], limits: {bytes: number, pixels: number}, version: string}} IndexInfo
 * @typedef {{encoding: string, dtype: string, shape: number[], data: string}} Packed
 * @typedef {{id: string, width: number, height: number, mask: Packed, confidence: Packed | null,
 *   shares: Record<string, number>, milliseconds: Record<string, number>, version: string}} SegmentAnswer
 * @typedef {{top: number, left: number, bottom: number, right: number}} Box
 * @typedef {{number: number, image: string, row: number, col: number, box: Box, similarity: number,
 *   weight: number, classes: Record<string, number>}} Neighbor
 * @typedef {{row: number, col: number, class: {name: string, column: number, confidence: number}, patch: Box,
 *   neighbors: Neighbor[]}} ExplainAnswer
 * @typedef {{number: number, id: string, patches: number, added?: boolean, taught?: boolean,
 *   classes: Record<string, number>}} MemoryImage
 * @typedef {{total: number, images: MemoryImage[]}} ImagesAnswer
 * @typedef {{number: number, patches: number, milliseconds: number | Record<string, number>}} TeachAnswer
 * @typedef {{x: number, y: number, column: number, number: number, row: number, col: number}} MapPoint
 * @typedef {{points: MapPoint[]}} MapAnswer
 * @typedef {{number: number, row: number, col: number, box: Box, labelled: {name: string, share: number},
 *   neighbors_say: {name: string, share: number}}} Suspicious
 * @typedef {{patches: Suspicious[]}} SuspiciousAnswer
 *
 * The class column of each pixel, row by row; the largest value of the type is "nothing". Confidence 0..255.
 * @typedef {{width: number, height: number, columns: Uint8Array | Uint16Array, confidence: Uint8Array | null}} Mask
 *
 * Pixels x in [left, right), y in [top, bottom).
 * @typedef {{left: number, top: number, right: number, bottom: number}} Rect
 *
 * What was painted: each pixel indexes `names`; 255 is not painted.
 * @typedef {{width: number, height: number, names: string[], pixels: Uint8Array}} Paint
 *
 * @typedef {{name: string, file: File, id: string, bitmap: ImageBitmap | null, width: number, height: number,
 *   mask: Mask | null, shares: Record<string, number>, truth: Mask | null, ious: Map<number, number>,
 *   paint: Paint | null, strokes: {rect: Rect, before: Uint8Array}[], stage: "waiting" | "busy" | "done" | "failed",
 *   problem: string, thumbnail: string}} Photo
 *
 * How a layer is coloured: RGBA of each class column and of each painted name, and what fades what.
 * @typedef {{colors: Uint8Array, paint: Uint8Array, opacity: number, threshold: number, patterns: boolean,
 *   flash: number}} Look
 *
 * @typedef {{setMask(mask: Mask): void, setPaint(paint: Paint | null): void, setChanged(changed: Uint8Array | null):
 *   void, draw(look: Look, rect?: Rect): void, kind: string}} Layer
 */
export {};

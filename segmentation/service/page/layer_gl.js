/** A mask drawn by the graphics card: sliders and switches then cost nothing, whatever the photo's size. */

/** @import {Layer, Look, Mask, Paint, Rect} from "./types.js" */
import { stripe } from "./layer_2d.js";

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D mask, confidence, painted, changed;
uniform sampler2D colors, paints;
uniform int height, period;
uniform float opacity, flash;
uniform uint threshold;
uniform bool patterns;
out vec4 color;

bool inPattern(int column, int row, int col) {
  int kind = column % 4;
  if (kind == 0) return true;
  int along = kind == 1 ? row + col : kind == 2 ? row - col + 65536 * period : row;
  return along % period < period / 2;
}

void main() {
  ivec2 at = ivec2(int(gl_FragCoord.x), height - 1 - int(gl_FragCoord.y));
  int paint = int(texelFetch(painted, at, 0).r);
  int column = int(texelFetch(mask, at, 0).r);
  if (paint != 255) {
    bool edge = (at.x + at.y) % period < period / 4;
    color = vec4(edge ? vec3(1.0) : texelFetch(paints, ivec2(paint, 0), 0).rgb, 0.85);
  } else if (flash > 0.0 && texelFetch(changed, at, 0).r != 0u) {
    color = vec4(1.0, 1.0, 1.0, 0.9 * flash);
  } else if (texelFetch(confidence, at, 0).r < threshold || column >= textureSize(colors, 0).x) {
    color = vec4(0.0);
  } else {
    vec4 own = texelFetch(colors, ivec2(column, 0), 0);
    bool thin = patterns && !inPattern(column, at.y, at.x);
    color = vec4(own.rgb, own.a * opacity * (thin ? 0.45 : 1.0));
  }
}`;

const UNITS = ["mask", "confidence", "painted", "changed", "colors", "paints"];

/** From here on a graphics card that is software is slower than the canvas. */
const SOFTWARE_PIXELS = 1_000_000;

/** @param {WebGL2RenderingContext} gl */
function isSoftware(gl) {
  const told = gl.getExtension("WEBGL_debug_renderer_info");
  return told !== null && /swiftshader|llvmpipe|software|basic render/i.test(gl.getParameter(told.UNMASKED_RENDERER_WEBGL));
}

/**
 * @param {HTMLCanvasElement} canvas with its size set
 * @returns {Layer | null} null where the browser cannot
 */
export function makeLayerGl(canvas) {
  const options = { premultipliedAlpha: false, antialias: false, depth: false, preserveDrawingBuffer: true };
  // asked of another canvas first: one that gave WebGL gives no 2-D context any more
  const probe = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  if (!probe) return null;
  const most = probe.getParameter(probe.MAX_TEXTURE_SIZE);
  const slow = isSoftware(probe) && canvas.width * canvas.height > SOFTWARE_PIXELS;
  probe.getExtension("WEBGL_lose_context")?.loseContext();
  if (slow || Math.max(canvas.width, canvas.height) > most) return null;
  const gl = canvas.getContext("webgl2", options);
  return gl instanceof WebGL2RenderingContext ? new LayerGl(gl) : null;
}

/** @implements {Layer} */
class LayerGl {
  kind = "webgl2";
  /** @type {WebGLTexture[]} */ #textures = [];
  /** @type {Paint | null} */ #paint = null;
  /** @type {Mask | null} */ #mask = null;

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    this.program = link(gl);
    gl.useProgram(this.program);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    UNITS.forEach((name, unit) => {
      this.#textures.push(gl.createTexture());
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.#textures[unit]);
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
      gl.uniform1i(gl.getUniformLocation(this.program, name), unit);
    });
    this.#upload("mask", Uint8Array.of(255), 1, 1);
    this.#upload("confidence", Uint8Array.of(255), 1, 1);
    this.setPaint(null);
    this.setChanged(null);
  }

  /**
   * @param {string} name
   * @param {Uint8Array | Uint16Array} values
   * @param {number} width
   * @param {number} height
   */
  #upload(name, values, width, height) {
    const { gl } = this;
    const [format, type] =
      values instanceof Uint16Array ? [gl.R16UI, gl.UNSIGNED_SHORT] : [gl.R8UI, gl.UNSIGNED_BYTE];
    gl.activeTexture(gl.TEXTURE0 + UNITS.indexOf(name));
    gl.texImage2D(gl.TEXTURE_2D, 0, format, width, height, 0, gl.RED_INTEGER, type, values);
  }

  /**
   * @param {string} name
   * @param {number} value what every pixel has
   */
  #uploadEven(name, value) {
    const { drawingBufferWidth: width, drawingBufferHeight: height } = this.gl;
    this.#upload(name, new Uint8Array(width * height).fill(value), width, height);
  }

  /** @param {Mask} mask */
  setMask(mask) {
    this.#mask = mask;
    this.#upload("mask", mask.columns, mask.width, mask.height);
    if (mask.confidence) this.#upload("confidence", mask.confidence, mask.width, mask.height);
    else this.#uploadEven("confidence", 255);
  }

  /** @param {Paint | null} paint */
  setPaint(paint) {
    this.#paint = paint;
    if (paint) this.#upload("painted", paint.pixels, paint.width, paint.height);
    else this.#uploadEven("painted", 255);
  }

  /** @param {Uint8Array | null} changed */
  setChanged(changed) {
    if (changed && this.#mask) this.#upload("changed", changed, this.#mask.width, this.#mask.height);
    else this.#uploadEven("changed", 0);
  }

  /**
   * @param {Look} look
   * @param {Rect} [rect] what was painted since: only this is sent to the card and drawn
   */
  draw(look, rect) {
    const { gl } = this;
    if (rect && this.#paint) this.#sendPaint(this.#paint, rect);
    const area = rect ?? { left: 0, top: 0, right: gl.drawingBufferWidth, bottom: gl.drawingBufferHeight };
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(area.left, gl.drawingBufferHeight - area.bottom, area.right - area.left, area.bottom - area.top);
    for (const [name, table] of /** @type {[string, Uint8Array][]} */ ([["colors", look.colors], ["paints", look.paint]])) {
      const row = table.length ? table : new Uint8Array(4);
      gl.activeTexture(gl.TEXTURE0 + UNITS.indexOf(name));
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, row.length / 4, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, row);
    }
    /** @param {string} name */
    const place = (name) => gl.getUniformLocation(this.program, name);
    gl.uniform1i(place("height"), gl.drawingBufferHeight);
    gl.uniform1i(place("period"), stripe(gl.drawingBufferWidth));
    gl.uniform1f(place("opacity"), look.opacity);
    gl.uniform1f(place("flash"), look.flash);
    gl.uniform1ui(place("threshold"), look.threshold);
    gl.uniform1i(place("patterns"), Number(look.patterns));
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /**
   * @param {Paint} paint
   * @param {Rect} rect
   */
  #sendPaint(paint, rect) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + UNITS.indexOf("painted"));
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, paint.width);
    const [wide, high] = [rect.right - rect.left, rect.bottom - rect.top];
    const first = rect.top * paint.width + rect.left;
    gl.texSubImage2D(gl.TEXTURE_2D, 0, rect.left, rect.top, wide, high, gl.RED_INTEGER, gl.UNSIGNED_BYTE, paint.pixels, first);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
  }
}

/** @param {WebGL2RenderingContext} gl */
function link(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]])) {
    const shader = gl.createShader(kind);
    if (!shader) throw new Error("The graphics card takes no shader.");
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`Shader: ${gl.getProgramInfoLog(program)}`);
  return program;
}

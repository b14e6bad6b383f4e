/** Edges of pictures as maps that control other pictures. */
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/picture.ts";

/** Options of `canny`. */
export interface CannyOptions {
  /** Gradients above `high` are edges; those above `low` are where they touch one. Default 100 and 200. */
  readonly low?: number;
  readonly high?: number;
  /** Length of the gradient as the root of squares; default false: as the sum of its parts, as OpenCV does by default. */
  readonly l2?: boolean;
}

const STRONG = 2;
const WEAK = 1;
/** tan(22.5°) in fixed point of 15 bits, as OpenCV has it. */
const TAN = Math.round(Math.tan(Math.PI / 8) * 2 ** 15);

interface Gradients {
  readonly dx: Int32Array;
  readonly dy: Int32Array;
  /** Length, of the channel where it is largest. */
  readonly length: Float64Array;
}

/** Sobel gradients of 3 x 3; borders repeat the outermost pixels. */
function sobel({ width, height, channels, data }: Picture, l2: boolean): Gradients {
  const plane = width * height;
  const [dx, dy, length] = [new Int32Array(plane), new Int32Array(plane), new Float64Array(plane)];
  const used = channels === 4 ? 3 : channels;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [up, down] = [Math.max(0, y - 1), Math.min(height - 1, y + 1)];
      const [left, right] = [Math.max(0, x - 1), Math.min(width - 1, x + 1)];
      const at = y * width + x;
      length[at] = -1;
      for (let c = 0; c < used; c++) {
        const v = (row: number, column: number): number => data[(row * width + column) * channels + c]!;
        const gx =
          v(up, right) + 2 * v(y, right) + v(down, right) - v(up, left) - 2 * v(y, left) - v(down, left);
        const gy =
          v(down, left) + 2 * v(down, x) + v(down, right) - v(up, left) - 2 * v(up, x) - v(up, right);
        const own = l2 ? gx * gx + gy * gy : Math.abs(gx) + Math.abs(gy);
        if (own <= length[at]!) continue;
        [dx[at], dy[at], length[at]] = [gx, gy, own];
      }
    }
  return { dx, dy, length };
}

/** Whether a gradient is the largest along its own direction. */
function isRidge(
  { dx, dy, length }: Gradients,
  at: number,
  x: number,
  y: number,
  width: number,
  height: number,
): boolean {
  const far = (right: number, down: number): number =>
    x + right < 0 || x + right >= width || y + down < 0 || y + down >= height
      ? 0
      : length[at + down * width + right]!;
  const own = length[at]!;
  const [ax, ay] = [Math.abs(dx[at]!), Math.abs(dy[at]!) * 2 ** 15];
  if (ay < ax * TAN) return own > far(-1, 0) && own >= far(1, 0);
  if (ay > ax * TAN + ax * 2 ** 16) return own > far(0, -1) && own >= far(0, 1);
  const side = (dx[at]! ^ dy[at]!) < 0 ? -1 : 1;
  return own > far(-side, -1) && own > far(side, 1);
}

/**
 * Edges of a picture of 8 bits (Canny 1986): 255 on them, 0 elsewhere, one channel; the conventions are OpenCV's with its
 * window of 3. @throws ArgumentError for thresholds that are not 0 or more, and pictures of other depth
 */
export function canny(picture: Picture, { low = 100, high = 200, l2 = false }: CannyOptions = {}): Picture {
  const { width, height, data } = picture;
  if (!(low >= 0 && high >= 0 && Number.isFinite(low + high)))
    throw new ArgumentError(`canny: expected thresholds of 0 or more, got ${low} and ${high}`);
  if (!(data instanceof Uint8Array)) throw new ArgumentError("canny: expected a picture of 8 bits");
  const [below, above] = [Math.min(low, high), Math.max(low, high)].map((v) =>
    l2 ? v * v : Math.floor(v),
  ) as [number, number];
  const gradients = sobel(picture, l2);
  const found = new Uint8Array(width * height);
  const open: number[] = [];
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at++) {
      const own = gradients.length[at]!;
      if (own <= below || !isRidge(gradients, at, x, y, width, height)) continue;
      found[at] = own > above ? STRONG : WEAK;
      if (own > above) open.push(at);
    }
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const x = at % width;
    for (const down of [-width, 0, width])
      for (const right of [-1, 0, 1]) {
        const next = at + down + right;
        if (x + right < 0 || x + right >= width || found[next] !== WEAK) continue;
        found[next] = STRONG;
        open.push(next);
      }
  }
  return { width, height, channels: 1, data: found.map((v) => (v === STRONG ? 255 : 0)) };
}

/** A drawing as white lines on black, which is what edge maps are: paper that is light on the whole is inverted. */
export function sketchMap({ width, height, channels, data }: Picture): Picture {
  const top = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65_535 : 1;
  const gray = Float64Array.from({ length: width * height }, (_, i) => {
    const v = (c: number): number => data[i * channels + c]! / top;
    const luma = channels < 3 ? v(0) : 0.299 * v(0) + 0.587 * v(1) + 0.114 * v(2);
    const alpha = channels === 2 || channels === 4 ? v(channels - 1) : 1;
    return 1 - alpha * (1 - luma); // on white paper
  });
  const light = gray.reduce((a, b) => a + b, 0) / gray.length > 0.5;
  return {
    width,
    height,
    channels: 1,
    data: Uint8Array.from(gray, (v) => Math.round(255 * (light ? 1 - v : v))),
  };
}

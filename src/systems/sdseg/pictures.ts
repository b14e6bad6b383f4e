/** Pictures before and after the networks: checks with helpful errors, channels, padding. */
import { ArgumentError, DTypeError, NonFiniteError, ShapeError } from "../../errors.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import type { SDSegConfig } from "./config.ts";

/** A little more than 1: values that were rounded on the way are fine. */
const LIMIT = 1.001;

/**
 * Pictures as the vision encoder takes them: gray repeated or colours made gray as the model needs. @throws ShapeError
 * for other shapes and sizes that are no multiples of `stride`, NonFiniteError, ArgumentError for values outside [-1, 1]
 */
export async function checkPictures(
  image: Tensor,
  { imageChannels }: SDSegConfig,
  stride: number,
): Promise<Tensor> {
  if (image.dtype !== "f32") throw new DTypeError(`SDSeg: pictures must be f32, got ${image.dtype}`);
  const [n, channels, height, width] = image.shape as [number, number, number, number];
  if (image.rank !== 4 || (channels !== 1 && channels !== 3))
    throw new ShapeError(`SDSeg: expected pictures [N, 1 or 3, H, W], got [${image.shape.join(", ")}]`);
  if (height % stride !== 0 || width % stride !== 0)
    throw new ShapeError(
      `SDSeg: height and width must be multiples of the total stride ${stride}, got ${height} x ${width}; ` +
        "with pad: true the picture is extended",
    );
  const values = (await image.data()) as Float32Array;
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!;
    if (!Number.isFinite(v)) throw new NonFiniteError(`SDSeg: the picture has ${v} at element ${i}`);
    if (Math.abs(v) > LIMIT)
      throw new ArgumentError(
        `SDSeg: the picture must be in [-1, 1], got ${v} at element ${i}${v > 2 ? "; is it in 0 to 255?" : ""}`,
      );
  }
  if (channels === imageChannels) return image;
  const plane = height * width;
  const out = new Float32Array(n * imageChannels * plane);
  for (let s = 0; s < n; s++)
    for (let i = 0; i < plane; i++) {
      if (imageChannels === 1) {
        const at = 3 * s * plane + i;
        out[s * plane + i] =
          0.299 * values[at]! + 0.587 * values[at + plane]! + 0.114 * values[at + 2 * plane]!;
      } else for (let c = 0; c < 3; c++) out[(3 * s + c) * plane + i] = values[s * plane + i]!;
    }
  return fromHost("f32", [n, imageChannels, height, width], out);
}

/** Position k of a line of `n` that is reflected at its ends, for any k >= 0. */
function reflected(k: number, n: number): number {
  if (n === 1) return 0;
  const period = 2 * (n - 1);
  const at = k % period;
  return at < n ? at : period - at;
}

/** Height and width rounded up to multiples of `stride`. */
export const sizeFor = ([height, width]: readonly [number, number], stride: number): [number, number] => [
  Math.ceil(height / stride) * stride,
  Math.ceil(width / stride) * stride,
];

/** Pictures [N, C, H, W] extended at the right and below, by reflection, to multiples of `stride`. */
export async function padded(image: Tensor, stride: number): Promise<Tensor> {
  const [n, c, height, width] = image.shape as [number, number, number, number];
  const [h, w] = sizeFor([height, width], stride);
  if (h === height && w === width) return image;
  const values = (await image.data()) as Float32Array;
  const out = new Float32Array(n * c * h * w);
  const columns = Array.from({ length: w }, (_, x) => reflected(x, width));
  for (let p = 0; p < n * c; p++)
    for (let y = 0; y < h; y++) {
      const from = (p * height + reflected(y, height)) * width;
      const to = (p * h + y) * w;
      for (let x = 0; x < w; x++) out[to + x] = values[from + columns[x]!]!;
    }
  return fromHost("f32", [n, c, h, w], out);
}

/** Maps [N, h, w] cut at the right and below to [N, height, width]. */
export function cropPlanes<A extends Uint8Array | Float32Array>(
  maps: A,
  [h, w]: readonly [number, number],
  [height, width]: readonly [number, number],
): A {
  if (h === height && w === width) return maps;
  const n = maps.length / (h * w);
  const out = new (maps.constructor as new (length: number) => A)(n * height * width);
  for (let s = 0; s < n; s++)
    for (let y = 0; y < height; y++) {
      const from = (s * h + y) * w;
      out.set(maps.subarray(from, from + width), (s * height + y) * width);
    }
  return out;
}

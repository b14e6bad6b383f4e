/** Pictures extended to sizes that networks take, and results cut back. */
import { fromHost, type Tensor } from "../tensor/index.ts";

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

/** Pictures to tensors and back. */
import { ArgumentError, ShapeError } from "../errors.ts";
import type { Picture } from "../io/picture-codec.ts";
import { fromHost, type Tensor } from "../tensor/index.ts";

/** Range of the values of a tensor: [0, 1], or [-1, 1] as diffusion models take them. */
export type ValueRange = "unit" | "signed";

const maximumOf = (data: Picture["data"]): number =>
  data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;

/** Pictures of one size as a batch of floats. Floats in a picture count as in [0, 1] already. // [N, C, H, W] */
export function picturesToTensor(pictures: readonly Picture[], range: ValueRange = "signed"): Tensor {
  const [first] = pictures;
  if (!first) throw new ArgumentError("picturesToTensor: no pictures");
  const { width, height, channels } = first;
  const plane = width * height;
  const values = new Float32Array(pictures.length * channels * plane);
  for (const [n, picture] of pictures.entries()) {
    if (picture.width !== width || picture.height !== height || picture.channels !== channels)
      throw new ShapeError(
        `picturesToTensor: picture ${n} is ${picture.width}x${picture.height}x${picture.channels}, the first ${width}x${height}x${channels}`,
      );
    writePlanes(values.subarray(n * channels * plane, (n + 1) * channels * plane), picture, range);
  }
  return fromHost("f32", [pictures.length, channels, height, width], values);
}

/** Interleaved pixels as one plane per channel. */
function writePlanes(out: Float32Array, { data, channels }: Picture, range: ValueRange): void {
  const [scale, shift] = range === "signed" ? [2 / maximumOf(data), -1] : [1 / maximumOf(data), 0];
  const plane = out.length / channels;
  for (let i = 0, at = 0; i < plane; i++)
    for (let c = 0; c < channels; c++, at++) out[c * plane + i] = data[at]! * scale + shift;
}

/** A batch of floats as 8-bit pictures, clipped to the range. @throws ShapeError unless [N, 1 to 4, H, W]. */
export async function tensorToPictures(x: Tensor, range: ValueRange = "signed"): Promise<Picture[]> {
  const [n, channels, height, width] = x.shape as [number, number, number, number];
  if (x.rank !== 4 || channels < 1 || channels > 4)
    throw new ShapeError(`tensorToPictures: expected [N, 1 to 4, H, W], got [${x.shape.join(", ")}]`);
  const values = await x.data();
  const plane = width * height;
  const [scale, shift] = range === "signed" ? [127.5, 127.5] : [255, 0];
  return Array.from({ length: n }, (_, s) => {
    const data = new Uint8Array(plane * channels);
    for (let c = 0; c < channels; c++) {
      const start = (s * channels + c) * plane;
      for (let i = 0; i < plane; i++) {
        const value = Math.round(Number(values[start + i]) * scale + shift);
        data[i * channels + c] = Math.min(255, Math.max(0, value));
      }
    }
    return { width, height, channels, data };
  });
}

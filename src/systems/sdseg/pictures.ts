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

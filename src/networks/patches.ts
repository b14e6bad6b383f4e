/** Images as rows of square patches, whose values are in the order of height, width, channel. */
import { ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";

/** x [N, C, H, W] as [N, H W / P², P² C]. Throws `ShapeError` unless the patches fit. */
export function patchify(x: Tensor, patchSize: number): Tensor {
  const [samples, channels, height, width] = x.shape as [number, number, number, number];
  if (x.rank !== 4 || height % patchSize !== 0 || width % patchSize !== 0)
    throw new ShapeError(`patchify: expected [N, C, H, W] with H and W divisible by ${patchSize}, got ${x}`);
  const [rows, columns] = [height / patchSize, width / patchSize];
  return x
    .reshape([samples, channels, rows, patchSize, columns, patchSize])
    .transpose([0, 2, 4, 3, 5, 1])
    .reshape([samples, rows * columns, patchSize * patchSize * channels]);
}

/** x [N, rows columns, P² C] as [N, C, rows P, columns P]. Throws `ShapeError` unless that is its shape. */
export function unpatchify(x: Tensor, patchSize: number, rows: number, columns: number): Tensor {
  const channels = x.shape[2]! / patchSize ** 2;
  if (x.rank !== 3 || x.shape[1] !== rows * columns || !Number.isInteger(channels))
    throw new ShapeError(`unpatchify: expected [N, ${rows * columns}, ${patchSize}² C], got ${x}`);
  return x
    .reshape([x.shape[0]!, rows, columns, patchSize, patchSize, channels])
    .transpose([0, 5, 1, 3, 2, 4])
    .reshape([x.shape[0]!, channels, rows * patchSize, columns * patchSize]);
}

/** A restoring network as a graph for pages, and degraded pictures to try. */
import {
  createDraw,
  DEGRADATIONS,
  type Degradation,
  type FloatPicture,
  ownTestPicture,
} from "../data/index.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import type { Restorer } from "../networks/index.ts";
import { exportOnnx, type Tensor, zeros } from "../tensor/index.ts";

/**
 * A network for pictures of one size: bytes of an ONNX file from `image` [1, 3, size, size] in [0, 1] to `restored`, the
 * same in [0, 1]. @throws ArgumentError for networks of gray pictures, and sizes that are no multiple of the network's
 */
export async function exportRestorer(net: Restorer, size: number, system: string): Promise<Uint8Array> {
  if (net.channels !== 3)
    throw new ArgumentError(`exportRestorer: expected a network of 3 channels, got ${net.channels}`);
  if (!(Number.isInteger(size) && size > 0 && size % net.sizeFactor === 0))
    throw new ArgumentError(`exportRestorer: expected a size in multiples of ${net.sizeFactor}, got ${size}`);
  const restore = (image: Tensor): Tensor => net.restore(image).clip(0, 1);
  return exportOnnx(restore, [zeros([1, 3, size, size])], {
    inputNames: ["image"],
    outputNames: ["restored"],
    metadata: { "tweedie.system": system },
  });
}

/** In 8 bits, cut off to [0, 1]. */
export const pictureInBytes = ({ data, ...size }: FloatPicture): Picture => ({
  ...size,
  data: Uint8Array.from(data, (v) => Math.round(255 * Math.max(0, Math.min(1, v)))),
});

/** Our own test picture `index`, degraded; `name` is that of its random draws. */
export async function degradedPicture(
  { step }: Degradation,
  name: string,
  index: number,
  size = 192,
): Promise<Picture> {
  const clean = await ownTestPicture(index, size);
  const { image } = await step({ image: clean }, createDraw(0, index, 0, `sample ${name}`));
  return pictureInBytes(image);
}

/** The same for a degradation that is known by name. */
export const degradedSample = (
  task: keyof typeof DEGRADATIONS,
  index: number,
  size?: number,
): Promise<Picture> => degradedPicture(DEGRADATIONS[task], task, index, size);

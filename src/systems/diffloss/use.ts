/** Restored pictures: the door for other programs, the graph for pages, and pictures to try. */
import type { FloatPicture } from "../../data/index.ts";
import { DEGRADATIONS } from "../../data/index.ts";
import { createDraw } from "../../data/random-draws.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import type { Restorer } from "../../networks/index.ts";
import { exportOnnx, type Tensor, zeros } from "../../tensor/index.ts";
import { samplePicture } from "./data.ts";
import { restorerFile } from "./model.ts";

export { openRestoring, type RestoreOptions, type Restoring } from "../restoring.ts";

/**
 * A network for pictures of one size: bytes of an ONNX file from `image` [1, 3, size, size] in [0, 1] to `restored`, the
 * same in [0, 1]. @throws ArgumentError for networks of gray pictures, and sizes that are no multiple of the network's
 */
export async function exportRestorer(net: Restorer, size: number): Promise<Uint8Array> {
  if (net.channels !== 3)
    throw new ArgumentError(`exportRestorer: expected a network of 3 channels, got ${net.channels}`);
  if (!(Number.isInteger(size) && size > 0 && size % net.sizeFactor === 0))
    throw new ArgumentError(`exportRestorer: expected a size in multiples of ${net.sizeFactor}, got ${size}`);
  const restore = (image: Tensor): Tensor => net.restore(image).clip(0, 1);
  return exportOnnx(restore, [zeros([1, 3, size, size])], {
    inputNames: ["image"],
    outputNames: ["restored"],
    metadata: { "tweedie.system": "diffloss" },
  });
}

/** The same of a checkpoint's file. */
export const buildInPage = async (checkpoint: string, size: number): Promise<Uint8Array> =>
  exportRestorer((await restorerFile.load(checkpoint)).model, size);

const inBytes = ({ data, ...size }: FloatPicture): Picture => ({
  ...size,
  data: Uint8Array.from(data, (v) => Math.round(255 * Math.max(0, Math.min(1, v)))),
});

/** Our own test picture `index`, degraded: with white noise of sigma 25, or rain. */
export async function degradedSample(task: "noise" | "rain", index: number, size = 192): Promise<Picture> {
  const clean = await samplePicture(index, size);
  const { image } = await DEGRADATIONS[task].step(
    { image: clean },
    createDraw(0, index, 0, `sample ${task}`),
  );
  return inBytes(image);
}

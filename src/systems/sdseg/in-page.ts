/** Segmentation in a web page: the one-step method as an ONNX graph, and pictures to try it on. */
import { lesion } from "../../data/world/lesions.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { exportOnnx, type Tensor, zeros } from "../../tensor/index.ts";
import { openModel } from "./actions.ts";
import { DEVIATION, LUMA } from "./data.ts";
import { type SDSeg, totalStride } from "./model.ts";
import { sharedNoise } from "./use.ts";

/** Below this variance a picture is constant. */
const CONSTANT = 1e-12;

/** Colours in [0, 1] as the model takes pictures. // [1, 3, H, W] to [1, C, H, W] */
function prepared(image: Tensor, { imageChannels, normalise }: SDSeg["config"]): Tensor {
  const channel = (c: number): Tensor => image.slice([0, c], [1, c + 1]);
  const values =
    imageChannels === 3
      ? image
      : channel(0).mul(LUMA[0]).add(channel(1).mul(LUMA[1])).add(channel(2).mul(LUMA[2]));
  if (normalise === "range") return values.mul(2).sub(1);
  const centred = values.sub(values.mean());
  const variance = centred.square().mean().maximum(CONSTANT);
  return centred.mul(variance.sqrt().reciprocal().mul(DEVIATION)).clip(-1, 1);
}

/**
 * The one-step method for pictures of one size, with the noise of seed 0: bytes of an ONNX file from `image`
 * [1, 3, size, size] in [0, 1] to `probability` [1, 1, size, size].
 *
 * @throws ArgumentError for models of several classes and sizes that are no multiple of the stride
 */
export async function exportSegmenter(model: SDSeg, size: number): Promise<Uint8Array> {
  const stride = totalStride(model.config);
  if (model.config.classes !== 2)
    throw new ArgumentError(`exportSegmenter: expected two classes, the model has ${model.config.classes}`);
  if (!(Number.isInteger(size) && size > 0 && size % stride === 0))
    throw new ArgumentError(`exportSegmenter: expected a size in multiples of ${stride}, got ${size}`);
  const [h, w] = model.latentSize(size, size);
  const noise = sharedNoise([1, model.config.autoencoder.latentChannels, h, w], 0, 0);
  const segment = (image: Tensor): Tensor =>
    model.probability(model.directLatent(prepared(image, model.config), noise));
  return exportOnnx(segment, [zeros([1, 3, size, size])], {
    inputNames: ["image"],
    outputNames: ["probability"],
    metadata: { "tweedie.system": "sdseg" },
  });
}

/** The same of a checkpoint, by name or file. @throws ArgumentError when there is none */
export const buildInPage = async (checkpoint: string, size: number): Promise<Uint8Array> =>
  exportSegmenter((await openModel(checkpoint)).model, size);

/** Test picture `index` of the procedural lesions, in 8 bits. */
export function lesionPicture(index: number): Picture {
  const { image } = lesion(2_000_000 + index);
  const data = Uint8Array.from(image.data, (v) => Math.round(255 * Math.max(0, Math.min(1, v))));
  return { ...image, data };
}

/** Converts pictures to the denoiser's samples and back, through the autoencoder if there is one. */
import { assertFinite } from "../diffusion/index.ts";
import { NonFiniteError } from "../errors.ts";
import {
  AutoencoderKL,
  type AutoencoderTiny,
  decodeTiled,
  encodeTiled,
  gaussianOf,
  type SpaceToDepth,
  sampleGaussian,
} from "../networks/index.ts";
import { type NoiseSource, type Tensor, tensor } from "../tensor/index.ts";
import { CompiledFunctions } from "./compiled-functions.ts";
import type { PipelineComponents } from "./components.ts";
import { latentFactor } from "./plan.ts";

/** Pictures [N, 3, H, W] in [-1, 1] and samples [N, C, h, w]. */
export interface LatentCodec {
  /** Pixels per point of a sample, along each axis. */
  readonly factor: number;
  /** Samples of pictures [1, 3, H, W], one per row of the noise, whose draws the autoencoder's distribution uses. */
  encode(picture: Tensor, noise: NoiseSource, rows: number): Promise<Tensor>;
  /** The picture of a sample [1, C, h, w]. @throws {NonFiniteError} for one that is none */
  decode(sample: Tensor): Promise<Tensor>;
  /** Frees what was compiled. */
  close(): Promise<void>;
}

const repeatRows = (x: Tensor, rows: number): Tensor => x.broadcastTo([rows, ...x.shape.slice(1)]);

const throughPixels: LatentCodec = {
  factor: 1,
  encode: async (picture, _noise, rows) => repeatRows(picture, rows).eval(),
  decode: async (sample) => sample.eval(),
  close: async () => undefined,
};

/** A picture with a NaN in it is black or noise: an error says more. */
function assertPicture(picture: Tensor): void {
  try {
    assertFinite(picture, "the decoded picture", "the decoder");
  } catch (error) {
    if (error instanceof NonFiniteError)
      throw new NonFiniteError(
        `${error.message}: the weights, or the settings, lead out of the range of numbers`,
      );
    throw error;
  }
}

/** Points of a sample up to which it is decoded in one piece: 1024x1024 pixels of the usual autoencoders. */
const MAX_POINTS = 128 * 128;

/** Larger pictures go through the autoencoder in tiles that fade into each other, which bounds the memory. */
const tileOf = (height: number, width: number): number =>
  height * width > MAX_POINTS ? 64 : Number.POSITIVE_INFINITY;

/** The codec of a pipeline. Each direction is compiled at its first use. With `functions` it is theirs, and they close it. */
export function latentCodec(
  components: PipelineComponents,
  signal?: AbortSignal,
  functions?: CompiledFunctions,
): LatentCodec {
  if (!components.vae) return throughPixels;
  const vae = components.vae.model as AutoencoderKL | AutoencoderTiny | SpaceToDepth;
  const factor = latentFactor(components);
  const own = functions ?? new CompiledFunctions();
  const moments = own.get("moments", (model: typeof vae, x: Tensor) =>
    "moments" in model ? model.moments(x) : model.encode(x),
  );
  const sampled = own.get("sampled", (model: AutoencoderKL, x: Tensor, noise: Tensor) =>
    model.scaled(sampleGaussian(gaussianOf(x), noise)),
  );
  const decoder = own.get("decoder", (model: typeof vae, z: Tensor) => model.decode(z));
  return {
    factor,
    async encode(picture, noise, rows) {
      const [h, w] = [picture.shape[2]! / factor, picture.shape[3]! / factor];
      const run = (x: Tensor): Promise<Tensor> => moments(vae, x);
      const encoded = await encodeTiled(vae, picture, { run, tile: tileOf(h, w), signal });
      if (!(vae instanceof AutoencoderKL)) return repeatRows(vae.scaled(encoded), rows).eval();
      const shape = [rows, vae.latentChannels, h, w];
      const normal = tensor(noise.normal(shape, { purpose: "vae", step: 0 }), { shape });
      return sampled(vae, encoded, normal);
    },
    async decode(sample) {
      const z = await vae.unscaled(sample).eval();
      const run = (tile: Tensor): Promise<Tensor> => decoder(vae, tile);
      const picture = await decodeTiled(vae, z, { run, tile: tileOf(z.shape[2]!, z.shape[3]!), signal });
      assertPicture(picture);
      return picture;
    },
    close: async () => {
      if (!functions) await own.close();
    },
  };
}

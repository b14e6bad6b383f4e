/** The diffusion model of the training: a guided-diffusion U-Net that sees two pictures beside the noised one. */
import { ArgumentError } from "../../errors.ts";
import { GuidedDiffusionUNet, guidedUNetConfig } from "../../networks/index.ts";
import { blankRng, createRng, kaimingNormal, mapParameters, type Rng } from "../../nn/index.ts";
import { concat, type Seed, type Tensor } from "../../tensor/index.ts";
import { modelFile } from "../../training/index.ts";
import type { Denoiser } from "./method.ts";

const COMMON = {
  ...{ in_channels: 3, out_channels: 3, concat_channels: 6 },
  // The code's "16" is compared with downsampling factors, so that only the middle has attention.
  attention_resolutions: [],
  ...{ use_scale_shift_norm: true, resblock_updown: true, dropout: 0.2 },
} as const;

/** Sizes: the published one, one that trains in minutes on crops of 48 x 48, and one for tests. */
export const DIFFUSION_SIZES = {
  published: {
    ...COMMON,
    ...{ model_channels: 64, channel_mult: [1, 2, 4, 8], num_res_blocks: 2, num_head_channels: 32 },
  },
  mini: {
    ...COMMON,
    ...{
      model_channels: 24,
      channel_mult: [1, 2, 4],
      num_res_blocks: 1,
      norm_groups: 8,
      num_head_channels: 32,
    },
  },
  smoke: {
    ...COMMON,
    ...{ model_channels: 8, channel_mult: [1, 2], num_res_blocks: 1, norm_groups: 8, num_head_channels: 8 },
  },
} as const;
/** Name of a size of the diffusion network. */
export type DiffusionSize = keyof typeof DIFFUSION_SIZES;

/** Keys as guided-diffusion has them; the published files call `time_embed` `cond_embed`, since it is given gamma, not t. */
export class NoiseGuesser extends GuidedDiffusionUNet implements Denoiser {
  readonly options: Readonly<Record<string, unknown>>;

  constructor(options: Readonly<Record<string, unknown>>, rng: Rng) {
    const config = guidedUNetConfig(options);
    const { inChannels, outChannels, concatChannels, numClasses, vectorDim } = config;
    if (inChannels !== 3 || concatChannels !== 6 || outChannels !== 3)
      throw new ArgumentError(
        `Noise-DA: expected a diffusion model from 9 channels to 3, got one from ${inChannels + concatChannels} to ${outChannels}`,
      );
    if (numClasses !== undefined || vectorDim !== undefined)
      throw new ArgumentError("Noise-DA: expected a diffusion model without class labels");
    super(config, rng);
    this.options = options;
  }

  /** See `Denoiser`. */
  predict(x: Tensor, first: Tensor, second: Tensor, gamma: Tensor, key?: Tensor): Tensor {
    return this.call(x, gamma, { concat: concat(first, second, 1), ...(key && { key }) });
  }
}

/** A diffusion model as published trainings begin: Kaiming normal everywhere, also where guided-diffusion begins with 0. */
export function createNoiseGuesser(size: DiffusionSize, seed: Seed): NoiseGuesser {
  const rng = createRng(seed);
  const net = new NoiseGuesser(DIFFUSION_SIZES[size], rng);
  return mapParameters(net, (t, key) =>
    t.rank >= 2 ? kaimingNormal(rng, t.shape) : key.endsWith("bias") ? t.mul(0) : t,
  );
}

/** Files of the diffusion model, for those who want to go on with it. */
export const noiseGuesserFile = modelFile<NoiseGuesser>({
  format: "tweedie.noise-da.diffusion",
  name: "diffusion model of Noise-DA",
  describe: (net) => ({ config: JSON.stringify(net.options) }),
  blank: (field) => new NoiseGuesser(JSON.parse(field("config") ?? "") as Record<string, unknown>, blankRng),
});

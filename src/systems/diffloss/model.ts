/** The diffusion model that compares, the networks that restore, and their files. */
import { alphasCumprod, betas, type NoiseLevel, perSample } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { GuidedDiffusionUNet, guidedUNetConfig } from "../../networks/index.ts";
import {
  blankRng,
  captureFeatures,
  createRng,
  frozen,
  mapParameters,
  modules,
  type Rng,
  recomputing,
  uniformFanIn,
} from "../../nn/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { modelFile, type RestorerNotes } from "../../training/index.ts";
import { modelPath } from "../shipped.ts";
import type { Features, Prior } from "./method.ts";
import { PRIORS, RESTORERS_SHIPPED } from "./options.ts";

/** What a prior is: its U-Net under the names of guided-diffusion, and how it was trained. */
export interface PriorConfig {
  readonly unet: Readonly<Record<string, unknown>>;
  /** Of the linear schedule from 1e-4 to 0.02. */
  readonly timesteps: number;
  /** What its first three channels mean. */
  readonly prediction: "noise" | "sample" | "v";
}

/** Sizes: one for pictures of 64 x 64 that trains in minutes, one for tests, and the published one for 256 x 256. */
export const PRIOR_SIZES = {
  mini: {
    in_channels: 3,
    out_channels: 3,
    model_channels: 16,
    channel_mult: [1, 2, 3, 4],
    num_res_blocks: 1,
    attention_resolutions: [4],
    num_head_channels: 16,
    norm_groups: 8,
    use_scale_shift_norm: true,
    resblock_updown: true,
  },
  smoke: {
    in_channels: 3,
    out_channels: 3,
    model_channels: 8,
    channel_mult: [1, 2],
    num_res_blocks: 1,
    attention_resolutions: [],
    num_head_channels: 8,
    norm_groups: 4,
    use_scale_shift_norm: true,
    resblock_updown: true,
  },
} as const;

/** The published linear schedule. // [timesteps] */
export const priorAlphaBars = ({ timesteps }: Pick<PriorConfig, "timesteps">): Float64Array =>
  Float64Array.from(alphasCumprod(betas({ schedule: "linear", timesteps })));

/** A guided-diffusion U-Net for pictures of three colours without classes, with the names of its checkpoints. */
export class PriorNetwork extends GuidedDiffusionUNet implements Prior {
  readonly config: PriorConfig;
  readonly channels = 3;

  constructor(config: PriorConfig, rng: Rng) {
    const unet = guidedUNetConfig(config.unet);
    const { inChannels, outChannels, concatChannels, numClasses, vectorDim } = unet;
    if (inChannels !== 3 || concatChannels !== 0)
      throw new ArgumentError(
        `prior: expected 3 input channels, got ${inChannels + concatChannels}; DiffLoss compares colour pictures`,
      );
    if (outChannels !== 3 && outChannels !== 6)
      throw new ArgumentError(`prior: expected 3 output channels, or 6 with variances, got ${outChannels}`);
    if (numClasses !== undefined || vectorDim !== undefined)
      throw new ArgumentError("prior: expected a model without class labels");
    if (!Number.isInteger(config.timesteps) || config.timesteps < 1)
      throw new ArgumentError(`prior: expected timesteps from 1 up, got ${config.timesteps}`);
    super(unet, rng);
    this.config = config;
  }

  get timesteps(): number {
    return this.config.timesteps;
  }

  /** The network's guess, without variances. // [N, 3, H, W] */
  predict(x: Tensor, t: Tensor): Tensor {
    const out = this.call(x, t);
    return out.shape[1] === 3 ? out : out.sliceAxis(1, 0, 3);
  }

  features(x: Tensor, t: Tensor, level: NoiseLevel): Features {
    const [out, { middle_block: h }] = captureFeatures(
      frozen(this as PriorNetwork),
      ["middle_block"],
      (net) => net.predict(x, t),
    );
    return { noise: this.noiseIn(out, x, level), h: h! };
  }

  /** The noise that follows from what the network guesses. */
  private noiseIn(out: Tensor, x: Tensor, level: NoiseLevel): Tensor {
    const { prediction } = this.config;
    if (prediction === "noise") return out;
    const [alpha, sigma] = [perSample(level.alpha, x), perSample(level.sigma, x)];
    return prediction === "v" ? alpha.mul(out).add(sigma.mul(x)) : x.sub(alpha.mul(out)).div(sigma);
  }
}

/** Parts that take most memory while gradients pass: each block of the way down and up. */
const blocksOf = (net: PriorNetwork): string[] =>
  [...modules(net).keys()].filter((key) => /^(input|output)_blocks\.\d+$/.test(key));

/** The same prior in less memory, for large ones: its blocks are computed again on the way back. */
export const withRecomputation = (net: PriorNetwork): PriorNetwork => recomputing(net, blocksOf(net));

/** A prior to train. */
export const createPrior = (size: keyof typeof PRIOR_SIZES, seed: Seed): PriorNetwork =>
  new PriorNetwork({ unet: PRIOR_SIZES[size], timesteps: 1000, prediction: "noise" }, createRng(seed));

/** A prior with random weights everywhere, also where a training begins with 0: a control that is not trained. */
export function randomPrior(size: keyof typeof PRIOR_SIZES, seed: Seed): PriorNetwork {
  const rng = createRng(seed);
  return mapParameters(createPrior(size, seed), (t) => (t.rank >= 2 ? uniformFanIn(rng, t.shape) : t));
}

/** File of a prior. */
export const priorFile = modelFile<PriorNetwork, RestorerNotes>({
  format: "tweedie.prior",
  name: "diffusion prior",
  describe: (prior) => ({ config: JSON.stringify(prior.config) }),
  blank: (field) => new PriorNetwork(JSON.parse(field("config") ?? "") as PriorConfig, blankRng),
});

/** File of a network by the name of a checkpoint that ships, or by its path. @throws ArgumentError when there is none */
export const restorerPath = (model: string): Promise<string> =>
  modelPath("DiffLoss", RESTORERS_SHIPPED, model);
/** The same of a prior. */
export const priorPath = (model: string): Promise<string> => modelPath("DiffLoss", PRIORS, model);

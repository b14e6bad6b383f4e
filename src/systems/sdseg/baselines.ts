/** What SDSeg is compared with: a plain U-Net, diffusion of the mask in pixels, and thresholds on brightness. */
import { type Dataset, liThreshold, otsuThreshold } from "../../data/index.ts";
import { cropPlanes, padded } from "../../data/padding.ts";
import { addNoise, perSample, seededNoise } from "../../diffusion/index.ts";
import { type GuidedDiffusionUNet, guidedDiffusionUNet } from "../../networks/index.ts";
import { adamW, blankRng, constantDecay, createRng, Module, type Rng } from "../../nn/index.ts";
import { createNoise, fromHost, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import { type DiffusionDraw, diffusionBatch, modelFile, rateOf, runPhase } from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { cropBatches, imagesOf, LEVELS, masksOf, type Sample } from "./data.ts";
import type { SDSegConfig } from "./model.ts";
import { reverseProcess } from "./sampling.ts";
import { asPredictions, type Predict } from "./scores.ts";
import type { TrainSettings } from "./train.ts";
import { memberSeed } from "./use.ts";

/** `plain`: picture in, mask out. `diffusion`: noisy mask and picture in, v out, as the miniature of MedSegDiff. */
const PIXEL_KINDS = ["plain", "diffusion"] as const;
export type PixelKind = (typeof PIXEL_KINDS)[number];

/** A U-Net over pixels of about the arithmetic of the miniature's vision encoder and denoiser together. */
export class PixelNetwork extends Module {
  readonly unet: GuidedDiffusionUNet;
  readonly kind: PixelKind;
  readonly imageChannels: number;

  constructor(kind: PixelKind, imageChannels: number, rng: Rng) {
    super();
    this.kind = kind;
    this.imageChannels = imageChannels;
    this.unet = guidedDiffusionUNet(
      {
        in_channels: kind === "plain" ? imageChannels : 1,
        ...(kind === "diffusion" && { concat_channels: imageChannels }),
        out_channels: 1,
        model_channels: 8,
        channel_mult: [1, 2, 4, 6],
        num_res_blocks: 1,
        attention_resolutions: [],
        middle_attention: false,
        norm_groups: 8,
        use_scale_shift_norm: true,
        resblock_updown: true,
      },
      rng,
    );
  }

  /** Logits of the foreground. // [N, C, H, W] to [N, 1, H, W] */
  logits(image: Tensor): Tensor {
    return this.unet.call(image, fromHost("f32", [1], new Float32Array(1)));
  }

  /** v of a noisy mask at times [N]. // [N, 1, H, W] */
  velocity(z: Tensor, t: Tensor, image: Tensor): Tensor {
    return this.unet.call(z, t, { concat: image });
  }
}

export const pixelFile = modelFile<PixelNetwork>({
  format: "tweedie.sdseg-pixels",
  name: "pixel U-Net",
  describe: ({ kind, imageChannels }) => ({ kind, channels: String(imageChannels) }),
  blank: (field) =>
    new PixelNetwork(
      PIXEL_KINDS.find((kind) => kind === field("kind")) ?? "plain",
      Number(field("channels")),
      blankRng,
    ),
});

/** Pictures, masks in {-1, 1}, and noise for diffusion. */
interface PixelBatch extends Pick<DiffusionDraw, "timestep" | "level" | "noise"> {
  readonly image: Tensor; // [N, C, H, W]
  readonly mask: Tensor; // [N, 1, H, W]
}

/** Binary cross entropy and soft Dice of logits against masks in {-1, 1}. */
function overlapLoss(logits: Tensor, mask: Tensor): Tensor {
  const entropy = logits.mul(mask).neg().softplus().mean();
  const [p, y] = [logits.sigmoid(), mask.add(1).mul(0.5)];
  const overlap = p.mul(y).sum().mul(2).add(1).div(p.sum().add(y.sum()).add(1));
  return entropy.add(overlap.neg().add(1));
}

/** Overlap of the plain U-Net; of diffusion SDSeg's own loss, on the mask itself. */
function pixelLoss(network: PixelNetwork, { image, mask, noise, timestep, level }: PixelBatch): Tensor {
  if (network.kind === "plain") return overlapLoss(network.logits(image), mask);
  const [alpha, sigma] = [perSample(level.alpha, mask), perSample(level.sigma, mask)];
  const v = network.velocity(addNoise(mask, noise, level), timestep, image);
  const error = v.sub(alpha.mul(noise).sub(sigma.mul(mask))).abs();
  return error.mul(alpha.add(sigma)).mean();
}

export interface PixelTraining {
  readonly kind: PixelKind;
  readonly data: Dataset<Sample>;
  readonly config: SDSegConfig;
  readonly settings: TrainSettings;
  readonly folder?: string;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What decides a baseline, beside the data. */
export function pixelSettings({ denoiser, seed, crop, augment, ema }: TrainSettings) {
  return { ...denoiser, seed, crop, augment, ema: ema === "paper" ? 0.9999 : ema };
}

/** Trains a baseline with the steps, batches, crops and rates of the denoiser. */
export async function* trainPixelNetwork(options: PixelTraining): Work<PixelNetwork> {
  const { kind, data, config, settings, folder, threads, signal } = options;
  const { seed, crop, augment, denoiser } = settings;
  const kept = pixelSettings(settings);
  const { batch } = denoiser;
  const crops = cropBatches({ data, config, batch, crop, augment, seed }, "batch");
  const source = createNoise("philox", seed);
  const { final } = yield* runPhase<PixelNetwork, PixelBatch>({
    stage: `U-Net over pixels, ${kind}`,
    settings: { ...kept, ...{ kind } },
    model: new PixelNetwork(kind, config.imageChannels, createRng(seed)),
    optimizer: adamW({ learningRate: rateOf(denoiser), weightDecay: 0.01 }),
    loss: pixelLoss,
    batch: async (step) => {
      const { samples } = await crops(step);
      const { timestep, level, noise } = diffusionBatch([batch, 1, crop, crop], {
        source,
        step,
        levels: LEVELS,
      });
      return { image: imagesOf(samples), mask: masksOf(samples, 1), timestep, level, noise };
    },
    ema: constantDecay(kept.ema),
    folder,
    threads,
    ...(signal && { signal }),
  });
  return final;
}

/** A segmenter that is compiled, and how to free it. */
export interface OpenPredictor {
  readonly predict: Predict;
  close(): Promise<void>;
}

/** Sides of pictures that a U-Net over pixels takes are multiples of this. */
const PIXEL_STRIDE = 8;

/** The plain U-Net as a segmenter; pictures are extended by reflection to sizes that it takes. */
export function plainPredictor(
  network: PixelNetwork,
  settings: { readonly threads?: number } = {},
): OpenPredictor {
  const run = jit((image: Tensor) => network.logits(image).sigmoid(), settings);
  return {
    predict: async (samples) => {
      const [{ image, labels }] = samples as [Sample];
      const x = await padded(imagesOf(samples), PIXEL_STRIDE);
      const [, , h, w] = x.shape as [number, number, number, number];
      const maps = (await (await run(x)).data()) as Float32Array;
      return asPredictions(cropPlanes(maps, [h, w], [image.height, image.width]), labels.length);
    },
    close: () => run.close(),
  };
}

export interface PixelSampling {
  readonly steps: number;
  readonly ensemble: number;
  readonly seed: Seed;
}

/** Diffusion in pixels: DDIM of eta 1, the mean of several samples. Pictures in multiples of 8. */
export function diffusionPredictor(
  network: PixelNetwork,
  { steps, ensemble, seed }: PixelSampling,
): OpenPredictor {
  const run = jit((z: Tensor, t: Tensor, image: Tensor) => network.velocity(z, t, image));
  const predict: Predict = async (samples) => {
    const image = imagesOf(samples);
    const [n, , h, w] = image.shape as [number, number, number, number];
    const mean = new Float32Array(n * h * w);
    for (let member = 0; member < ensemble; member++) {
      const process = reverseProcess("vskip", { sampler: "ddim", steps, spacing: "leading", eta: 1 });
      const source = seededNoise(
        "philox",
        samples.map(() => memberSeed(seed, member)),
      );
      const start = fromHost("f32", [n, 1, h, w], source.normal([n, 1, h, w], { purpose: "mask" }));
      const sampling = process.sample(
        (z, t) => run(z, fromHost("f32", [1], Float32Array.of(t)), image),
        process.initial(start),
        { noise: source },
      );
      let clean = start;
      for await (const { denoised } of sampling) clean = denoised;
      const values = (await clean.data()) as Float32Array;
      for (let i = 0; i < mean.length; i++)
        mean[i]! += Math.max(0, Math.min(1, (values[i]! + 1) / 2)) / ensemble;
    }
    return asPredictions(mean, h * w);
  };
  return { predict, close: () => run.close() };
}

export const THRESHOLDS = { otsu: otsuThreshold, li: liThreshold } as const;

/**
 * A threshold on brightness: a floor. Samples are to be read with `BRIGHTNESS`, so that it sees the files' own values.
 * `dark`: the foreground is what is darker.
 */
export const thresholdPredictor =
  (threshold: (values: Float32Array) => number, dark: boolean): Predict =>
  async (samples) =>
    samples.map(({ image, labels }) => {
      const limit = threshold(image.data);
      const mask = Uint8Array.from({ length: labels.length }, (_, i) =>
        image.data[i]! > limit !== dark ? 1 : 0,
      );
      return { mask, probability: Float32Array.from(mask) };
    });

/** How samples are read for thresholds: brightness as it is in the files, neither standardised nor cut off. */
export const BRIGHTNESS = { imageChannels: 1, normalise: "range", classes: 2 } as const;

/** Everything is foreground: the other floor. */
export const allForeground: Predict = async (samples) =>
  samples.map(({ labels }) => ({
    mask: new Uint8Array(labels.length).fill(1),
    probability: new Float32Array(labels.length).fill(1),
  }));

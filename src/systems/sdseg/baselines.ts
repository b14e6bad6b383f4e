/** What SDSeg is compared with: a plain U-Net, diffusion of the mask in pixels, and a threshold by Otsu's rule. */
import { createDraw, type Dataset } from "../../data/index.ts";
import { cropPlanes, padded } from "../../data/padding.ts";
import { addNoise, type NoiseLevel, perSample, seededNoise } from "../../diffusion/index.ts";
import { type GuidedDiffusionUNet, guidedDiffusionUNet } from "../../networks/index.ts";
import {
  adamW,
  constantDecay,
  cosineDecay,
  createRng,
  Module,
  type Rng,
  train,
  warmup,
} from "../../nn/index.ts";
import { fillNormal, fromHost, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import { randomCrop } from "./batches.ts";
import type { Predict } from "./evaluate.ts";
import { maskValues, type Sample, stack } from "./samples.ts";
import { ALPHA_BARS, reverseProcess, TRAINED } from "./schedule.ts";
import type { TrainSettings } from "./train.ts";

/** `plain`: picture in, mask out. `diffusion`: noisy mask and picture in, v out, as the miniature of MedSegDiff. */
export type PixelKind = "plain" | "diffusion";

/** A U-Net over pixels of about the arithmetic of the miniature's vision encoder and denoiser together. */
export class PixelNetwork extends Module {
  readonly unet: GuidedDiffusionUNet;
  readonly kind: PixelKind;

  constructor(kind: PixelKind, imageChannels: number, rng: Rng) {
    super();
    this.kind = kind;
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

/** One batch of pictures and masks in {-1, 1}; noise and times are for diffusion. */
interface PixelBatch {
  readonly image: Tensor;
  readonly mask: Tensor;
  readonly noise: Tensor;
  readonly t: Tensor;
  readonly level: NoiseLevel;
}

/** Binary cross entropy and soft Dice of logits against masks in {-1, 1}. */
export function overlapLoss(logits: Tensor, mask: Tensor): Tensor {
  const entropy = logits.mul(mask).neg().softplus().mean();
  const [p, y] = [logits.sigmoid(), mask.add(1).mul(0.5)];
  const overlap = p.mul(y).sum().mul(2).add(1).div(p.sum().add(y.sum()).add(1));
  return entropy.add(overlap.neg().add(1));
}

/** SDSeg's own loss, on the mask itself. */
function pixelLoss(network: PixelNetwork, { image, mask, noise, t, level }: PixelBatch): Tensor {
  if (network.kind === "plain") return overlapLoss(network.logits(image), mask);
  const [alpha, sigma] = [perSample(level.alpha, mask), perSample(level.sigma, mask)];
  const v = network.velocity(addNoise(mask, noise, level), t, image);
  const error = v.sub(alpha.mul(noise).sub(sigma.mul(mask))).abs();
  return error.mul(alpha.add(sigma)).mean();
}

async function pixelBatch(
  data: Dataset<Sample>,
  { seed, crop, augment, denoiser }: TrainSettings,
  step: number,
): Promise<PixelBatch> {
  const { batch } = denoiser;
  const drawn = await Promise.all(
    Array.from({ length: batch }, async (_, i) => {
      const draw = createDraw(seed, step * batch + i, 0, "sdseg batch");
      const sample = await data.get(draw.integer(data.length));
      return { sample: randomCrop(sample, crop, draw, augment, draw.chance(0.75)), t: draw.integer(TRAINED) };
    }),
  );
  const channels = drawn[0]!.sample.image.length / (crop * crop);
  const vector = (f: (t: number) => number): Tensor =>
    fromHost(
      "f32",
      [batch],
      Float32Array.from(drawn, ({ t }) => f(t)),
    );
  const noise = fillNormal(new Float32Array(batch * crop * crop), {
    seed,
    sample: 0,
    step,
    purpose: "sdseg pixels",
  });
  return {
    image: stack(
      drawn.map(({ sample }) => sample.image),
      [channels, crop, crop],
    ),
    mask: stack(
      drawn.map(({ sample }) => maskValues(sample.labels, 1)),
      [1, crop, crop],
    ),
    noise: fromHost("f32", [batch, 1, crop, crop], noise),
    t: vector((t) => t),
    level: {
      alpha: vector((t) => Math.sqrt(ALPHA_BARS[t]!)),
      sigma: vector((t) => Math.sqrt(1 - ALPHA_BARS[t]!)),
    },
  };
}

export interface PixelTraining {
  readonly kind: PixelKind;
  readonly data: Dataset<Sample>;
  readonly imageChannels: number;
  readonly settings: TrainSettings;
  readonly directory?: string;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** Trains a baseline with the steps, batches, crops and rates of the denoiser. */
export async function* trainPixelNetwork(options: PixelTraining) {
  const { kind, data, imageChannels, settings, directory, threads, signal } = options;
  const { denoiser, ema } = settings;
  const rate = warmup(denoiser.warmup, cosineDecay(denoiser.learningRate, denoiser.steps));
  const state = yield* train({
    model: new PixelNetwork(kind, imageChannels, createRng(settings.seed)),
    optimizer: adamW({ learningRate: rate, weightDecay: 0.01 }),
    loss: pixelLoss,
    batch: (step) => pixelBatch(data, settings, step),
    steps: denoiser.steps,
    clipNorm: 1,
    ema: constantDecay(ema === "paper" ? 0.9999 : ema),
    directory,
    signal,
    settings: { ...denoiser, kind, seed: String(settings.seed), crop: settings.crop },
    ...(threads !== undefined && { jit: { threads } }),
  });
  return state.ema ?? state.model;
}

/** Masks and maps of a batch from probabilities. // [N, H, W] */
const asPredictions = (maps: Float32Array, size: number) =>
  Array.from({ length: maps.length / size }, (_, i) => {
    const probability = maps.subarray(i * size, (i + 1) * size);
    return { probability, mask: Uint8Array.from(probability, (p) => (p > 0.5 ? 1 : 0)) };
  });

const imagesOf = (samples: readonly Sample[]): Tensor => {
  const { width, height, image } = samples[0]!;
  return stack(
    samples.map((s) => s.image),
    [image.length / (width * height), height, width],
  );
};

/** Sides of pictures that a U-Net over pixels takes are multiples of this. */
const PIXEL_STRIDE = 8;

/** The plain U-Net as a segmenter; pictures are extended by reflection to sizes that it takes. */
export function plainPredictor(
  network: PixelNetwork,
  settings: { readonly threads?: number } = {},
): { predict: Predict; close: () => Promise<void> } {
  const run = jit((image: Tensor) => network.logits(image).sigmoid(), settings);
  const predict: Predict = async (samples) => {
    const { width, height, labels } = samples[0]!;
    const image = await padded(imagesOf(samples), PIXEL_STRIDE);
    const [, , h, w] = image.shape as [number, number, number, number];
    const maps = (await (await run(image)).data()) as Float32Array;
    return asPredictions(cropPlanes(maps, [h, w], [height, width]), labels.length);
  };
  return { predict, close: () => run.close() };
}

export interface PixelSampling {
  readonly steps: number;
  readonly ensemble: number;
  readonly seed: Seed;
}

/** Diffusion in pixels: DDIM, the mean of several samples. */
export function diffusionPredictor(
  network: PixelNetwork,
  { steps, ensemble, seed }: PixelSampling,
): { predict: Predict; close: () => Promise<void> } {
  const run = jit((z: Tensor, t: Tensor, image: Tensor) => network.velocity(z, t, image));
  const predict: Predict = async (samples) => {
    const { width, height } = samples[0]!;
    const [n, size] = [samples.length, width * height];
    const image = imagesOf(samples);
    const mean = new Float32Array(n * size);
    for (let member = 0; member < ensemble; member++) {
      const process = reverseProcess("vskip", { sampler: "ddim", steps, spacing: "leading", eta: 1 });
      const source = seededNoise(
        "philox",
        samples.map(() => BigInt(seed) * 1024n + BigInt(member)),
      );
      const noise = fromHost(
        "f32",
        [n, 1, height, width],
        source.normal([n, 1, height, width], { purpose: "mask" }),
      );
      const sampling = process.sample(
        (z, t) => run(z, fromHost("f32", [1], Float32Array.of(t)), image),
        process.initial(noise),
        { noise: source },
      );
      let clean = noise;
      for (;;) {
        const { done, value } = await sampling.next();
        if (done) break;
        clean = value.denoised;
      }
      const values = (await clean.data()) as Float32Array;
      for (let i = 0; i < mean.length; i++)
        mean[i]! += Math.max(0, Math.min(1, (values[i]! + 1) / 2)) / ensemble;
    }
    return asPredictions(mean, size);
  };
  return { predict, close: () => run.close() };
}

/** Levels of the histogram. */
const BINS = 256;

/** The threshold that parts values best: the greatest variance between both sides (Otsu 1979). */
export function otsuThreshold(values: Float32Array): number {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  if (!(high > low)) return high;
  const counts = new Float64Array(BINS);
  const bin = (v: number): number => Math.min(BINS - 1, Math.floor(((v - low) / (high - low)) * BINS));
  for (const v of values) counts[bin(v)]!++;
  const total = counts.reduce((sum, n, k) => sum + n * k, 0);
  let [best, at, below, sum] = [-1, 0, 0, 0];
  for (let k = 0; k < BINS - 1; k++) {
    below += counts[k]!;
    sum += counts[k]! * k;
    const above = values.length - below;
    if (below === 0 || above === 0) continue;
    const between = below * above * (sum / below - (total - sum) / above) ** 2;
    if (between > best) [best, at] = [between, k];
  }
  return low + ((at + 1) / BINS) * (high - low);
}

/** Otsu's threshold on brightness: a floor for sanity. `dark`: the foreground is what is darker. */
export const otsuPredictor =
  (dark: boolean): Predict =>
  async (samples) =>
    samples.map(({ image, labels }) => {
      const brightness = image.subarray(0, labels.length);
      const threshold = otsuThreshold(brightness);
      const mask = Uint8Array.from(brightness, (v) => (v > threshold !== dark ? 1 : 0));
      return { mask, probability: Float32Array.from(mask) };
    });

/** Training: the autoencoder of masks, its scale, its decoder, then the denoiser with the vision encoder. Resumable at every step. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset } from "../../data/index.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import { type AutoencoderKL, klDivergence, sampleGaussian } from "../../networks/index.ts";
import { adamW, constantDecay, parameters, warmupDecay, withFields } from "../../nn/index.ts";
import { grid, overlay } from "../../report/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { type PhaseSettings, rateOf, runPhase } from "../../training/index.ts";
import type { Work } from "../../work.ts";
import {
  type Augment,
  type AutoencodingBatch,
  autoencodingBatches,
  type BatchOptions,
  denoisingBatches,
  latentSampler,
  type Sample,
  shownOf,
} from "./data.ts";
import { type DenoisingBatch, denoisingLoss } from "./method.ts";
import { type SDSeg, type SegmentationNetwork, totalStride, withParts } from "./model.ts";
import { evaluateOn, type Predict, predictWith } from "./scores.ts";
import { openSegmenter } from "./use.ts";

/** Everything that decides a training, apart from the data and the model. */
export interface TrainSettings {
  readonly seed: Seed;
  readonly crop: number;
  readonly augment: Augment;
  /** Weight of the latent loss; 1 as published, 0 trains the noise alone. */
  readonly lambda: number;
  /** Whether the vision encoder is trained. */
  readonly trainVision: boolean;
  readonly autoencoder: PhaseSettings;
  /**
   * How the decoder is trained alone afterwards, while latents stay as they are; no steps: not at all. Its crops are
   * larger: group norms of small ones see other statistics than those of whole pictures.
   */
  readonly decoder: PhaseSettings & { readonly crop: number };
  readonly denoiser: PhaseSettings;
  /** Decay of the denoiser's averaged weights, `paper` with its warm-up. */
  readonly ema: "paper" | number;
}

/** Learning rates: as published for an autoencoder, and of the miniatures. */
const PUBLISHED = { batch: 4, learningRate: 1.8e-5, warmup: 1000, schedule: "constant", clip: 1 } as const;
const SHORT = { batch: 8, schedule: "cosine", clip: 1 } as const;
const MINI = { ...SHORT, learningRate: 2e-3, warmup: 50 } as const;
const SMOKE = { ...SHORT, learningRate: 3e-3, warmup: 10 } as const;
const METHOD = { lambda: 1, trainVision: true };

/** Settings of the published training and of the miniatures. */
export const TRAINING = {
  paper: {
    ...{ ...METHOD, crop: 256, augment: "flips", ema: "paper" },
    // The published autoencoder is loaded; a fresh one is trained like this.
    autoencoder: { ...PUBLISHED, steps: 100_000 },
    decoder: { ...PUBLISHED, crop: 256, steps: 0 },
    denoiser: { ...PUBLISHED, steps: 100_000, learningRate: 4e-5, warmup: 10_000, clip: 0 },
  },
  mini: {
    ...{ ...METHOD, crop: 48, augment: "turns", ema: 0.995 },
    autoencoder: { ...MINI, steps: 800 },
    decoder: { ...MINI, crop: 128, steps: 1500, batch: 2 },
    denoiser: { ...MINI, steps: 2000, learningRate: 1e-3, warmup: 100 },
  },
  smoke: {
    ...{ ...METHOD, crop: 32, augment: "turns", ema: 0.98 },
    autoencoder: { ...SMOKE, steps: 150 },
    decoder: { ...SMOKE, crop: 32, steps: 0 },
    denoiser: { ...SMOKE, steps: 200, learningRate: 2e-3, warmup: 20 },
  },
} as const satisfies Record<string, Omit<TrainSettings, "seed">>;

/** What a training needs. */
export interface TrainInputs {
  /** Fresh, or trained before: then its scale is kept. */
  readonly model: SDSeg;
  readonly settings: TrainSettings;
  readonly data: Dataset<Sample>;
  /** For choosing and watching; never the test split. */
  readonly validation?: Dataset<Sample> | undefined;
  /** Where checkpoints, history and report are kept, a folder for each phase. */
  readonly folder?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Steps between checkpoints, and between validations. Default 500. */
  readonly saveEvery?: number;
  readonly validateEvery?: number;
  /** Threads of the training step. Default: as `sessionThreads` says. */
  readonly threads?: number | undefined;
}

function checkCrop(model: SDSeg, crop: number): void {
  const stride = totalStride(model.config);
  if (!(Number.isInteger(crop) && crop > 0 && crop % stride === 0))
    throw new ArgumentError(
      `SDSeg: crop must be a positive multiple of the total stride ${stride}, got ${crop}`,
    );
}

const batchOptions = ({ data, model, settings }: TrainInputs, { batch }: PhaseSettings): BatchOptions => {
  const { crop, augment, seed } = settings;
  return { data, config: model.config, batch, crop, augment, seed };
};

/** What all phases have in common: where they are kept, when they are saved, how they are stopped. */
const phaseOf = (
  { folder, signal, saveEvery = 500, validateEvery = 500, threads }: TrainInputs,
  stage: string,
) => ({
  ...{ stage, saveEvery, validateEvery, threads },
  ...(signal && { signal }),
  ...(folder !== undefined && { folder: join(folder, stage) }),
});

const KL_WEIGHT = 1e-6;

/** L1 of the decoded masks plus a little of the divergence, per latent value. */
export function autoencodingLoss(model: AutoencoderKL, { mask, noise }: AutoencodingBatch): Tensor {
  const posterior = model.encode(mask);
  const error = model.decode(sampleGaussian(posterior, noise)).sub(mask).abs().mean();
  const perValue = klDivergence(posterior)
    .mean()
    .mul(1 / (noise.size / noise.shape[0]!));
  return error.add(perValue.mul(KL_WEIGHT));
}

/** Trains the autoencoder on masks. Returns the model with it, and with its scale measured. */
export async function* trainAutoencoder(inputs: TrainInputs): Work<SDSeg> {
  const { model, settings } = inputs;
  const { autoencoder: phase, seed, crop, augment } = settings;
  checkCrop(model, crop);
  const { final } = yield* runPhase({
    ...phaseOf(inputs, "autoencoder"),
    settings: { ...phase, ...{ seed, crop, augment } },
    model: model.autoencoder,
    loss: autoencodingLoss,
    batch: autoencodingBatches(batchOptions(inputs, phase)),
  });
  return withScale(withParts(model, { autoencoder: final }), inputs);
}

/** Masks in {-1, 1} and samples of their latents. */
interface DecodingBatch {
  readonly mask: Tensor; // [N, C, H, W]
  readonly latent: Tensor; // [N, Z, h, w]
}

/** L1 of the decoded masks; the encoder has no part in it. */
const decodingLoss = (model: AutoencoderKL, { mask, latent }: DecodingBatch): Tensor =>
  model.decode(latent).sub(mask).abs().mean();

/**
 * Trains the decoder alone, on latents that the encoder gives of masks: what is made of a latent gets sharper, and every
 * denoiser of these latents fits as before. Returns the model with it.
 */
export async function* trainDecoder(inputs: TrainInputs): Work<SDSeg> {
  const { model, settings } = inputs;
  const { decoder: phase, seed, augment } = settings;
  if (phase.steps === 0) return model;
  checkCrop(model, phase.crop);
  const masks = autoencodingBatches({ ...batchOptions(inputs, phase), crop: phase.crop }, "decoder");
  const encode = latentSampler(model.autoencoder);
  try {
    const { final } = yield* runPhase({
      ...phaseOf(inputs, "decoder"),
      settings: { ...phase, ...{ seed, augment } },
      model: model.autoencoder,
      loss: decodingLoss,
      batch: async (step) => {
        const { mask, noise } = await masks(step);
        return { mask, latent: await encode(mask, noise) };
      },
    });
    return withParts(model, { autoencoder: final });
  } finally {
    await encode.close();
  }
}

/** Masks that the scale is measured on. */
const SCALE_MASKS = 64;

/** 1 / deviation of the latents of 64 masks with foreground. @throws ArgumentError when there are none with any */
export async function measureScale(inputs: TrainInputs): Promise<number> {
  const batch = 8;
  const { settings, model } = inputs;
  const masks = autoencodingBatches({ ...batchOptions(inputs, { ...settings.autoencoder, batch }), seed: 0 });
  const encode = latentSampler(model.autoencoder);
  let [n, sum, squares, found] = [0, 0, 0, 0];
  try {
    for (let step = 0; found < SCALE_MASKS && step < SCALE_MASKS; step++) {
      const { mask, noise } = await masks(step);
      const values = (await mask.data()) as Float32Array;
      const latents = (await (await encode(mask, noise)).data()) as Float32Array;
      const [pixels, size] = [values.length / batch, latents.length / batch];
      for (let i = 0; i < batch; i++) {
        if (!values.subarray(i * pixels, (i + 1) * pixels).includes(1)) continue;
        found++;
        for (const v of latents.subarray(i * size, (i + 1) * size)) {
          n++;
          sum += v;
          squares += v * v;
        }
      }
    }
  } finally {
    await encode.close();
  }
  if (found === 0)
    throw new ArgumentError(
      "SDSeg: no mask of the training data has any foreground; the latents have no scale",
    );
  return 1 / Math.sqrt(squares / n - (sum / n) ** 2);
}

/** The model with its scale, which a run measures the first time and never again. */
async function withScale(model: SDSeg, inputs: TrainInputs): Promise<SDSeg> {
  const measured = (): Promise<number> => measureScale({ ...inputs, model });
  if (inputs.folder === undefined) return withParts(model, { scaleFactor: await measured() });
  await mkdir(inputs.folder, { recursive: true });
  const path = join(inputs.folder, "scale.json");
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text !== undefined) {
    const { scaleFactor } = JSON.parse(text) as { scaleFactor?: unknown };
    if (typeof scaleFactor === "number" && scaleFactor > 0) return withParts(model, { scaleFactor });
    throw new FormatError(`${path}: expected a positive scaleFactor, got ${text.slice(0, 80)}`);
  }
  const scaleFactor = await measured();
  await writeFileAtomic(path, Buffer.from(`${JSON.stringify({ scaleFactor, masks: SCALE_MASKS })}\n`));
  return withParts(model, { scaleFactor });
}

/** What decides the denoiser, beside the data, the model and the scale of its latents. */
export function denoiserSettings({ denoiser, seed, crop, augment, lambda, trainVision, ema }: TrainSettings) {
  return { ...denoiser, seed, crop, augment, lambda, trainVision, ema };
}

/** Trains the denoiser and the vision encoder. Returns the model with the averaged denoiser and the vision encoder as it is. */
export async function* trainDenoiser(inputs: TrainInputs): Work<SDSeg> {
  const { model, settings, validation, threads } = inputs;
  checkCrop(model, settings.crop);
  const { denoiser: phase, lambda, trainVision, ema } = settings;
  const encode = latentSampler(model.autoencoder);
  const averaged = (network: SegmentationNetwork, average = network): SDSeg =>
    withParts(model, { network: withFields<SegmentationNetwork>(network, { unet: average.unet }) });
  const groups = [
    { match: (key: string) => key.includes("label_emb"), rateScale: 100 },
    ...(trainVision ? [] : [{ match: (key: string) => key.startsWith("vision"), rateScale: 0 }]),
  ].filter(({ match }) => [...parameters(model.network).keys()].some(match)); // binary models have no labels
  let seen: Validated | undefined;
  try {
    const trained = yield* runPhase<SegmentationNetwork, DenoisingBatch>({
      ...phaseOf(inputs, "denoiser"),
      settings: {
        ...denoiserSettings(settings),
        ...{ head: model.config.head, scaleFactor: model.scaleFactor },
      },
      model: model.network,
      optimizer: adamW({ learningRate: rateOf(phase), weightDecay: 0.01, groups }),
      loss: denoisingLoss(lambda),
      batch: denoisingBatches(batchOptions(inputs, phase), encode, model.scaleFactor),
      ema: ema === "paper" ? warmupDecay(0.9999) : constantDecay(ema),
      ...(validation && {
        validate: async (state) => {
          seen = await validated(averaged(state.model, state.ema), validation, threads);
          return { dice: seen.dice };
        },
        look: async function* (_, step): Work<void> {
          const { dice, picture } = seen!;
          yield { type: "message", text: `step ${step}: validation Dice ${dice.toFixed(4)}` };
          yield { type: "picture", name: "validation", picture };
        },
      }),
    });
    return averaged(trained.model, trained.ema);
  } finally {
    await encode.close();
  }
}

interface Validated {
  readonly dice: number;
  /** Truth over mask, of the first few. */
  readonly picture: ReturnType<typeof grid>;
}

/** Validation pictures at most. */
export const VALIDATED = 40;
/** Those of them that are shown. */
const SHOWN = 4;

/** Mean Dice of one-step masks on the first validation pictures, and the first of them to look at. */
async function validated(model: SDSeg, data: Dataset<Sample>, threads?: number): Promise<Validated> {
  const segmenter = openSegmenter(model, { threads });
  const { classes } = model.config;
  const columns: [ReturnType<typeof overlay>, ReturnType<typeof overlay>][] = [];
  const predict: Predict = async (samples) => {
    const found = await predictWith(segmenter)(samples);
    samples.slice(0, SHOWN - columns.length).forEach((sample, i) => {
      const picture = shownOf(sample);
      columns.push([overlay(picture, sample.labels), overlay(picture, found[i]!.mask)]);
    });
    return found;
  };
  try {
    const { dice } = await evaluateOn(predict, data, { classes, limit: VALIDATED });
    const size = Math.max(...columns.map(([truth]) => truth.width * truth.height));
    const equal = columns.filter(([{ width, height }]) => width * height === size);
    const pictures = [0, 1].flatMap((row) => equal.map((column) => column[row]!));
    return { dice, picture: grid(pictures, { columns: equal.length }) };
  } finally {
    await segmenter.close();
  }
}

/** What a model brings along already. */
export interface Brought {
  /** Autoencoder and scale: a model that was trained before. */
  readonly keepAutoencoder?: boolean;
  /** The autoencoder, whose scale on these masks is not known yet: published weights. */
  readonly measureOnly?: boolean;
}

/** All trainings. A model that was trained before keeps its autoencoder and its scale. */
export async function* trainSDSeg(
  inputs: TrainInputs,
  { keepAutoencoder = false, measureOnly = false }: Brought = {},
): Work<SDSeg> {
  let { model } = inputs;
  if (measureOnly) model = await withScale(model, inputs);
  else if (!keepAutoencoder) {
    model = yield* trainAutoencoder(inputs);
    model = yield* trainDecoder({ ...inputs, model });
  }
  return yield* trainDenoiser({ ...inputs, model });
}

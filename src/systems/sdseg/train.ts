/** Training: the autoencoder of masks, its scale, its decoder, then the denoiser with the vision encoder. Resumable at every step. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset } from "../../data/index.ts";
import { ArgumentError, FormatError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import type { AutoencoderKL } from "../../networks/index.ts";
import {
  adamW,
  constantDecay,
  cosineDecay,
  type TrainEvent,
  type TrainOptions,
  train,
  warmup,
  warmupDecay,
} from "../../nn/index.ts";
import { openHistory, writeRunReport } from "../../report/index.ts";
import type { Seed } from "../../tensor/index.ts";
import {
  type Augment,
  autoencodingBatch,
  type BatchOptions,
  denoisingBatches,
  latentSampler,
} from "./batches.ts";
import { totalStride } from "./config.ts";
import { meanDice } from "./evaluate.ts";
import { openSegmenter } from "./infer.ts";
import { autoencodingLoss, type DecodingBatch, decodingLoss, denoisingLoss } from "./loss.ts";
import { type SDSeg, type SegmentationNetwork, withParts } from "./model.ts";
import type { Sample } from "./samples.ts";

/** How one network is trained. */
export interface PhaseSettings {
  readonly steps: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly warmup: number;
  /** `cosine`: down to 0 at the last step. */
  readonly schedule: "constant" | "cosine";
  /** Largest norm of the gradient; 0: no limit. */
  readonly clip: number;
}

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

/** Settings of the published training and of the miniatures. */
export const TRAINING = {
  paper: {
    crop: 256,
    augment: "flips",
    lambda: 1,
    trainVision: true,
    // The published autoencoder is loaded; a fresh one is trained like this.
    autoencoder: {
      steps: 100_000,
      batch: 4,
      learningRate: 1.8e-5,
      warmup: 1000,
      schedule: "constant",
      clip: 1,
    },
    decoder: {
      crop: 256,
      steps: 0,
      batch: 4,
      learningRate: 1.8e-5,
      warmup: 1000,
      schedule: "constant",
      clip: 1,
    },
    denoiser: { steps: 100_000, batch: 4, learningRate: 4e-5, warmup: 10_000, schedule: "constant", clip: 0 },
    ema: "paper",
  },
  mini: {
    crop: 48,
    augment: "turns",
    lambda: 1,
    trainVision: true,
    autoencoder: { steps: 800, batch: 8, learningRate: 2e-3, warmup: 50, schedule: "cosine", clip: 1 },
    decoder: {
      crop: 128,
      steps: 1500,
      batch: 2,
      learningRate: 2e-3,
      warmup: 50,
      schedule: "cosine",
      clip: 1,
    },
    denoiser: { steps: 2000, batch: 8, learningRate: 1e-3, warmup: 100, schedule: "cosine", clip: 1 },
    ema: 0.995,
  },
  smoke: {
    crop: 32,
    augment: "turns",
    lambda: 1,
    trainVision: true,
    autoencoder: { steps: 150, batch: 8, learningRate: 3e-3, warmup: 10, schedule: "cosine", clip: 1 },
    decoder: {
      crop: 32,
      steps: 0,
      batch: 8,
      learningRate: 3e-3,
      warmup: 10,
      schedule: "cosine",
      clip: 1,
    },
    denoiser: { steps: 200, batch: 8, learningRate: 2e-3, warmup: 20, schedule: "cosine", clip: 1 },
    ema: 0.98,
  },
} as const satisfies Record<string, Omit<TrainSettings, "seed">>;

export interface TrainInputs {
  /** Fresh, or trained before: then its scale is kept. */
  readonly model: SDSeg;
  readonly settings: TrainSettings;
  readonly data: Dataset<Sample>;
  /** For choosing and watching; never the test split. */
  readonly validation?: Dataset<Sample>;
  /** Where checkpoints, history and report are kept. */
  readonly directory?: string;
  readonly signal?: AbortSignal;
  readonly saveEvery?: number;
  readonly validateEvery?: number;
  /** Threads of the training step. Default: as `sessionThreads` says. */
  readonly threads?: number;
}

/** What is going on. */
export interface TrainProgress {
  readonly phase: "autoencoder" | "decoder" | "denoiser";
  readonly event: TrainEvent<unknown>;
}

const rate = ({ learningRate, warmup: rising, schedule, steps }: PhaseSettings) =>
  warmup(rising, schedule === "cosine" ? cosineDecay(learningRate, steps) : learningRate);

function checkCrop(model: SDSeg, crop: number): void {
  const stride = totalStride(model.config);
  if (!(Number.isInteger(crop) && crop > 0 && crop % stride === 0))
    throw new ArgumentError(
      `SDSeg: crop must be a positive multiple of the total stride ${stride}, got ${crop}`,
    );
}

const batchOptions = ({ data, model, settings }: TrainInputs, phase: PhaseSettings): BatchOptions => {
  const { crop, augment, seed } = settings;
  return { data, config: model.config, batch: phase.batch, crop, augment, seed };
};

/** Runs `train`, keeps the history, hands on the events. */
async function* phaseOf<M, B>(
  phase: TrainProgress["phase"],
  inputs: TrainInputs,
  options: Omit<TrainOptions<M, B>, "directory" | "signal">,
): AsyncGenerator<TrainProgress, Extract<TrainEvent<M>, { type: "done" }>["state"]> {
  const { signal, saveEvery = 500, validateEvery = 500, threads } = inputs;
  const directory = inputs.directory && join(inputs.directory, phase);
  if (directory) await mkdir(directory, { recursive: true });
  let history: Awaited<ReturnType<typeof openHistory>> | undefined;
  for await (const event of train({
    ...options,
    directory,
    signal,
    saveEvery,
    validateEvery,
    ...(threads !== undefined && { jit: { threads } }),
  })) {
    if (directory) history ??= await openHistory(directory, event.type === "resumed" ? event.step : 0);
    if (event.type === "step" && (event.step % 20 === 0 || event.step === options.steps))
      await history?.append({ step: event.step, loss: event.loss, gradient_norm: event.gradientNorm });
    if (event.type === "validated") await history?.append({ step: event.step, ...event.metrics });
    yield { phase, event };
    if (event.type !== "done") continue;
    if (directory) await writeRunReport(directory, { title: `SDSeg ${phase}`, settings: options.settings });
    return event.state;
  }
  throw new ArgumentError(`SDSeg: the ${phase} was not trained`);
}

/** Trains the autoencoder on masks. Returns the model with it, and with its scale measured. */
export async function* trainAutoencoder(inputs: TrainInputs): AsyncGenerator<TrainProgress, SDSeg> {
  const { model, settings } = inputs;
  checkCrop(model, settings.crop);
  const { autoencoder: phase } = settings;
  const options = batchOptions(inputs, phase);
  const state = yield* phaseOf<AutoencoderKL, Awaited<ReturnType<typeof autoencodingBatch>>>(
    "autoencoder",
    inputs,
    {
      model: model.autoencoder,
      optimizer: adamW({ learningRate: rate(phase), weightDecay: 0 }),
      loss: autoencodingLoss,
      batch: (step) => autoencodingBatch(options, step),
      steps: phase.steps,
      ...(phase.clip > 0 && { clipNorm: phase.clip }),
      settings: { ...phase, seed: String(settings.seed), crop: settings.crop, augment: settings.augment },
    },
  );
  const scaleFactor = await keptScale(inputs.directory, () => measureScale(state.model, inputs));
  return withParts(model, { autoencoder: state.model, scaleFactor });
}

/**
 * Trains the decoder alone, on latents that the encoder gives of masks: what is made of a latent gets sharper, and every
 * denoiser of these latents fits as before. Returns the model with it.
 */
export async function* trainDecoder(inputs: TrainInputs): AsyncGenerator<TrainProgress, SDSeg> {
  const { model, settings } = inputs;
  const { decoder: phase } = settings;
  if (phase.steps === 0) return model;
  checkCrop(model, phase.crop);
  const options = { ...batchOptions(inputs, phase), crop: phase.crop };
  const encode = latentSampler(model.autoencoder);
  try {
    const state = yield* phaseOf<AutoencoderKL, DecodingBatch>("decoder", inputs, {
      model: model.autoencoder,
      optimizer: adamW({ learningRate: rate(phase), weightDecay: 0 }),
      loss: decodingLoss,
      batch: async (step) => {
        const { mask, noise } = await autoencodingBatch(options, step, "decoder");
        return { mask, latent: await encode(mask, noise) };
      },
      steps: phase.steps,
      ...(phase.clip > 0 && { clipNorm: phase.clip }),
      settings: { ...phase, seed: String(settings.seed), augment: settings.augment },
    });
    return withParts(model, { autoencoder: state.model });
  } finally {
    await encode.close();
  }
}

/** Masks that the scale is measured on. */
const SCALE_MASKS = 64;

/** 1 / deviation of the latents of 64 masks with foreground. @throws ArgumentError when there are none with any */
export async function measureScale(autoencoder: AutoencoderKL, inputs: TrainInputs): Promise<number> {
  const batch = 8;
  const options = { ...batchOptions(inputs, inputs.settings.autoencoder), batch, seed: 0 };
  const encode = latentSampler(autoencoder);
  let [n, sum, squares, masks] = [0, 0, 0, 0];
  try {
    for (let step = 0; masks < SCALE_MASKS && step < SCALE_MASKS; step++) {
      const { mask, noise } = await autoencodingBatch(options, step);
      const values = (await mask.data()) as Float32Array;
      const latents = (await (await encode(mask, noise)).data()) as Float32Array;
      const [pixels, size] = [values.length / batch, latents.length / batch];
      for (let i = 0; i < batch; i++) {
        if (!values.subarray(i * pixels, (i + 1) * pixels).includes(1)) continue;
        masks++;
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
  if (masks === 0)
    throw new ArgumentError(
      "SDSeg: no mask of the training data has any foreground; the latents have no scale",
    );
  return 1 / Math.sqrt(squares / n - (sum / n) ** 2);
}

/** The scale of a run, measured the first time and never again. */
async function keptScale(directory: string | undefined, measure: () => Promise<number>): Promise<number> {
  if (!directory) return measure();
  await mkdir(directory, { recursive: true });
  const path = join(directory, "scale.json");
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text !== undefined) {
    const { scaleFactor } = JSON.parse(text) as { scaleFactor?: unknown };
    if (typeof scaleFactor === "number" && scaleFactor > 0) return scaleFactor;
    throw new FormatError(`${path}: expected a positive scaleFactor, got ${text.slice(0, 80)}`);
  }
  const scaleFactor = await measure();
  await writeFileAtomic(path, Buffer.from(`${JSON.stringify({ scaleFactor, masks: SCALE_MASKS })}\n`));
  return scaleFactor;
}

/** Trains the denoiser and the vision encoder. Returns the model with the averaged denoiser and the vision encoder as it is. */
export async function* trainDenoiser(inputs: TrainInputs): AsyncGenerator<TrainProgress, SDSeg> {
  const { model, settings, validation } = inputs;
  checkCrop(model, settings.crop);
  const { denoiser: phase, lambda, trainVision, ema } = settings;
  const encode = latentSampler(model.autoencoder);
  const averaged = (state: { model: SegmentationNetwork; ema?: SegmentationNetwork }): SDSeg => {
    const { unet } = state.ema ?? state.model;
    return withParts(model, {
      network: Object.assign(Object.create(Object.getPrototypeOf(state.model)), state.model, { unet }),
    });
  };
  try {
    const state = yield* phaseOf<
      SegmentationNetwork,
      Awaited<ReturnType<ReturnType<typeof denoisingBatches>>>
    >("denoiser", inputs, {
      model: model.network,
      optimizer: adamW({
        learningRate: rate(phase),
        weightDecay: 0.01,
        groups: [
          { match: (path) => path.includes("labelEmb"), rateScale: 100 },
          ...(trainVision ? [] : [{ match: (path: string) => path.startsWith("vision"), rateScale: 0 }]),
        ],
      }),
      loss: denoisingLoss(lambda),
      batch: denoisingBatches(batchOptions(inputs, phase), encode, model.scaleFactor),
      steps: phase.steps,
      ...(phase.clip > 0 && { clipNorm: phase.clip }),
      ema: ema === "paper" ? warmupDecay(0.9999) : constantDecay(ema),
      settings: {
        ...phase,
        seed: String(settings.seed),
        crop: settings.crop,
        augment: settings.augment,
        lambda,
        trainVision,
        ema,
        head: model.config.head,
        scaleFactor: model.scaleFactor,
      },
      ...(validation && {
        validate: async (state) => ({
          dice: await validationDice(averaged(state), validation, inputs.threads),
        }),
      }),
    });
    return averaged(state);
  } finally {
    await encode.close();
  }
}

/** Mean Dice of one-step masks on up to 40 validation pictures. */
async function validationDice(model: SDSeg, validation: Dataset<Sample>, threads?: number): Promise<number> {
  const segmenter = openSegmenter(model, { threads });
  try {
    return await meanDice(segmenter, validation, { limit: 40, seed: 0 });
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
): AsyncGenerator<TrainProgress, SDSeg> {
  let { model } = inputs;
  if (measureOnly) {
    const { autoencoder } = model;
    const scaleFactor = await keptScale(inputs.directory, () => measureScale(autoencoder, inputs));
    model = withParts(model, { scaleFactor });
  } else if (!keepAutoencoder) {
    model = yield* trainAutoencoder(inputs);
    model = yield* trainDecoder({ ...inputs, model });
  }
  return yield* trainDenoiser({ ...inputs, model });
}

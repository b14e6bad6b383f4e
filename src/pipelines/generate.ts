/** From a plan to pictures, one batch after the other, as a stream of steps. */

import {
  type ConditionalDenoise,
  classifierFreeGuidance,
  type Denoise,
  LATENT_PREVIEWS,
  latentPreview,
  noised,
  type SampleStep,
  type Scheduler,
  schedulerFromConfig,
  seededNoise,
  withCondition,
} from "../diffusion/index.ts";
import { AbortError } from "../errors.ts";
import { SpaceToDepth } from "../networks/index.ts";
import { concat, type NoiseSource, type Seed, type Tensor, tensor } from "../tensor/index.ts";
import { CompiledFunctions } from "./compiled-functions.ts";
import { type Condition, type ConditionalNetwork, conditionalNetwork } from "./compiled-network.ts";
import { type Conditions, pictureConditions } from "./conditions.ts";
import { type LatentCodec, latentCodec } from "./latent-codec.ts";
import { isInpainting, type PicturePlan } from "./plan.ts";

/** Options of `generatePictures` and `picturesWith`. */
export interface GeneratePicturesOptions {
  /** Ends the work with an `AbortError` before the next step. */
  readonly signal?: AbortSignal;
  /** Steps between previews. Default: no previews. */
  readonly previewEvery?: number;
}

/** What happens while pictures are made. */
export type PictureEvent =
  | { readonly type: "warning"; readonly message: string }
  /** A step of a batch was taken; `preview` [N, 3, h, w] is in [-1, 1], of latent size where there are latents. */
  | {
      readonly type: "step";
      readonly step: number;
      readonly steps: number;
      readonly sigma: number;
      readonly preview?: Tensor;
    }
  /** Picture `index` of the plan is done: [1, 3 or 1, H, W] in [-1, 1]. */
  | {
      readonly type: "picture";
      readonly index: number;
      readonly seed: Seed;
      /** Where it was in its batch. */
      readonly row: number;
      readonly rows: number;
      readonly image: Tensor;
    };

/** What stays the same for all batches. */
interface Run {
  readonly plan: PicturePlan;
  readonly options: GeneratePicturesOptions;
  readonly scheduler: Scheduler;
  readonly denoise: Denoise;
  /** The variance that the network predicted last, if it learned one. */
  readonly variance: (() => Tensor) | undefined;
  readonly codec: LatentCodec;
  /** 1 where the sample is made anew, 0 where it is kept: [1, 1, h, w]. */
  readonly latentMask: Tensor | undefined;
}

const throwIfAborted = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new AbortError();
};

/**
 * The mask at the resolution of the sample, of zeros and ones: every `factor`-th pixel, as diffusers takes
 * them.
 */
async function latentMaskOf(mask: Tensor | undefined, factor: number): Promise<Tensor | undefined> {
  if (!mask) return undefined;
  const [, , h, w] = mask.shape as [number, number, number, number];
  const values = (await mask.data()) as Float32Array;
  const [rows, columns] = [h / factor, w / factor];
  const small = Float32Array.from({ length: rows * columns }, (_, i) =>
    values[Math.floor(i / columns) * factor * w + (i % columns) * factor]! >= 0.5 ? 1 : 0,
  );
  return tensor(small, { shape: [1, 1, rows, columns] });
}

/** made where the mask is 1, known where it is 0. */
const blend = (made: Tensor, known: Tensor, mask: Tensor): Promise<Tensor> =>
  made
    .mul(mask)
    .add(known.mul(mask.neg().add(1)))
    .eval();

/** Further channels of inpainting U-Nets: the mask, and the latents of the picture with the masked part blanked out. */
async function inpaintingChannels(
  plan: PicturePlan,
  codec: LatentCodec,
  mask: Tensor | undefined,
): Promise<Tensor | undefined> {
  const { init, mask: pixels, seeds } = plan.options;
  if (!isInpainting(plan.components) || !init || !pixels || !mask) return undefined;
  const kept = await init.mul(pixels.less(0.5).cast("f32")).eval();
  const latents = await codec.encode(kept, seededNoise(plan.settings.rng, [seeds[0]!]), 1);
  return concat(mask, latents, 1).eval();
}

/** The network, guided, as a denoiser in the sampler's coordinates. */
function guidedDenoiser(
  plan: PicturePlan,
  scheduler: Scheduler,
  network: ConditionalNetwork,
  conditions: Conditions,
): Pick<Run, "denoise" | "variance"> {
  const { guidance } = plan.settings;
  const channels = plan.components.transformer?.config.in_channels;
  let condition: Condition = conditions.condition;
  const denoise = scheduler.denoiser(async (x, timestep) => {
    const prediction = await network.call(x, timestep, condition);
    const carriesVariance =
      typeof channels === "number" && prediction.shape[1] === 2 * channels && !scheduler.learnedVariance;
    return carriesVariance ? prediction.sliceAxis(1, 0, channels) : prediction;
  });
  const conditional: ConditionalDenoise<Condition> = (x, sigma, told) => {
    condition = told;
    return denoise(x, sigma);
  };
  const { variance } = denoise;
  if (!conditions.negative || guidance === 1)
    return { denoise: withCondition(conditional, conditions.condition), variance };
  const guided = classifierFreeGuidance(conditional, {
    condition: conditions.condition,
    negative: conditions.negative,
    scale: guidance,
    rescale: plan.options.guidanceRescale,
    prediction: predictionOf(plan),
    separate: scheduler.learnedVariance !== undefined,
  });
  return { denoise: guided, variance };
}

function predictionOf({ scheduler }: PicturePlan): "eps" | "v" | "x0" | "flow" {
  const names = { v_prediction: "v", sample: "x0", flow_prediction: "flow" } as const;
  return names[scheduler.prediction_type as keyof typeof names] ?? "eps";
}

function previewOf(plan: PicturePlan, denoised: Tensor): Tensor | undefined {
  if (!plan.components.vae) return denoised;
  const { model } = plan.components.vae;
  if (model instanceof SpaceToDepth) return model.decode(model.unscaled(denoised));
  const known = plan.components.kind === "sdxl" ? LATENT_PREVIEWS.sdxl : LATENT_PREVIEWS.sd1;
  return denoised.shape[1] === known.factors.length ? latentPreview(denoised, known) : undefined;
}

/** Shape of the samples of a batch. */
function sampleShape({ plan, codec }: Run, rows: number): number[] {
  const { components, settings } = plan;
  const { width, height } = settings;
  const { config } = (components.unet ?? components.transformer)!;
  const channels = components.vae
    ? Number(components.vae.config.latent_channels ?? 4)
    : Number(config.in_channels ?? 3);
  return [rows, channels, height / codec.factor, width / codec.factor];
}

/** The initial sample of a batch, and the edit after each step. */
interface Beginning {
  readonly x: Tensor;
  readonly edit?: (step: SampleStep) => Promise<Tensor>;
}

/** From noise, or from the noisy picture; what a mask keeps has the picture's noisy version from the beginning. */
async function begin(run: Run, noise: NoiseSource, rows: number): Promise<Beginning> {
  const { plan, scheduler, codec, latentMask } = run;
  const { init } = plan.options;
  const shape = sampleShape(run, rows);
  const image = init && (await codec.encode(init, noise, rows));
  const normal = tensor(noise.normal(shape, { purpose: 0, step: 0 }), { shape });
  if (!image) return { x: scheduler.initial(normal) };
  const known = scheduler.addNoise(image, normal, plan.start);
  const first = plan.start === 0 && plan.settings.strength === 1 ? scheduler.initial(normal) : known;
  if (!latentMask || isInpainting(plan.components)) return { x: first };
  const flow = scheduler.space === "flow";
  return {
    x: await blend(first, known, latentMask),
    edit: async ({ x, step, steps, sigmaNext }) =>
      blend(x, step === steps - 1 ? image : await noised(image, normal, sigmaNext, flow), latentMask),
  };
}

/** Pixels that the mask keeps are those of the picture that was given. */
async function pasteKnown({ init, mask }: PicturePlan["options"], image: Tensor): Promise<Tensor> {
  return init && mask ? blend(image, init, mask) : image;
}

/** The steps of a batch; returns its samples. */
async function* sampled(
  run: Run,
  seeds: readonly Seed[],
): AsyncGenerator<Extract<PictureEvent, { type: "step" }>, Tensor> {
  const { plan, options, scheduler, denoise, variance } = run;
  const { signal, previewEvery } = options;
  const noise = seededNoise(plan.settings.rng, seeds);
  const { x, edit } = await begin(run, noise, seeds.length);
  const sampling = scheduler.run(denoise, x, { noise, signal, variance, start: plan.start });
  let next = await sampling.next();
  while (!next.done) {
    const { step, steps, sigma, denoised } = next.value;
    const replaced = edit && (await edit(next.value));
    const due = previewEvery !== undefined && (step + 1) % previewEvery === 0;
    const preview = due ? previewOf(plan, denoised) : undefined;
    yield { type: "step", step, steps, sigma, ...(preview && { preview }) };
    next = await sampling.next(replaced);
  }
  return next.value;
}

/** Samples [N, C, h, w] of the seeds from number `first` on. */
interface Batch {
  readonly first: number;
  readonly seeds: readonly Seed[];
  readonly samples: Tensor;
}

/** The pictures of a batch's samples. */
async function* decoded(
  { plan, options, codec }: Run,
  { first, seeds, samples }: Batch,
): AsyncGenerator<PictureEvent> {
  for (const [row, seed] of seeds.entries()) {
    throwIfAborted(options.signal);
    const sample = await samples.sliceAxis(0, row, row + 1).eval();
    const image = await pasteKnown(plan.options, await codec.decode(sample));
    yield { type: "picture", index: first + row, seed, row, rows: seeds.length, image };
  }
}

/**
 * Makes the pictures of a plan. The networks are compiled once for all batches of a size, with their weights as
 * inputs, and closed at the end: a program that makes pictures again and again keeps them (`compilePipeline`). Whoever
 * leaves the loop without `break` or an error calls `return()`, or the sessions stay until they are collected. Where there
 * is an autoencoder, all batches are sampled before the first is decoded, so that the denoiser's memory is free by then.
 *
 * @throws {AbortError} when the signal says so, {NonFiniteError} where a NaN appeared
 *
 * @example
 * ```ts
 * const components = await loadPipelineComponents("stable-diffusion-v1-5");
 * const plan = planPictures(components, { prompt: "a red fox in snow", steps: 20, seeds: [7] });
 * for await (const event of generatePictures(plan))
 *   if (event.type === "picture") await writeGrid(`fox-${event.seed}.png`, event.image);
 * ```
 */
export async function* generatePictures(
  plan: PicturePlan,
  options: GeneratePicturesOptions = {},
): AsyncGenerator<PictureEvent> {
  const functions = new CompiledFunctions();
  try {
    yield* picturesWith(functions, plan, options, () => functions.close());
  } finally {
    await functions.close();
  }
}

/**
 * The pictures of a plan by functions that the caller closes; `stageEnded` is called where what was compiled so far is not
 * needed any more for this plan: after the text encoders, and after the denoiser.
 */
export async function* picturesWith(
  functions: CompiledFunctions,
  plan: PicturePlan,
  options: GeneratePicturesOptions = {},
  stageEnded: () => Promise<void> = async () => undefined,
): AsyncGenerator<PictureEvent> {
  const { components, settings } = plan;
  const { seeds, controls } = plan.options;
  const scheduler = schedulerFromConfig(plan.scheduler, { steps: settings.steps, eta: settings.eta });
  const conditions = await pictureConditions(plan, functions);
  for (const message of conditions.warnings) yield { type: "warning", message };
  throwIfAborted(options.signal);
  await stageEnded();
  const codec = latentCodec(components, options.signal, functions);
  const latentMask = await latentMaskOf(plan.options.mask, codec.factor);
  const channels = await inpaintingChannels(plan, codec, latentMask);
  const network = conditionalNetwork(components, { controls, channels, functions });
  const guided = guidedDenoiser(plan, scheduler, network, conditions);
  const run: Run = { plan, options, scheduler, ...guided, codec, latentMask };
  const waiting: Batch[] = [];
  for (let first = 0; first < seeds.length; first += settings.batch) {
    const own = seeds.slice(first, first + settings.batch);
    const batch = { first, seeds: own, samples: yield* sampled(run, own) };
    // Samples of latents are small, and network and decoder together are what needs the most memory.
    if (components.vae) waiting.push(batch);
    else yield* decoded(run, batch);
  }
  await stageEnded();
  for (const batch of waiting) yield* decoded(run, batch);
}

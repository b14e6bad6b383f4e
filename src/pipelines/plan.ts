/** What a pipeline is asked to make, checked against what it can make, with every default filled in. */
import { schedulerFromConfig } from "../diffusion/index.ts";
import { ArgumentError } from "../errors.ts";
import { SpaceToDepth } from "../networks/index.ts";
import type { NoiseMode, Seed, Tensor } from "../tensor/index.ts";
import { assertFits } from "../tensor/memory.ts";
import type { Control } from "./compiled-network.ts";
import type { Config, PipelineComponents } from "./components.ts";
import { type PipelineSampler, type PipelineSchedule, samplerName, swapSampler } from "./swap-scheduler.ts";

/** What is wanted. Absent options have the model's own default. */
export interface PictureOptions {
  /** One per picture; a picture depends on its own seed only. */
  readonly seeds: readonly Seed[];
  /** Pictures computed together. Default 1. */
  readonly batch?: number;
  readonly prompt?: string;
  readonly negative?: string;
  /** Class label, for class-conditional models. */
  readonly label?: number;
  readonly width?: number;
  readonly height?: number;
  readonly steps?: number;
  readonly sampler?: PipelineSampler;
  readonly schedule?: PipelineSchedule;
  /** Share of fresh noise in the steps of DDIM and TCD, 0 to 1. Default 0, as in diffusers' pipelines. */
  readonly eta?: number;
  /** Strength of classifier-free guidance; 1 is none. */
  readonly guidance?: number;
  /** phi of `rescaleSpread`, 0 to 1. Default 0. */
  readonly guidanceRescale?: number;
  readonly clipSkip?: number;
  /** Whether brackets weigh words. Default true. */
  readonly emphasis?: boolean;
  /** Whether long prompts are split instead of cut. Default false. */
  readonly longPrompts?: boolean;
  /** How noise is made. Default "torch-cpu". */
  readonly rng?: NoiseMode;
  /** Picture to start from, [1, 3, H, W] in [-1, 1], of the size that is made. */
  readonly init?: Tensor;
  /** Where it is repainted, [1, 1, H, W] in [0, 1]. */
  readonly mask?: Tensor;
  /** Share of the steps that are taken from the picture's noisy version, 0 to 1. Default 0.8, with a mask 1. */
  readonly strength?: number;
  readonly controls?: readonly Control[];
}

/** Everything that decides a picture beside the model, the seed and the pictures it starts from. */
export interface PictureSettings {
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  /** Name of the sampler, for people: of the model's own when none was asked for. */
  readonly samplerName: string;
  readonly schedule: PipelineSchedule;
  /** Of samplers that take it. */
  readonly eta: number | undefined;
  readonly guidance: number;
  readonly strength: number | undefined;
  readonly batch: number;
  readonly rng: NoiseMode;
}

/** A checked request. */
export interface PicturePlan {
  readonly components: PipelineComponents;
  readonly options: PictureOptions;
  readonly settings: PictureSettings;
  /** Configuration of the scheduler that is used. */
  readonly scheduler: Config;
  /** First step that is taken, above 0 when a picture is given. */
  readonly start: number;
  /** Steps of all batches together. */
  readonly totalSteps: number;
}

const GUIDANCE: Readonly<Record<PipelineComponents["kind"], number>> = {
  sd: 7.5,
  sdxl: 5,
  dit: 4,
  unconditional: 1,
};

/** Samplers for models that were distilled to few steps. */
const FEW_STEPS = ["LCMScheduler", "TCDScheduler"];

function defaultSteps({ kind, className, defaults }: PipelineComponents, scheduler: Config): number {
  if (defaults?.steps !== undefined) return defaults.steps;
  if (FEW_STEPS.includes(String(scheduler._class_name))) return 4;
  return kind === "unconditional" && className === "DDPMPipeline" && scheduler._class_name === "DDPMScheduler"
    ? 1000
    : 50;
}

/** Samplers whose share of fresh noise can be chosen. */
const WITH_ETA = ["DDIMScheduler", "DDIMParallelScheduler", "TCDScheduler"];

/** The share of fresh noise; undefined for samplers that have none to choose. @throws {ArgumentError} when they are given one */
function etaOf(eta: number | undefined, scheduler: Config): number | undefined {
  if (eta !== undefined && !(eta >= 0 && eta <= 1))
    throw new ArgumentError(`eta: expected 0 to 1, got ${eta}`);
  if (WITH_ETA.includes(String(scheduler._class_name))) return eta ?? 0;
  if (eta !== undefined)
    throw new ArgumentError(`eta: ddim and tcd take it, this model's sampler is ${samplerName(scheduler)}`);
  return undefined;
}

/** Network that denoises. */
const denoiserOf = ({ unet, transformer }: PipelineComponents) => (unet ?? transformer)!;

/** Pixels per latent, in each direction: 1 without an autoencoder. */
export function latentFactor({ vae }: PipelineComponents): number {
  if (!vae) return 1;
  if (vae.model instanceof SpaceToDepth) return vae.model.sizeFactor;
  const levels = vae.config.block_out_channels ?? vae.config.encoder_block_out_channels;
  return 2 ** ((Array.isArray(levels) ? levels.length : 4) - 1);
}

/** Height and width of the sample that the network was trained at. */
function sampleSize({ config }: { config: Config }): [height: number, width: number] | undefined {
  const { sample_size: size } = config;
  if (typeof size === "number") return [size, size];
  return Array.isArray(size) && size.length === 2 ? [Number(size[0]), Number(size[1])] : undefined;
}

/** Throws, offering the nearest size, unless both sides are multiples of what the model needs. */
export function checkSize(width: number, height: number, multiple: number): void {
  for (const side of [width, height])
    if (!Number.isInteger(side) || side < 1)
      throw new ArgumentError(`size: expected whole numbers of pixels, got ${width}x${height}`);
  if (width % multiple === 0 && height % multiple === 0) return;
  const near = (side: number): number => Math.max(1, Math.round(side / multiple)) * multiple;
  throw new ArgumentError(
    `size: width and height must be multiples of ${multiple} for this model, got ${width}x${height}; the nearest is ${near(width)}x${near(height)}`,
  );
}

/** The size of the model's pictures when none is asked for, and what sizes must be multiples of. */
export function ownSize(components: PipelineComponents): { width: number; height: number; multiple: number } {
  const factor = latentFactor(components);
  const [height, width] = sampleSize(denoiserOf(components)) ?? [64, 64];
  const patch = components.transformer?.config.patch_size;
  const multiple = factor * (typeof patch === "number" ? patch : 1);
  return { width: width * factor, height: height * factor, multiple };
}

function sizeOf(components: PipelineComponents, options: PictureOptions): { width: number; height: number } {
  const own = ownSize(components);
  const [height, width] = options.init?.shape.slice(2) ?? [own.height, own.width];
  const size = { width: options.width ?? width!, height: options.height ?? height! };
  checkSize(size.width, size.height, own.multiple);
  return size;
}

/** Number of classes, or undefined for a model that is not told any. */
export function classCount(components: PipelineComponents): number | undefined {
  const { config } = denoiserOf(components);
  const classes = components.kind === "dit" ? (config.num_embeds_ada_norm ?? 1000) : config.num_class_embeds;
  return typeof classes === "number" ? classes : undefined;
}

function checkKind(components: PipelineComponents, options: PictureOptions): void {
  const { kind, path } = components;
  const { prompt, negative, label, controls = [] } = options;
  const isText = kind === "sd" || kind === "sdxl";
  const classes = classCount(components);
  if (isText && prompt === undefined)
    throw new ArgumentError(`${path}: this model makes pictures from a text: give a prompt`);
  if (!isText && (prompt !== undefined || negative !== undefined))
    throw new ArgumentError(`${path}: this model takes no prompt${classes ? ": give a class" : ""}`);
  if (!isText && controls.length > 0)
    throw new ArgumentError(`${path}: a ControlNet needs a model that is told a text`);
  if (!isText && classes !== undefined && label === undefined)
    throw new ArgumentError(
      `${path}: this model makes pictures of a class: give a class, 0 to ${classes - 1}`,
    );
  if (label === undefined) return;
  if (isText || classes === undefined) throw new ArgumentError(`${path}: this model knows no classes`);
  if (!Number.isInteger(label) || label < 0 || label >= classes)
    throw new ArgumentError(`class: expected 0 to ${classes - 1}, got ${label}`);
}

/** Steps that are taken of all, as diffusers counts them: the share is rounded down. */
function startOf(steps: number, strength: number | undefined): number {
  if (strength === undefined) return 0;
  if (!(strength >= 0 && strength <= 1))
    throw new ArgumentError(`strength: expected 0 to 1, got ${strength}`);
  const start = steps - Math.min(Math.floor(steps * strength), steps);
  if (start < steps) return start;
  throw new ArgumentError(
    `strength ${strength} of ${steps} steps leaves no step to take: at least ${Math.ceil(100 / steps) / 100} is needed`,
  );
}

function checkPicture(
  name: string,
  picture: Tensor | undefined,
  channels: number,
  size: { width: number; height: number },
): void {
  const expected = [1, channels, size.height, size.width];
  if (picture && picture.shape.join() !== expected.join())
    throw new ArgumentError(`${name}: expected [${expected}], got [${picture.shape}]`);
}

/** Channels of an inpainting U-Net: sample, mask, masked picture. */
export const isInpainting = (components: PipelineComponents): boolean =>
  components.unet?.config.in_channels === 9 && components.vae !== undefined;

/** Maps of the full size that are held at once where a network begins or ends. */
const MAPS = 3;

/** What the maps of a picture take at the least, in bytes: of the autoencoder's widest place, or of the network's. */
function leastMemory(
  { vae, unet, transformer }: PipelineComponents,
  { width, height }: { readonly width: number; readonly height: number },
): number {
  const { config } = (vae ?? unet ?? transformer)!;
  const [channels = 64] = (config.block_out_channels as readonly number[] | undefined) ?? [];
  return 4 * MAPS * channels * width * height;
}

/**
 * Checks a request and fills in the defaults of the model and of diffusers' pipelines.
 *
 * @throws {ArgumentError} that says what the model takes instead
 */
export function planPictures(components: PipelineComponents, options: PictureOptions): PicturePlan {
  const { seeds, batch = 1, init, mask, sampler, schedule = "model" } = options;
  if (seeds.length === 0) throw new ArgumentError("pictures: expected at least one seed");
  if (!Number.isInteger(batch) || batch < 1)
    throw new ArgumentError(`batch: expected at least 1, got ${batch}`);
  checkKind(components, options);
  const size = sizeOf(components, options);
  assertFits(leastMemory(components, size), `a picture of ${size.width}x${size.height} pixels`);
  if (mask && !init) throw new ArgumentError("a mask needs a picture to start from");
  if (isInpainting(components) && !mask)
    throw new ArgumentError(`${components.path}: this model repaints pictures: give a picture and a mask`);
  checkPicture("picture to start from", init, 3, size);
  checkPicture("mask", mask, 1, size);
  for (const { image } of options.controls ?? []) checkPicture("picture of a ControlNet", image, 3, size);

  const scheduler = swapSampler(components.scheduler, sampler, schedule);
  const steps = options.steps ?? defaultSteps(components, scheduler);
  const strength = init && (options.strength ?? (mask ? 1 : 0.8));
  const start = startOf(steps, strength);
  const eta = etaOf(options.eta, scheduler);
  schedulerFromConfig(scheduler, { steps }); // throws for what makes no schedule
  return {
    components,
    options,
    settings: {
      ...size,
      steps,
      samplerName: samplerName(scheduler),
      schedule,
      eta,
      guidance: options.guidance ?? components.defaults?.guidance ?? GUIDANCE[components.kind],
      strength,
      batch: Math.min(batch, seeds.length),
      rng: options.rng ?? "torch-cpu",
    },
    scheduler,
    start,
    totalSteps: (steps - start) * Math.ceil(seeds.length / batch),
  };
}

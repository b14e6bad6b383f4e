/** The checked request of `tweedie generate`, from the command line and the options stored in a picture. */

import type { Family, LoraFile } from "../../pipelines/index.ts";
import {
  PIPELINE_SAMPLERS,
  PIPELINE_SCHEDULES,
  type PipelineSampler,
  type PipelineSchedule,
} from "../../pipelines/swap-scheduler.ts";
import type { NoiseMode, Seed } from "../../tensor/index.ts";
import { UsageError } from "../errors.ts";
import { type GivenOptions, readOptions } from "../options.ts";
import {
  choiceValue,
  integerValue,
  numberValue,
  pathAndNumber,
  type Range,
  type Size,
  seedValue,
  sizeValue,
  twoPathsAndNumber,
} from "../values.ts";
import { GENERATE_OPTIONS, type OptionName, type OptionValues } from "./options.ts";
import { ourSampler } from "./web-ui.ts";

/** Options that say what is done with a picture or with the machine, not what it shows: pictures do not carry them. */
const NOT_RECORDED = new Set<OptionName>([
  "hub",
  "count",
  "batch",
  "from",
  "out",
  "overwrite",
  "preview",
  "metadata",
  "json",
]);

/** Options that decide what a picture shows. */
export const RECORDED_OPTIONS = (Object.keys(GENERATE_OPTIONS) as OptionName[]).filter(
  (name) => !NOT_RECORDED.has(name),
);

const NOISE_MODES: readonly NoiseMode[] = ["torch-cpu", "torch-cuda", "philox"];

const FAMILIES: readonly Family[] = ["sd1", "sd2", "sdxl"];
const PREDICTIONS = ["epsilon", "v_prediction", "sample"] as const;

const UNIT: Range = { min: 0, max: 1 };
const COUNT: Range = { min: 1, max: 1_000_000 };
/** More steps than this are taken as a typing error. */
const STEPS: Range = { min: 1, max: 100_000 };

/** Options that name files (for autoencoders and text encoders also folders) which decide what a picture shows. */
export function filesOf({
  vae,
  textEncoders,
  initImage,
  mask,
  loras,
  controls,
}: GenerateRequest): NamedFiles {
  return {
    ...(vae !== undefined && { vae: [vae] }),
    ...(textEncoders.length > 0 && { "text-encoder": textEncoders }),
    ...(initImage !== undefined && { "init-image": [initImage] }),
    ...(mask !== undefined && { mask: [mask] }),
    ...(loras.length > 0 && { lora: loras.map((l) => l.path) }),
    ...(controls.length > 0 && { control: controls.map((c) => c.image) }),
  };
}

/** Paths by the option that names them. */
export type NamedFiles = Readonly<Partial<Record<OptionName, readonly string[]>>>;

/** A ControlNet, its picture and its scale. */
export interface ControlRequest {
  readonly path: string;
  readonly image: string;
  readonly scale: number;
}

/** Everything that was asked for, checked as far as it can be without the model. Absent: the default. */
export interface GenerateRequest {
  readonly model: string;
  readonly hub: boolean;
  readonly variant?: string;
  /** Autoencoder in place of the model's own. */
  readonly vae?: string;
  /** Text encoders in place of the model's own, in its order. */
  readonly textEncoders: readonly string[];
  readonly tokenizer?: string;
  readonly base?: string;
  readonly family?: Family;
  readonly predictionType?: (typeof PREDICTIONS)[number];
  readonly prompt?: string;
  readonly negative?: string;
  readonly class?: string;
  readonly size?: Size;
  readonly count: number;
  readonly seed?: Seed;
  readonly steps?: number;
  readonly sampler?: PipelineSampler;
  readonly schedule?: PipelineSchedule;
  readonly eta?: number;
  readonly guidance?: number;
  readonly guidanceRescale: number;
  readonly clipSkip: number;
  readonly emphasis: boolean;
  readonly longPrompt: boolean;
  readonly rng: NoiseMode;
  readonly batch: number;
  readonly initImage?: string;
  readonly mask?: string;
  readonly strength?: number;
  readonly loras: readonly LoraFile[];
  readonly controls: readonly ControlRequest[];
  readonly out: string;
  readonly overwrite: boolean;
  readonly previewEvery?: number;
  readonly metadata: boolean;
  readonly json: boolean;
}

/** Reads the arguments of `tweedie generate`. @throws {UsageError} for what it does not take */
export const readArguments = (args: readonly string[]): OptionValues =>
  Object.fromEntries((readOptions(args, GENERATE_OPTIONS) as GivenOptions).values);

/** Makes a request of options. @throws {UsageError} for values that are out of range or do not go together */
export function requestOf(options: OptionValues): GenerateRequest {
  const text = (name: OptionName): string | undefined => {
    const value = options[name];
    return Array.isArray(value) ? value.at(-1) : undefined;
  };
  const list = (name: OptionName): readonly string[] =>
    (options[name] as readonly string[] | undefined) ?? [];
  const on = (name: OptionName, otherwise = false): boolean =>
    (options[name] as boolean | undefined) ?? otherwise;
  const read = <T>(name: OptionName, convert: (text: string) => T): T | undefined => {
    const value = text(name);
    return value === undefined ? undefined : convert(value);
  };
  const integer = (name: OptionName, range: Range): number | undefined =>
    read(name, (value) => integerValue(name, value, range));
  const number = (name: OptionName, range?: Range): number | undefined =>
    read(name, (value) => numberValue(name, value, range));

  const model = text("model");
  if (!model)
    throw new UsageError(
      "--model PATH|ID is needed: a folder, a .safetensors file, or a hub name with --hub",
    );
  const request: GenerateRequest = {
    model,
    hub: on("hub"),
    variant: text("variant"),
    vae: text("vae"),
    textEncoders: list("text-encoder"),
    tokenizer: text("tokenizer"),
    base: text("base"),
    family: read("family", (value) => choiceValue("family", value, FAMILIES)),
    predictionType: read("prediction", (value) => choiceValue("prediction", value, PREDICTIONS)),
    prompt: text("prompt"),
    negative: text("negative"),
    class: text("class"),
    size: read("size", (value) => sizeValue("size", value)),
    count: integer("count", COUNT) ?? 1,
    seed: read("seed", (value) => seedValue("seed", value)),
    steps: integer("steps", STEPS),
    sampler: read("sampler", (value) => choiceValue("sampler", ourSampler(value), PIPELINE_SAMPLERS)),
    schedule: read("schedule", (value) => choiceValue("schedule", value, PIPELINE_SCHEDULES)),
    eta: number("eta", UNIT),
    guidance: number("guidance"),
    guidanceRescale: number("guidance-rescale", UNIT) ?? 0,
    clipSkip: integer("clip-skip", { min: 0 }) ?? 0,
    emphasis: on("emphasis", true),
    longPrompt: on("long-prompt"),
    rng: read("rng", (value) => choiceValue("rng", value, NOISE_MODES)) ?? "torch-cpu",
    batch: integer("batch", COUNT) ?? 1,
    initImage: text("init-image"),
    mask: text("mask"),
    strength: number("strength", UNIT),
    loras: list("lora").map(loraOf),
    controls: list("control").map(controlOf),
    out: text("out") ?? "out",
    overwrite: on("overwrite"),
    previewEvery: integer("preview", { min: 1 }),
    metadata: on("metadata", true),
    json: on("json"),
  };
  checkTogether(request);
  return request;
}

function loraOf(text: string): LoraFile {
  const { path, number } = pathAndNumber(text);
  return { path, weight: number };
}

function controlOf(text: string): ControlRequest {
  const { first, second, number } = twoPathsAndNumber("control", text);
  return { path: first, image: second, scale: number };
}

function checkTogether({ initImage, mask, strength, out }: GenerateRequest): void {
  if (mask && !initImage) throw new UsageError("--mask needs --init-image: the picture that is repainted");
  if (strength !== undefined && !initImage) throw new UsageError("--strength needs --init-image");
  if (/\.(?:jpe?g|webp|gif|tiff?|bmp|avif)$/i.test(out))
    throw new UsageError(`--out ${out}: pictures are written as PNG, so the name must end with .png`);
}

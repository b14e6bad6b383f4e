/**
 * The classes that a file may ask for by name. The table is closed: a name that is not in it is refused, and nothing is
 * ever imported by what a file says.
 */
import { FormatError } from "../errors.ts";
import {
  autoencoderKL,
  autoencoderTiny,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  clipTextConfig,
  controlNet,
  DiTTransformer2DModel,
  ditConfig,
  guidedDiffusionClassifier,
  guidedDiffusionUNet,
  maskedAutoencoder,
  spaceToDepth,
  unet2D,
  unet2DCondition,
  visionTransformer,
} from "../networks/index.ts";
import type { Module, Rng } from "../nn/index.ts";
import type { PipelineKind } from "./components.ts";
import { LEGACY_ATTENTION } from "./key-maps/stable-diffusion.ts";

/** How a network of diffusers is built and read. */
export interface NetworkClass {
  /** Builds it from `config.json`. Throws `ArgumentError` for a value that cannot be. */
  build(config: unknown, rng: Rng): Module;
  /** The name that the module has for a tensor of an older file. */
  modernName?(name: string): string;
  /** Library that `model_index.json` names. */
  readonly library: "diffusers" | "transformers" | "tweedie";
  /** Name of its weight files, without ending. */
  readonly weights: "diffusion_pytorch_model" | "model";
}

const DIFFUSERS = { library: "diffusers", weights: "diffusion_pytorch_model" } as const;
/** Networks that the reference libraries do not have, or not under these names. */
const OWN = { library: "tweedie", weights: "model" } as const;
const TRANSFORMERS = { library: "transformers", weights: "model" } as const;

const LEGACY = /(\.attentions\.\d+\.)(query|key|value|proj_attn)\./;
/** The name of an attention weight in files of today: older ones say query, key, value and proj_attn. */
export const modernAttention = (name: string): string =>
  name.replace(LEGACY, (_, head: string, old: string) => `${head}${LEGACY_ATTENTION[old]}.`);

/** Newer versions of diffusers leave out the outer name. */
const withTextModel = (name: string): string =>
  /^(?:embeddings|encoder|final_layer_norm)\./.test(name) ? `text_model.${name}` : name;

const dit: NetworkClass = {
  ...DIFFUSERS,
  build: (config, rng) => new DiTTransformer2DModel(ditConfig(config), rng),
};

const NETWORKS: Readonly<Record<string, NetworkClass>> = {
  UNet2DConditionModel: { ...DIFFUSERS, build: unet2DCondition },
  UNet2DModel: { ...DIFFUSERS, build: unet2D, modernName: modernAttention },
  ControlNetModel: { ...DIFFUSERS, build: controlNet },
  AutoencoderKL: { ...DIFFUSERS, build: autoencoderKL, modernName: modernAttention },
  AutoencoderTiny: { ...DIFFUSERS, build: autoencoderTiny },
  DiTTransformer2DModel: dit,
  Transformer2DModel: dit,
  CLIPTextModel: {
    ...TRANSFORMERS,
    build: (config, rng) => new CLIPTextModel(clipTextConfig(config), rng),
    modernName: withTextModel,
  },
  CLIPTextModelWithProjection: {
    ...TRANSFORMERS,
    build: (config, rng) => new CLIPTextModelWithProjection(clipTextConfig(config), rng),
    modernName: withTextModel,
  },
  GuidedDiffusionUNet: { ...OWN, build: guidedDiffusionUNet },
  GuidedDiffusionClassifier: { ...OWN, build: guidedDiffusionClassifier },
  VisionTransformer: { ...OWN, build: visionTransformer },
  MaskedAutoencoder: { ...OWN, build: maskedAutoencoder },
  SpaceToDepth: { ...OWN, build: spaceToDepth },
};

/** Names of all networks that can be loaded. */
export const networkNames = (): string[] => Object.keys(NETWORKS);

/** The class of a name. @throws {FormatError} listing what is known */
export function networkClass(name: string | undefined, where: string): NetworkClass {
  const found = name !== undefined && Object.hasOwn(NETWORKS, name) ? NETWORKS[name] : undefined;
  if (found) return found;
  const what = name === undefined ? "no class name" : `the class ${JSON.stringify(name)}`;
  throw new FormatError(`${where}: expected one of ${networkNames().join(", ")}, got ${what}`);
}

const PIPELINES: Readonly<Record<string, PipelineKind>> = {
  StableDiffusionPipeline: "sd",
  StableDiffusionImg2ImgPipeline: "sd",
  StableDiffusionInpaintPipeline: "sd",
  StableDiffusionInpaintPipelineLegacy: "sd",
  StableDiffusionControlNetPipeline: "sd",
  StableDiffusionPAGPipeline: "sd",
  LatentConsistencyModelPipeline: "sd",
  StableDiffusionXLPipeline: "sdxl",
  StableDiffusionXLImg2ImgPipeline: "sdxl",
  StableDiffusionXLInpaintPipeline: "sdxl",
  StableDiffusionXLControlNetPipeline: "sdxl",
  DiTPipeline: "dit",
  DDPMPipeline: "unconditional",
  DDIMPipeline: "unconditional",
  PNDMPipeline: "unconditional",
  KarrasVePipeline: "unconditional",
  ScoreSdeVePipeline: "unconditional",
  LDMPipeline: "unconditional",
  ConsistencyModelPipeline: "unconditional",
};

/** How a pipeline of diffusers is conditioned. @throws {FormatError} listing what is known */
export function pipelineKind(className: string, where: string): PipelineKind {
  const kind = Object.hasOwn(PIPELINES, className) ? PIPELINES[className] : undefined;
  if (kind) return kind;
  throw new FormatError(
    `${where}: expected one of ${Object.keys(PIPELINES).join(", ")}, got ${JSON.stringify(className)}`,
  );
}

/** The part that a component plays; what is `ignored` is not needed to make pictures. */
export type Role = "unet" | "transformer" | "vae" | "textEncoder" | "tokenizer" | "scheduler" | "ignored";

const ROLES: Readonly<Record<string, Role>> = {
  unet: "unet",
  transformer: "transformer",
  vae: "vae",
  vqvae: "vae",
  text_encoder: "textEncoder",
  text_encoder_2: "textEncoder",
  tokenizer: "tokenizer",
  tokenizer_2: "tokenizer",
  scheduler: "scheduler",
  safety_checker: "ignored",
  feature_extractor: "ignored",
  image_encoder: "ignored",
  controlnet: "ignored",
};

/** The part of a component's name. @throws {FormatError} listing what is known */
export function roleOf(component: string, where: string): Role {
  const role = Object.hasOwn(ROLES, component) ? ROLES[component] : undefined;
  if (role) return role;
  throw new FormatError(
    `${where}: expected components ${Object.keys(ROLES).join(", ")}, got ${JSON.stringify(component)}`,
  );
}

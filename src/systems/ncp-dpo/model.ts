/** The policy: a U-Net that stays as it is, and a LoRA beside its attentions, which is all that is trained and kept. */
import type { PredictionType } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  attachedAdapters,
  type LoraFormat,
  UNet2DConditionModel,
  unet2DCondition,
  writeLora,
} from "../../networks/index.ts";
import {
  addLora,
  captureFeatures,
  createRng,
  frozen,
  recomputing,
  withLoraParameters,
  withoutLora,
} from "../../nn/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { writeTensors } from "../../training/index.ts";
import type { Networks } from "./method.ts";

/** What a denoiser is told of a prompt; each tensor has a row per picture. */
export interface PairCondition {
  readonly context: Tensor; // [N, T, D]
  /** Of SDXL: the text as a whole [N, P], and sizes [N, 6]. */
  readonly textEmbeds?: Tensor;
  readonly timeIds?: Tensor;
}

/** Where the features of the encoder are taken: after its last level, after the middle, at every level, or nowhere. */
export const TAPS = ["down", "mid", "multi", "identity"] as const;
/** Where features are taken. `identity` is a control: it leaves the weights of timesteps, and no features. */
export type Tap = (typeof TAPS)[number];

/** Whose features: of the model before training, as it is now, or of one with random weights, which is a control. */
export const ENCODERS = ["reference", "current", "random"] as const;
/** Whose features are compared. */
export type Encoder = (typeof ENCODERS)[number];

/** Options of the LoRA. */
export interface AdapterOptions {
  readonly rank: number;
  /** The change is scaled by alpha / rank. */
  readonly alpha: number;
  readonly seed: Seed;
}

/** The projections of all attentions. */
const ATTENTIONS = /\.to_(q|k|v|out\.0)$/;

/** The U-Net of a pipeline. @throws ArgumentError for a pipeline without text */
export function unetOf({ unet, kind, path }: PipelineComponents): UNet2DConditionModel {
  if (unet?.model instanceof UNet2DConditionModel && (kind === "sd" || kind === "sdxl")) return unet.model;
  throw new ArgumentError(`${path}: expected a model that draws from a prompt with a U-Net`);
}

/** A LoRA beside every projection of the attentions, as published: normal of deviation 1 / rank, and zeros. */
export function adapted(
  unet: UNet2DConditionModel,
  { rank, alpha, seed }: AdapterOptions,
): UNet2DConditionModel {
  if (!(alpha > 0)) throw new ArgumentError(`LoRA: expected an alpha above 0, got ${alpha}`);
  return addLora(unet, {
    ...{ rank, alpha, match: ATTENTIONS, rng: createRng(seed) },
    init: (rng, shape) => rng.normal(shape, 1 / rank),
  });
}

/** A U-Net of the same sizes with random weights: a control for what its features know. */
export const randomTwin = ({ unet }: PipelineComponents, seed: Seed): UNet2DConditionModel =>
  unet2DCondition(unet!.config, createRng(seed));

const called = (unet: UNet2DConditionModel, x: Tensor, t: Tensor, condition: PairCondition): Tensor => {
  const { context, textEmbeds, timeIds } = condition;
  return unet.call(x, t, context, {
    ...(textEmbeds && timeIds && { addedConditions: { textEmbeds, timeIds } }),
  });
};

/** Modules whose outputs a tap sees. */
function modulesOf(tap: Tap, unet: UNet2DConditionModel): string[] {
  const levels = unet.downBlocks.map((_, i) => `down_blocks.${i}`);
  if (tap === "down") return levels.slice(-1);
  const mid = unet.midBlock ? ["mid_block"] : [];
  if (tap === "multi") return ["conv_in", ...levels, ...mid];
  if (mid.length === 0) throw new ArgumentError("tap mid: this U-Net has no middle; take down");
  return mid;
}

/** The maps of a tap. With `balanced`, those of few channels count for more: by C_last / C. */
function featuresOf(
  unet: UNet2DConditionModel,
  tap: Tap,
  balanced: boolean,
): Networks<PairCondition>["features"] {
  if (tap === "identity") return (x) => [{ map: x, weight: 1 }];
  const keys = modulesOf(tap, unet);
  return (x, t, condition) => {
    type Output = Tensor | { readonly x: Tensor };
    const [, found] = captureFeatures<UNet2DConditionModel, Tensor, Output>(unet, keys, (net) =>
      called(net, x, t, condition),
    );
    const maps = keys.map((key) => ("x" in found[key]! ? found[key].x : found[key]!) as Tensor);
    const last = maps.at(-1)!.shape[1]!;
    return maps.map((map) => ({ map, weight: balanced ? last / map.shape[1]! : 1 }));
  };
}

/** What the networks of a loss are made of. */
export interface NetworkOptions {
  readonly prediction: PredictionType;
  readonly tap: Tap;
  readonly encoder: Encoder;
  readonly balanced: boolean;
  /** Blocks keep no intermediate values for the backward pass: less memory, a third more time. */
  readonly recompute: boolean;
}

/** Networks that all share the weights of one U-Net with a LoRA; `twin` is the random encoder, where it is asked for. */
export function networksOf(
  policy: UNet2DConditionModel,
  adapters: Readonly<Record<string, Tensor>>,
  { prediction, tap, encoder, balanced, recompute }: NetworkOptions,
  twin?: UNet2DConditionModel,
): Networks<PairCondition> {
  const still = frozen(policy);
  const before = withoutLora(still);
  const now = withLoraParameters(still, adapters);
  const eyes = { reference: before, current: frozen(now), random: twin && frozen(twin) }[encoder];
  if (!eyes) throw new ArgumentError("random features need a network with random weights");
  const trained = recompute ? recomputing(now, blocksOf(now)) : now;
  return {
    prediction,
    policy: (x, t, condition) => called(trained, x, t, condition),
    reference: (x, t, condition) => called(before, x, t, condition),
    features: featuresOf(eyes, tap, balanced),
  };
}

const blocksOf = ({ downBlocks, upBlocks, midBlock }: UNet2DConditionModel): string[] => [
  ...downBlocks.map((_, i) => `down_blocks.${i}`),
  ...(midBlock ? ["mid_block"] : []),
  ...upBlocks.map((_, i) => `up_blocks.${i}`),
];

/** Writes a LoRA under the names of diffusers, which `generate --lora` reads, with notes. */
export async function saveLora(
  path: string,
  policy: UNet2DConditionModel,
  adapters: Readonly<Record<string, Tensor>>,
  notes: Readonly<Record<string, string>>,
  format: LoraFormat = "diffusers",
): Promise<void> {
  const attached = attachedAdapters(withLoraParameters(policy, adapters));
  await writeTensors(path, writeLora({ unet: attached }, format), notes);
}

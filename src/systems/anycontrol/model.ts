/** AnyControl's network and its rivals, all of which steer the same frozen U-Net, and their files. */
import { ArgumentError } from "../../errors.ts";
import {
  type AnyControlSizes,
  adapterFromUNet,
  type ControlNetModel,
  type Controls,
  controlNet,
  controlNetFromUNet,
  initMultiControl,
  type LocalAdapter,
  localAdapter,
  type MultiControlConfig,
  type MultiControlEncoder,
  PAPER_SIZES,
  SlotExtractor,
  smallSizes,
  sumControls,
  UNet2DConditionModel,
} from "../../networks/index.ts";
import { blankRng, createRng, Module, mapParameters, type Rng } from "../../nn/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { constant, type Seed, type Tensor } from "../../tensor/index.ts";
import { modelFile } from "../../training/index.ts";
import type { Guide, Steering } from "./method.ts";
import { type ControlType, TYPES } from "./types.ts";

/** The multi-control encoder and the adapter behind it. */
export class AnyControl extends Module implements Steering<readonly Tensor[]> {
  readonly qFormer: MultiControlEncoder;
  readonly localAdapter: LocalAdapter;
  /** With the published weights: conditions are scaled as CLIP's pictures, and the text is never seen. */
  readonly published: boolean;

  constructor(qFormer: MultiControlEncoder, adapter: LocalAdapter, published = false) {
    super();
    this.qFormer = qFormer;
    this.localAdapter = adapter;
    this.published = published;
  }

  prepare(guide: Guide): readonly Tensor[] {
    return this.localAdapter.project(this.qFormer.call(this.published ? asPublished(guide) : guide));
  }

  controls(x: Tensor, t: Tensor, context: Tensor, features: readonly Tensor[]): Controls {
    return this.localAdapter.call(x, t, context, features);
  }
}

const PIXEL_MEAN = [0.48145466, 0.4578275, 0.40821073];
const PIXEL_DEVIATION = [0.26862954, 0.26130258, 0.27577711];
/** [CLS] and [SEP] of BERT: a text of no words, which is all that the released encoder has ever seen. */
const NO_TEXT = Int32Array.of(101, 102);

function asPublished({ conditions, weights }: Guide): Guide {
  const [n] = weights.shape as [number];
  const channel = (values: readonly number[]): Tensor => constant("f32", [1, 1, 3, 1, 1], values);
  return {
    conditions: conditions.add(1).div(2).sub(channel(PIXEL_MEAN)).div(channel(PIXEL_DEVIATION)),
    weights,
    ids: constant("i32", [1, 2], NO_TEXT).broadcastTo([n, 2]),
    textMask: constant("i32", [1, 2], Int32Array.of(1, 1)).broadcastTo([n, 2]),
  };
}

/** The conditions of some types, one place each, as rivals know them. */
export interface Slots {
  readonly maps: Tensor; // [N, types, 3, S, S]
  readonly weights: Tensor; // [N, types]
}

/** Uni-ControlNet (Zhao et al. 2023): a fixed place for each type, convolutions read them all at once. */
export class UniControlNet extends Module implements Steering<readonly Tensor[]> {
  readonly extractor: SlotExtractor;
  readonly localAdapter: LocalAdapter;

  constructor(extractor: SlotExtractor, adapter: LocalAdapter) {
    super();
    this.extractor = extractor;
    this.localAdapter = adapter;
  }

  prepare({ conditions, weights }: Guide): readonly Tensor[] {
    const [n, types, , h, w] = conditions.shape as [number, number, number, number, number];
    const present = conditions
      .add(1)
      .mul(weights.reshape([n, types, 1, 1, 1]))
      .sub(1); // black where absent
    return this.extractor.call(present.reshape([n, 3 * types, h, w]));
  }

  controls(x: Tensor, t: Tensor, context: Tensor, features: readonly Tensor[]): Controls {
    return this.localAdapter.call(x, t, context, features);
  }
}

/** ControlNets (Zhang et al. 2023), one for each type; residuals of those that have a condition are summed, or averaged. */
export class ControlNets extends Module implements Steering<Slots> {
  readonly nets: readonly ControlNetModel[];
  readonly types: readonly ControlType[];
  readonly mean: boolean;

  constructor(nets: readonly ControlNetModel[], types: readonly ControlType[], mean = false) {
    super();
    this.nets = nets;
    this.types = types;
    this.mean = mean;
  }

  prepare({ conditions, weights }: Guide): Slots {
    const total = weights.sum(1, true).clip(1, TYPES.length);
    return { maps: conditions, weights: this.mean ? weights.div(total) : weights };
  }

  controls(x: Tensor, t: Tensor, context: Tensor, { maps, weights }: Slots): Controls {
    const parts = this.nets.map((net, i) => {
      const at = TYPES.indexOf(this.types[i]!);
      const hint = maps.select(1, at).add(1).div(2);
      const weight = weights.select(1, at).reshape([-1, 1, 1, 1]);
      return net.call(x, t, context, hint, { conditioningScale: weight });
    });
    return sumControls(parts);
  }
}

/** What steers. */
export const KINDS = ["anycontrol", "uni", "controlnets"] as const;
/** Kind of what steers. */
export type Kind = (typeof KINDS)[number];
/** Any of them. */
export type Steerer = AnyControl | UniControlNet | ControlNets;

/** What a file says of its network: its kind, the U-Net that it belongs to, sizes, the types of conditions that it has seen. */
export interface SteererConfig {
  readonly kind: Kind;
  /** `config.json` of the U-Net. */
  readonly unet: Readonly<Record<string, unknown>>;
  /** Side of a condition in pixels. */
  readonly size: number;
  readonly types: readonly ControlType[];
  /** Of the encoder, where the kind has one. */
  readonly vocabulary: number;
  readonly textLength: number;
  /** The published sizes and conventions. Default: small ones. */
  readonly published?: boolean;
  readonly ablation?: Pick<MultiControlConfig, "align" | "fuse" | "slots"> & {
    readonly levels?: readonly number[];
  };
  readonly mean?: boolean;
}

/** A network with what its file says. */
export interface SteeringModel {
  readonly net: Steerer;
  readonly config: SteererConfig;
}

/** Channels that modulate the levels of a small adapter. */
const FEATURES = [24, 32, 48] as const;

/** Encoder and adapter for a U-Net; each level beyond the third has as many features as the third. */
function sizesOf({
  unet,
  size,
  vocabulary,
  textLength,
  published,
  ablation = {},
}: SteererConfig): AnyControlSizes {
  if (published) return PAPER_SIZES;
  const levels = (unet.block_out_channels as readonly number[]).length;
  const features = Array.from({ length: levels }, (_, i) => FEATURES[Math.min(i, FEATURES.length - 1)]!);
  const top = Number(unet.sample_size);
  const patch = 4;
  const { levels: read = [0, 1], ...rest } = ablation;
  const scales = features.map((_, i) => top / 2 ** i / (size / patch));
  return smallSizes({ size, patch, vocabulary, textLength, features, scales, levels: read }, rest);
}

/** Halvings from the side of a condition to that of the U-Net's sample. */
const halvings = ({ unet, size }: SteererConfig): number =>
  Math.round(Math.log2(size / Number(unet.sample_size)));

/** A network with fresh weights of its own. @throws ArgumentError for sizes that do not fit the U-Net */
export function createSteerer(config: SteererConfig, rng: Rng): Steerer {
  const { kind, unet, types, size, mean, published = false } = config;
  if (
    !published &&
    (!Number.isInteger(Math.log2(size / Number(unet.sample_size))) || size < Number(unet.sample_size))
  )
    throw new ArgumentError(
      `AnyControl: conditions of ${size} pixels do not fit a U-Net whose samples have ${unet.sample_size} points a side`,
    );
  if (kind === "controlnets") {
    const hints = Array.from({ length: 1 + halvings(config) }, (_, i) => 16 << Math.min(i, 2));
    const own = { ...unet, conditioning_embedding_out_channels: hints };
    return new ControlNets(
      types.map(() => controlNet(own, rng)),
      types,
      mean,
    );
  }
  const sizes = sizesOf(config);
  if (kind === "anycontrol")
    return new AnyControl(
      initMultiControl(sizes.encoder, rng),
      localAdapter(unet, sizes.adapter, rng),
      published,
    );
  const { features } = sizes.adapter;
  return new UniControlNet(
    new SlotExtractor(3 * TYPES.length, features, rng),
    localAdapter(unet, { features }, rng),
  );
}

/** The same to be trained: copies of the U-Net's way down begin with its weights. */
export function freshSteerer(config: SteererConfig, unet: UNet2DConditionModel, seed: Seed): Steerer {
  const net = createSteerer(config, createRng(seed));
  if (net instanceof ControlNets) {
    const copy = (one: ControlNetModel): ControlNetModel =>
      mapParameters(controlNetFromUNet(one, unet), (t) => t.add(0));
    return new ControlNets(net.nets.map(copy), net.types, net.mean);
  }
  const adapter = adapterFromUNet(net.localAdapter, unet);
  return net instanceof AnyControl
    ? new AnyControl(net.qFormer, adapter, net.published)
    : new UniControlNet(net.extractor, adapter);
}

/** The U-Net of a base and its configuration. @throws ArgumentError for pipelines that are told no text */
export function unetOf({ unet, path, kind }: PipelineComponents): {
  readonly unet: UNet2DConditionModel;
  readonly config: Readonly<Record<string, unknown>>;
} {
  if (kind === "sd" && unet?.model instanceof UNet2DConditionModel)
    return { unet: unet.model, config: unet.config as Record<string, unknown> };
  throw new ArgumentError(
    `${path}: AnyControl needs a Stable Diffusion pipeline (a U-Net that is told a text)`,
  );
}

/** What files keep beside weights. */
export type Notes = Readonly<Record<string, string>>;

interface Held extends SteeringModel {}

/** Weights below their own names; what the network is lies beside them. */
class Kept extends Module implements Held {
  static override readonly keyNames = { net: "model" };
  readonly net: Steerer;
  readonly config: SteererConfig;

  constructor(net: Steerer, config: SteererConfig) {
    super();
    this.net = net;
    this.config = config;
  }
}

/** A model that its file can hold. */
export const kept = (net: Steerer, config: SteererConfig): SteeringModel => new Kept(net, config);

/** Files of what steers. */
export const steeringFile = modelFile<SteeringModel, Notes>({
  format: "tweedie.anycontrol",
  name: "AnyControl",
  describe: ({ config }) => ({ config: JSON.stringify(config) }),
  blank: (field) => {
    const config = JSON.parse(field("config") ?? "") as SteererConfig;
    return kept(createSteerer(config, blankRng), config);
  },
});

/** Decomp Diffusion's sizes, networks and file: the encoder of latents and the U-Net that is shared by all components. */
import { z } from "zod";
import { ArgumentError, FormatError, ShapeError } from "../../errors.ts";
import {
  guidedTimes,
  type LayerSequence,
  OutputLayers,
  TimeEmbed,
} from "../../networks/guided-diffusion/blocks.ts";
import { LayerMaker } from "../../networks/guided-diffusion/layer-maker.ts";
import type { GuidedConfig } from "../../networks/guided-diffusion/options.ts";
import {
  BatchNorm,
  blankRng,
  Conv2d,
  createRng,
  GroupNorm,
  Linear,
  loadParameters,
  Module,
  parameters,
  type Rng,
  withFields,
} from "../../nn/index.ts";
import { concat, full, type Seed, type Tensor, zeros } from "../../tensor/index.ts";
import { loadWeights, modelFile, readWeights } from "../../training/index.ts";
import { type Network, PREDICTIONS, SCHEDULES } from "./method.ts";

const count = z.int().min(1);

/** Everything that decides the shapes of a model and what its output means; stored in its checkpoint. */
export const configSchema = z.strictObject({
  /** Height and width of the pictures. */
  size: count,
  /** K, the number of components that a picture is taken apart into. */
  components: count,
  /** d, the width of one component's latent. */
  latent: count,
  encoder: z.strictObject({
    /** e, doubled at each of the three levels. */
    channels: count,
    /** `batch`: as published; `group`: does not depend on the other pictures of a batch. */
    norm: z.enum(["batch", "group"]),
    /** Groups of the group norm. */
    groups: count,
    /** A last ReLU, as published: latents are never negative. */
    relu: z.boolean(),
  }),
  unet: z.strictObject({
    /** c, the width of the first level. */
    channels: count,
    mult: z.array(count).min(1),
    resBlocks: count,
    groups: count,
    headChannels: count,
    /** Downsampling factors at which there is attention; in the middle there always is. */
    attention: z.array(count),
    dropout: z.number().min(0).max(0.9),
  }),
  prediction: z.enum(PREDICTIONS),
  schedule: z.enum(SCHEDULES),
  /** One learned weight per component in place of 1 / K. */
  weighted: z.boolean(),
  /** Trained with latents dropped, which guidance needs. */
  guided: z.boolean(),
});

/** Everything that decides the shapes of a model; stored in its checkpoint. */
export type DecompConfig = z.output<typeof configSchema>;

/** A published size: attention at maps of 32, 16 and 8 pixels. */
const published = (size: number, components: number, latent: number, mult: number[], resBlocks = 2) =>
  ({
    ...{ size, components, latent },
    encoder: { channels: 64, norm: "batch", groups: 8, relu: true },
    unet: {
      ...{ channels: 64, mult, resBlocks, groups: 16, headChannels: 64, dropout: 0.1 },
      attention: mult.map((_, level) => 2 ** level).filter((factor) => [32, 16, 8].includes(size / factor)),
    },
    ...{ prediction: "x0", schedule: "cosine", weighted: false, guided: false },
  }) as const satisfies DecompConfig;

/** A miniature: two levels, attention below the first, no dropout. */
const small = (
  size: number,
  components: number,
  latent: number,
  { unet, encoder }: Readonly<Record<"unet" | "encoder", number>>,
) =>
  ({
    ...{ size, components, latent },
    encoder: { channels: encoder, norm: "batch", groups: 8, relu: true },
    unet: {
      ...{ channels: unet, mult: [1, 2], resBlocks: 1, groups: 8, headChannels: unet },
      ...{ attention: [2], dropout: 0 },
    },
    ...{ prediction: "x0", schedule: "cosine", weighted: false, guided: false },
  }) as const satisfies DecompConfig;

/** The published sizes by data set; miniatures of the study: two blocks, three blocks, the lit ball; one for tests. */
export const PRESETS = {
  clevr: published(64, 4, 32, [1, 2, 3]),
  celeba: published(64, 4, 128, [1, 2, 3]),
  falcor3d: published(64, 4, 16, [1, 2]),
  tetris: published(32, 3, 128, [1, 2], 1),
  "celeba-128": published(128, 4, 128, [1, 2, 3, 4]),
  blocks2: small(8, 2, 16, { unet: 32, encoder: 24 }),
  blocks3: small(16, 3, 16, { unet: 24, encoder: 24 }),
  litball: small(16, 4, 8, { unet: 16, encoder: 24 }),
  smoke: small(8, 2, 8, { unet: 16, encoder: 8 }),
} as const satisfies Record<string, DecompConfig>;

/** Name of a preset. */
export type Preset = keyof typeof PRESETS;

/** @throws ArgumentError for numbers that do not fit each other */
export function checkConfig(config: DecompConfig): DecompConfig {
  const { size, unet, encoder } = config;
  const factor = 2 ** (unet.mult.length - 1);
  if (size % factor !== 0)
    throw new ArgumentError(
      `Decomp: expected a size divisible by ${factor}, that is 2^(levels - 1), got ${size}`,
    );
  if (unet.channels % unet.groups !== 0)
    throw new ArgumentError(`Decomp: ${unet.channels} channels do not split into ${unet.groups} groups`);
  if (encoder.norm === "group" && encoder.channels % encoder.groups !== 0)
    throw new ArgumentError(
      `Decomp: the encoder's ${encoder.channels} channels do not split into ${encoder.groups} groups`,
    );
  return config;
}

const guidedConfig = ({ latent, unet }: DecompConfig): GuidedConfig => ({
  ...{ inChannels: 3, outChannels: 3, modelChannels: unet.channels, timeDim: 2 * latent },
  channels: unet.mult.map((factor) => factor * unet.channels),
  resBlocks: unet.mult.map(() => unet.resBlocks),
  attention: unet.mult.map((_, level) => unet.attention.includes(2 ** level)),
  ...{ middleAttention: true, groups: unet.groups, dropout: unet.dropout, convResample: false },
  ...{ resblockUpdown: true, timeScaleShift: "default", heads: 1, headsUp: 1 },
  ...{ headChannels: unet.headChannels, order: "legacy", transformer: undefined },
});

type Norm = BatchNorm | GroupNorm;

const normalised = (norm: Norm, x: Tensor, training: boolean): Tensor =>
  norm instanceof BatchNorm ? norm.call(x, training ? "batch" : "frozen") : norm.call(x);

/** The basic block of a ResNet (He et al. 2016). */
class BasicBlock extends Module {
  readonly conv1: Conv2d;
  readonly bn1: Norm;
  readonly conv2: Conv2d;
  readonly bn2: Norm;

  constructor(channels: number, { norm, groups }: DecompConfig["encoder"], rng: Rng) {
    super();
    const conv = () => new Conv2d(channels, channels, 3, rng, { padding: 1, bias: false });
    const made = () => (norm === "batch" ? new BatchNorm(channels) : new GroupNorm(groups, channels));
    this.conv1 = conv();
    this.bn1 = made();
    this.conv2 = conv();
    this.bn2 = made();
  }

  /** x [N, C, H, W]. */
  call(x: Tensor, training: boolean): Tensor {
    const h = normalised(this.bn1, this.conv1.call(x), training).relu();
    return normalised(this.bn2, this.conv2.call(h), training).add(x).relu();
  }
}

/** Side of the encoder's last map: three convolutions of stride 2 with a border of 1. */
const lastSide = (size: number): number => Math.ceil(size / 8);

/** A picture's latents, z_1 ... z_K. Keys are the numbers of a sequential network, activations counted. */
export class LatentEncoder extends Module {
  readonly 0: Conv2d;
  readonly 2: BasicBlock;
  readonly 4: Conv2d;
  readonly 6: BasicBlock;
  readonly 8: Conv2d;
  readonly 10: BasicBlock;
  readonly 12: Conv2d;
  readonly 15: Linear;
  readonly config: DecompConfig;

  constructor(config: DecompConfig, rng: Rng) {
    super();
    const { encoder, components, latent, size } = config;
    const e = encoder.channels;
    const half = (c: number) => new Conv2d(c, 2 * c, 3, rng, { stride: 2, padding: 1 });
    this[0] = new Conv2d(3, e, 3, rng, { padding: 1 });
    this[2] = new BasicBlock(e, encoder, rng);
    this[4] = half(e);
    this[6] = new BasicBlock(2 * e, encoder, rng);
    this[8] = half(2 * e);
    this[10] = new BasicBlock(4 * e, encoder, rng);
    this[12] = half(4 * e);
    this[15] = new Linear(8 * e * lastSide(size) ** 2, components * latent, rng);
    this.config = config;
  }

  /** x [N, 3, S, S] in [0, 1] gives [N, K, d]. `training`: batch norms use the batch. */
  call(x: Tensor, training = false): Tensor {
    const { components, latent, encoder } = this.config;
    let h = this[0].call(x).relu();
    h = this[4].call(this[2].call(h, training).relu()).relu();
    h = this[8].call(this[6].call(h, training).relu()).relu();
    h = this[12].call(this[10].call(h, training).relu()).relu();
    const z = this[15].call(h.reshape([x.shape[0]!, -1]));
    return (encoder.relu ? z.relu() : z).reshape([-1, components, latent]);
  }
}

/** Rows of a batch, each `times` times in a row. // [N, …] to [N times, …] */
const repeated = (x: Tensor, times: number): Tensor => {
  const [n, ...rest] = x.shape as [number, ...number[]];
  return times === 1
    ? x
    : x
        .unsqueeze(1)
        .broadcastTo([n, times, ...rest])
        .reshape([n * times, ...rest]);
};

/** The whole model under the published names; `weight_logits` and `mean_image` are ours. */
export class DecompUNet extends Module implements Network {
  static override readonly fixed = ["meanImage"];
  readonly timeEmbed: TimeEmbed;
  readonly inputBlocks: readonly LayerSequence[];
  readonly middleBlock: LayerSequence;
  readonly outputBlocks: readonly LayerSequence[];
  readonly out: OutputLayers;
  readonly latentEncoder: LatentEncoder;
  /** Weights of the components before a softmax. */
  readonly weightLogits: Tensor | undefined; // [K]
  /** Mean of the training pictures, about which `shifted` composition works. */
  readonly meanImage: Tensor | undefined; // [3, S, S]
  readonly config: DecompConfig;

  constructor(config: DecompConfig, rng: Rng, { withMean = true } = {}) {
    super();
    const { latent, unet, size, components, weighted } = checkConfig(config);
    const make = new LayerMaker(guidedConfig(config), rng);
    this.timeEmbed = new TimeEmbed(unet.channels, latent, rng);
    const down = make.inputBlocks(3);
    this.inputBlocks = down.blocks;
    this.middleBlock = make.middleBlock(down.given.at(-1)!);
    const up = make.outputBlocks(down.given);
    this.outputBlocks = up.blocks;
    this.out = new OutputLayers(up.channels, new Conv2d(up.channels, 3, 3, rng, { padding: 1 }), unet.groups);
    this.latentEncoder = new LatentEncoder(config, rng);
    this.weightLogits = weighted ? zeros([components]) : undefined;
    this.meanImage = withMean ? zeros([3, size, size]) : undefined;
    this.config = config;
  }

  /** Latents of pictures: x [N, 3, S, S] in [0, 1] gives [N, K, d]. */
  encode(x: Tensor, training = false): Tensor {
    this.checkPicture(x);
    return this.latentEncoder.call(x, training);
  }

  private checkPicture(x: Tensor): void {
    const { size } = this.config;
    if (x.rank !== 4 || x.shape[1] !== 3 || x.shape[2] !== size || x.shape[3] !== size)
      throw new ShapeError(`Decomp: expected pictures [N, 3, ${size}, ${size}], got ${x}`);
  }

  /** Maps before the last convolution, of each component. // [N, K', C, S, S] */
  private maps(x: Tensor, t: Tensor, z: Tensor, key?: Tensor): Tensor {
    this.checkPicture(x);
    const { latent, unet } = this.config;
    const [n, k] = z.shape as [number, number];
    if (z.rank !== 3 || n !== x.shape[0] || z.shape[2] !== latent)
      throw new ShapeError(`Decomp: expected latents [${x.shape[0]}, K, ${latent}], got ${z}`);
    const time = repeated(this.timeEmbed.call(guidedTimes(t, unet.channels)), k); // [N K, d]
    const inputs = { time: concat(z.reshape([n * k, latent]), time, 1), cross: {}, key };
    const [stem, ...blocks] = this.inputBlocks as [LayerSequence, ...LayerSequence[]];
    // No component is in the first convolution, so it is done once for each picture.
    let h = repeated(stem.call(x, inputs), k);
    const skips = [h];
    for (const block of blocks) skips.push((h = block.call(h, inputs)));
    h = this.middleBlock.call(h, inputs);
    for (const block of this.outputBlocks) h = block.call(concat(h, skips.pop()!, 1), inputs);
    const last = this.out.norm.call(h).silu();
    return last.reshape([n, k, ...last.shape.slice(1)]);
  }

  /** What each component predicts by itself. // [N, K', 3, S, S] */
  components(x: Tensor, t: Tensor, z: Tensor): Tensor {
    const maps = this.maps(x, t, z);
    const [n, k, c, h, w] = maps.shape as [number, number, number, number, number];
    return this.out.conv.call(maps.reshape([n * k, c, h, w])).reshape([n, k, 3, h, w]);
  }

  /** Weights of the components: given by the model when it has learned them, else 1 / K'. // [1, K'] */
  weightsFor(components: number): Tensor {
    const learned = this.weightLogits !== undefined && components === this.config.components;
    return learned ? this.weightLogits!.softmax(-1).unsqueeze(0) : full([1, components], 1 / components);
  }

  /**
   * The weighted sum of what all components predict. The last convolution is linear, so it is applied once to the sum of
   * the maps: x [N, 3, S, S], t [N], z [N, K', d], weights [N or 1, K'] give [N, 3, S, S].
   */
  denoise(x: Tensor, t: Tensor, z: Tensor, weights = this.weightsFor(z.shape[1]!), key?: Tensor): Tensor {
    const spread = weights.reshape([...weights.shape, 1, 1, 1]);
    const sum = this.maps(x, t, z, key).mul(spread).sum(1);
    const predicted = this.out.conv.call(sum);
    // Its bias counts once in the sum, and once for each weight in what is asked for.
    const { bias } = this.out.conv;
    const more = weights.sum(1).sub(1).reshape([weights.shape[0]!, 1, 1, 1]);
    return predicted.add(more.mul(bias!.reshape([1, 3, 1, 1])));
  }
}

/** A model with fresh weights. */
export const initDecomp = (config: DecompConfig, seed: Seed): DecompUNet =>
  new DecompUNet(config, createRng(seed));

/** The model with the mean of some pictures [N, 3, S, S]. */
export const withMeanImage = (model: DecompUNet, mean: Tensor): DecompUNet =>
  withFields<DecompUNet>(model, { meanImage: mean });

/** Checkpoint files. */
export const decompFile = modelFile<DecompUNet>({
  ...{ format: "tweedie.decomp", name: "Decomp" },
  describe: ({ config }) => ({ config: JSON.stringify(config) }),
  blank: (field) => new DecompUNet(configSchema.parse(JSON.parse(field("config") ?? "null")), blankRng),
});

/** Counters of batches that published files keep, and nothing reads. */
const UNUSED = /(^|\.)num_batches_tracked$/;

/** @throws FormatError naming the tensor */
function shapeOf(weights: ReadonlyMap<string, Tensor>, name: string, path: string): readonly number[] {
  const found = weights.get(name);
  if (!found) throw new FormatError(`${path}: tensor "${name}" is missing`);
  return found.shape;
}

/** The sizes of a published model from its shapes; the widths that no shape tells are those of all published ones. */
export function publishedConfig(weights: ReadonlyMap<string, Tensor>, path: string): DecompConfig {
  const shape = (name: string): readonly number[] => shapeOf(weights, name, path);
  const [e] = shape("latent_encoder.0.weight") as [number];
  const [d] = shape("time_embed.2.weight") as [number];
  const [rows, columns] = shape("latent_encoder.15.weight") as [number, number];
  const [c] = shape("input_blocks.0.0.weight") as [number];
  const side = Math.sqrt(columns / (8 * e));
  const numbered = (prefix: string, rest: RegExp): number[] => [
    ...new Set(
      [...weights.keys()]
        .filter((key) => key.startsWith(prefix) && rest.test(key.slice(prefix.length)))
        .map((key) => Number.parseInt(key.slice(prefix.length), 10)),
    ),
  ];
  const blocks = numbered("output_blocks.", /^\d+\.0\./).length;
  // Every level but the last ends with a residual block that doubles the size.
  const levels = 1 + numbered("output_blocks.", /^\d+\.[12]\.in_layers\./).length;
  const [resBlocks, components] = [blocks / levels - 1, rows / d];
  if (![side, components, resBlocks].every((n) => Number.isInteger(n) && n >= 1))
    throw new FormatError(
      `${path}: these shapes are of no Decomp model: ${rows} numbers of ${d} a component, maps of ${columns} numbers with ${8 * e} channels, ${blocks} blocks in ${levels} levels`,
    );
  const first = (level: number): string => `input_blocks.${1 + level * (resBlocks + 1)}`;
  const all = Array.from({ length: levels }, (_, level) => level);
  return checkConfig({
    ...published(8 * side, components, d, [], resBlocks),
    encoder: { channels: e, norm: "batch", groups: 8, relu: true },
    unet: {
      ...{ channels: c, groups: 16, headChannels: 64, resBlocks, dropout: 0.1 },
      mult: all.map((level) => shape(`${first(level)}.0.in_layers.2.weight`)[0]! / c),
      attention: all
        .filter((level) => weights.has(`${first(level)}.1.qkv.weight`))
        .map((level) => 2 ** level),
    },
  });
}

/** A published model of named weights. @throws FormatError listing names that are missing, unexpected or mis-shaped */
export function fromPublished(weights: ReadonlyMap<string, Tensor>, path = "weights"): DecompUNet {
  const kept = new Map([...weights].filter(([key]) => !UNUSED.test(key)));
  return loadWeights(path, new DecompUNet(publishedConfig(kept, path), blankRng, { withMean: false }), kept);
}

/** A model of a file: our own, or published weights as safetensors. */
export async function openDecomp(path: string): Promise<DecompUNet> {
  const { weights, metadata } = await readWeights(path);
  return metadata.has("format") && metadata.get("format") !== "pt"
    ? (await decompFile.load(path)).model
    : fromPublished(weights, path);
}

/** A copy with another configuration of what has no weights, such as `guided`. */
export const withConfig = (model: DecompUNet, config: DecompConfig): DecompUNet =>
  loadParameters(
    new DecompUNet(config, blankRng, { withMean: model.meanImage !== undefined }),
    parameters(model),
  );

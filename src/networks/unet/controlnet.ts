/** ControlNet (Zhang et al. 2023): a copy of a U-Net's encoder that reads a picture and steers the frozen U-Net. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { COUNT, type Fields, FLAG, listOf, oneOf } from "../../io/fields.ts";
import { activate, Conv2d, Module, mapParameters, parameters, type Rng, zeroed } from "../../nn/index.ts";
import { flip, type Tensor, type TensorLike } from "../../tensor/index.ts";
import { type EncoderConfig, encoderConfig, skipChannels } from "./config.ts";
import { diffusersFields, optionFields } from "./diffusers-keys.ts";
import { ConditionalEncoder, type UNetConditions } from "./encoder.ts";
import type { ControlNetModelOptions } from "./options.ts";
import type { Controls, UNet2DConditionModel } from "./unet-2d-condition.ts";

const conv = (i: number, o: number, rng: Rng, stride = 1): Conv2d =>
  new Conv2d(i, o, 3, rng, { padding: 1, stride });

/** Brings a picture to the size and channels of the first map: convolutions, every second one of which halves it. */
export class ControlNetConditioningEmbedding extends Module {
  readonly convIn: Conv2d;
  readonly blocks: readonly Conv2d[];
  readonly convOut: Conv2d;

  constructor(inChannels: number, widths: readonly number[], outChannels: number, rng: Rng) {
    super();
    this.convIn = conv(inChannels, widths[0]!, rng);
    this.blocks = widths
      .slice(1)
      .flatMap((width, i) => [conv(widths[i]!, widths[i]!, rng), conv(widths[i]!, width, rng, 2)]);
    this.convOut = zeroed(conv(widths.at(-1)!, outChannels, rng));
  }

  /** hint [N, C, H, W] gives [N, K, H / 2^n, W / 2^n] for n + 1 widths. */
  call(hint: Tensor): Tensor {
    const first = activate("silu", this.convIn.call(hint));
    return this.convOut.call(this.blocks.reduce((h, block) => activate("silu", block.call(h)), first));
  }
}

/** A checked configuration. */
export interface ControlNetConfig {
  readonly encoder: EncoderConfig;
  readonly hintChannels: number;
  readonly hintWidths: readonly number[];
  /** The hint's channels are taken backwards. */
  readonly bgr: boolean;
  /** The residuals are averaged over all points. */
  readonly globalPool: boolean;
}

export interface ControlNetOptions extends UNetConditions {
  /** Factor of the residuals that the ControlNet adds. Default 1. */
  readonly conditioningScale?: TensorLike;
  /** Guess mode, without a prompt: scales rise from 0.1 at the top to 1 in the middle. Default false. */
  readonly guessMode?: boolean;
}

/** Gives what a `UNet2DConditionModel` of the same configuration takes as `controls`; adds nothing before training. */
export class ControlNetModel extends ConditionalEncoder {
  readonly controlnetCondEmbedding: ControlNetConditioningEmbedding;
  readonly controlnetDownBlocks: readonly Conv2d[];
  readonly controlnetMidBlock: Conv2d;
  readonly bgr: boolean;
  readonly globalPool: boolean;

  constructor(config: ControlNetConfig, rng: Rng) {
    super(config.encoder, rng);
    const { levels } = config.encoder;
    const { hintChannels, hintWidths, bgr, globalPool } = config;
    const pointwise = (channels: number): Conv2d => zeroed(new Conv2d(channels, channels, 1, rng));
    const first = levels[0]!.inChannels;
    this.controlnetCondEmbedding = new ControlNetConditioningEmbedding(hintChannels, hintWidths, first, rng);
    this.controlnetDownBlocks = skipChannels(levels).map(pointwise);
    this.controlnetMidBlock = pointwise(levels.at(-1)!.outChannels);
    this.bgr = bgr;
    this.globalPool = globalPool;
  }

  /** x, timestep and context as for the U-Net; hint [N, 3, H, W] in [0, 1], usually 8 times as large as x. */
  call(
    x: Tensor,
    timestep: Tensor,
    context: Tensor | undefined,
    hint: Tensor,
    options: ControlNetOptions = {},
  ): Controls {
    const { conditioningScale = 1, guessMode = false, ...conditions } = options;
    const inputs = this.blockInputs(x, timestep, context, conditions);
    const picture = this.controlnetCondEmbedding.call(this.bgr ? flip(hint, 1) : hint);
    const sample = this.enter(x);
    if (picture.shape.slice(2).join() !== sample.shape.slice(2).join())
      throw new ShapeError(`ControlNetModel: the hint ${hint} becomes ${picture}, the sample is ${x}`);
    const out = this.descend(sample.add(picture), inputs);
    const count = out.skips.length;
    const rising = (i: number): number => (guessMode && !this.globalPool ? 10 ** (i / count - 1) : 1);
    const finish = (h: Tensor, scale: number): Tensor => {
      const pooled = this.globalPool ? h.mean([2, 3], true) : h;
      const scaled = scale === 1 ? pooled : pooled.mul(scale);
      return conditioningScale === 1 ? scaled : scaled.mul(conditioningScale);
    };
    const down = this.controlnetDownBlocks.map((block, i) => finish(block.call(out.skips[i]!), rising(i)));
    return { down, mid: finish(this.controlnetMidBlock.call(out.x), 1) };
  }
}

/** The sum of what several ControlNets add. Throws `ArgumentError` when there is none. */
export function sumControls(controls: readonly Controls[]): Controls {
  const [first, ...rest] = controls;
  if (!first) throw new ArgumentError("sumControls: expected at least one ControlNet's output");
  return rest.reduce(
    (a, b) => ({ down: a.down.map((t, i) => t.add(b.down[i]!)), mid: a.mid.add(b.mid) }),
    first,
  );
}

function controlNetConfig(read: Fields): ControlNetConfig {
  return {
    encoder: encoderConfig(read),
    hintChannels: read.value("hintChannels", COUNT, 3),
    hintWidths: read.value("hintWidths", listOf(COUNT), [16, 32, 96, 256]),
    bgr: read.value("hintOrder", oneOf("rgb", "bgr"), "rgb") === "bgr",
    globalPool: read.value("globalPool", FLAG, false),
  };
}

/** A `ControlNetModel` from its `config.json`; see `unet2DCondition`. */
export function controlNet(config: unknown, rng: Rng): ControlNetModel {
  const fields = diffusersFields("ControlNetModel", config, { headDimIsHeads: true });
  return new ControlNetModel(controlNetConfig(fields), rng);
}

/** A `ControlNetModel` from typed options, those of its U-Net among them; see `createUNet2DCondition`. */
export function createControlNet(rng: Rng, options: ControlNetModelOptions = {}): ControlNetModel {
  return new ControlNetModel(controlNetConfig(optionFields("ControlNetModel", options)), rng);
}

/** A ControlNet to be trained: the weights of the U-Net where both have them (of the same configuration), its own elsewhere. */
export function controlNetFromUNet(network: ControlNetModel, unet: UNet2DConditionModel): ControlNetModel {
  const weights = parameters(unet);
  return mapParameters(network, (own, key) => {
    const taken = weights.get(key);
    if (taken && taken.shape.join() !== own.shape.join())
      throw new ShapeError(
        `controlNetFromUNet: "${key}" is ${taken} in the U-Net and ${own} in the ControlNet`,
      );
    return taken ?? own;
  });
}

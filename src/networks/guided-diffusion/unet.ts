/** The U-Net of guided-diffusion (Dhariwal and Nichol 2021) and of latent diffusion's own checkpoints. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { Conv2d, Embedding, Module, type Rng } from "../../nn/index.ts";
import { concat, type Tensor } from "../../tensor/index.ts";
import { timesOf } from "../blocks/embeddings.ts";
import { checkMap } from "../check-map.ts";
import { guidedTimes, type LayerSequence, OutputLayers, TimeEmbed } from "./blocks.ts";
import { LayerMaker } from "./layer-maker.ts";
import { type GuidedUNetConfig, guidedUNetConfig } from "./options.ts";

export { GuidedDiffusionClassifier, guidedDiffusionClassifier } from "./classifier.ts";
export {
  ADM_CLASSIFIER_256,
  ADM_UNETS,
  type GuidedClassifierConfig,
  type GuidedConfig,
  type GuidedUNetConfig,
  guidedUNetConfig,
} from "./options.ts";

/** What the U-Net gets beside the map and the time. */
export interface GuidedUNetInputs {
  /** Classes [N], integers; needed exactly when there are `num_classes`. */
  readonly labels?: Tensor;
  /** Vectors [N, adm_in_channels]; needed exactly when `num_classes` is `sequential`. */
  readonly vector?: Tensor;
  /** A map [N, concat_channels, H, W] beside the input, such as the low resolution or the image to segment. */
  readonly concat?: Tensor;
  /** Tokens [N, L, context_dim], and what is added to their scores [N or 1, 1, L]. */
  readonly context?: Tensor;
  readonly mask?: Tensor;
  /** Key of the dropout (see `makeKey`); absent: evaluation. */
  readonly key?: Tensor;
}

/** Checkpoint keys `time_embed`, `label_emb`, `input_blocks`, `middle_block`, `output_blocks`, `out`. */
export class GuidedDiffusionUNet extends Module {
  readonly timeEmbed: TimeEmbed;
  readonly labelEmb: Embedding | readonly [TimeEmbed] | undefined;
  readonly inputBlocks: readonly LayerSequence[];
  readonly middleBlock: LayerSequence;
  readonly outputBlocks: readonly LayerSequence[];
  readonly out: OutputLayers;
  readonly inChannels: number;
  readonly concatChannels: number;
  readonly modelChannels: number;
  /** Height and width are multiples of this. */
  readonly sizeFactor: number;

  constructor(config: GuidedUNetConfig, rng: Rng) {
    super();
    const { inChannels, outChannels, modelChannels, concatChannels, timeDim, channels } = config;
    const { numClasses, vectorDim } = config;
    const make = new LayerMaker(config, rng);
    this.timeEmbed = new TimeEmbed(modelChannels, timeDim, rng);
    if (numClasses !== undefined) this.labelEmb = new Embedding(numClasses, timeDim, rng);
    if (vectorDim !== undefined) this.labelEmb = [new TimeEmbed(vectorDim, timeDim, rng)];
    const down = make.inputBlocks(inChannels + concatChannels);
    this.inputBlocks = down.blocks;
    this.middleBlock = make.middleBlock(down.given.at(-1)!);
    const up = make.outputBlocks(down.given);
    this.outputBlocks = up.blocks;
    const last = new Conv2d(up.channels, outChannels, 3, rng, { padding: 1 });
    this.out = new OutputLayers(up.channels, last, config.groups);
    this.inChannels = inChannels;
    this.concatChannels = concatChannels;
    this.modelChannels = modelChannels;
    this.sizeFactor = 2 ** (channels.length - 1);
  }

  /** x [N, C, H, W] at times t [N], [1] or [] gives [N, outChannels (twice as many with `learn_sigma`), H, W]. */
  call(x: Tensor, t: Tensor, inputs: GuidedUNetInputs = {}): Tensor {
    const { context, mask, key } = inputs;
    const with_ = { time: this.embed(x, t, inputs), cross: { context, mask }, key };
    const skips: Tensor[] = [];
    let h = this.entered(x, inputs.concat);
    for (const block of this.inputBlocks) skips.push((h = block.call(h, with_)));
    h = this.middleBlock.call(h, with_);
    for (const block of this.outputBlocks) h = block.call(concat(h, skips.pop()!, 1), with_);
    return this.out.call(h);
  }

  private entered(x: Tensor, map: Tensor | undefined): Tensor {
    checkMap("GuidedDiffusionUNet", x, this.inChannels, this.sizeFactor);
    const expected = [x.shape[0], this.concatChannels, x.shape[2], x.shape[3]];
    if (this.concatChannels === 0 && !map) return x;
    if (map?.shape.join() !== expected.join())
      throw new ShapeError(
        `GuidedDiffusionUNet: expected concat [${expected.join(", ")}], got ${map ?? "none"}`,
      );
    return concat(x, map, 1);
  }

  /** Embedding of the time, and of class or vector: [N or 1, T]. */
  private embed(x: Tensor, t: Tensor, { labels, vector }: GuidedUNetInputs): Tensor {
    const times = timesOf(t, x.shape[0]!);
    const time = this.timeEmbed.call(guidedTimes(times, this.modelChannels));
    const expected = !this.labelEmb ? "neither" : this.labelEmb instanceof Embedding ? "labels" : "a vector";
    const got = labels && vector ? "both" : labels ? "labels" : vector ? "a vector" : "neither";
    if (expected !== got)
      throw new ArgumentError(`GuidedDiffusionUNet: of labels and vector expected ${expected}, got ${got}`);
    if (this.labelEmb instanceof Embedding) return time.add(this.labelEmb.call(labels!));
    return this.labelEmb ? time.add(this.labelEmb[0].call(vector!)) : time;
  }
}

/**
 * A U-Net from the arguments of the reference's `UNetModel` (`model_channels`, `num_res_blocks`, `attention_resolutions`
 * as downsampling factors, `channel_mult`, …), with `learn_sigma` (twice the output channels) and `concat_channels`.
 * Throws `FormatError` for values that do not fit.
 */
export const guidedDiffusionUNet = (config: unknown, rng: Rng): GuidedDiffusionUNet =>
  new GuidedDiffusionUNet(guidedUNetConfig(config), rng);

/** Makes the layers of the networks of guided-diffusion: the way down, the middle, the way up. */
import { Conv2d, type Rng } from "../../nn/index.ts";
import { Upsample2D } from "../blocks/resampling.ts";
import { Transformer2DModel } from "../blocks/transformer.ts";
import { AttentionBlock, Downsample, headCount, type Layer, LayerSequence, resBlock } from "./blocks.ts";
import type { GuidedConfig } from "./options.ts";

/** Makes the layers of one network; every residual block has its own dropout stream. */
export class LayerMaker {
  private readonly config: GuidedConfig;
  private readonly rng: Rng;
  private made = 0;

  constructor(config: GuidedConfig, rng: Rng) {
    this.config = config;
    this.rng = rng;
  }

  private residual(channels: number, outChannels: number, resample?: "up" | "down"): Layer {
    const { timeDim, timeScaleShift, dropout, groups } = this.config;
    const purpose = `dropout ${this.made++}`;
    const options = { outChannels, timeDim, timeScaleShift, resample, dropout, purpose, groups };
    return resBlock(channels, this.rng, options);
  }

  /** Attention, or where there is a context a transformer of the given depth. */
  private attention(channels: number, depth: number, heads = this.config.heads): Layer {
    const { headChannels, order, transformer, groups } = this.config;
    const count = headCount(channels, heads, headChannels);
    if (!transformer) return new AttentionBlock(channels, this.rng, { heads: count, order, groups });
    const { contextDim, linearProjection } = transformer;
    return new Transformer2DModel(channels, this.rng, { heads: count, contextDim, depth, linearProjection });
  }

  /** The attention of a level, if it has any. */
  private attentionAt(level: number, heads: number): Layer[] {
    const { attention, channels, transformer } = this.config;
    const depth = transformer ? transformer.depths[level]! : 1;
    return attention[level] && depth > 0 ? [this.attention(channels[level]!, depth, heads)] : [];
  }

  /** A layer that halves or doubles the size. */
  private resampler(channels: number, to: "up" | "down"): Layer {
    const { resblockUpdown, convResample } = this.config;
    if (resblockUpdown) return this.residual(channels, channels, to);
    if (to === "up") return new Upsample2D(channels, this.rng, { kind: convResample ? "conv" : "nearest" });
    return new Downsample(channels, this.rng, { kind: convResample ? "conv" : "average" });
  }

  /** The blocks that go down, and how many channels each gives. */
  inputBlocks(inChannels: number): { blocks: LayerSequence[]; given: number[] } {
    const { channels, resBlocks, heads } = this.config;
    const first = new Conv2d(inChannels, channels[0]!, 3, this.rng, { padding: 1 });
    const blocks = [new LayerSequence([first])];
    const given = [channels[0]!];
    const add = (out: number, layers: readonly Layer[]): void => {
      blocks.push(new LayerSequence(layers));
      given.push(out);
    };
    channels.forEach((out, level) => {
      for (let i = 0; i < resBlocks[level]!; i++)
        add(out, [this.residual(given.at(-1)!, out), ...this.attentionAt(level, heads)]);
      if (level < channels.length - 1) add(given.at(-1)!, [this.resampler(given.at(-1)!, "down")]);
    });
    return { blocks, given };
  }

  middleBlock(channels: number): LayerSequence {
    const before = this.residual(channels, channels);
    if (!this.config.middleAttention) return new LayerSequence([before, this.residual(channels, channels)]);
    const attend = this.attention(channels, this.config.transformer?.depthMiddle ?? 1);
    return new LayerSequence([before, attend, this.residual(channels, channels)]);
  }

  /** The blocks that go up, each of which is given what its counterpart gave on the way down. */
  outputBlocks(given: readonly number[]): { blocks: LayerSequence[]; channels: number } {
    const { channels, resBlocks, headsUp } = this.config;
    const skips = [...given];
    let current = skips.at(-1)!;
    const blocks: LayerSequence[] = [];
    for (const [level, out] of [...channels.entries()].reverse()) {
      for (let i = 0; i <= resBlocks[level]!; i++) {
        const block = this.residual(current + skips.pop()!, out);
        const up = level > 0 && i === resBlocks[level];
        const attend = this.attentionAt(level, headsUp);
        blocks.push(new LayerSequence([block, ...attend, ...(up ? [this.resampler(out, "up")] : [])]));
        current = out;
      }
    }
    return { blocks, channels: current };
  }
}

/** Checkpoint layouts of U-Nets, written down from the reference's own tables rather than from the code under test. */
type Layout = Record<string, readonly number[]>;

export interface UNetShape {
  readonly channels: readonly number[];
  readonly layers: number;
  readonly contextDim: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Whether each level attends to the context, down and up. */
  readonly down: readonly boolean[];
  readonly up: readonly boolean[];
  readonly linear: boolean;
  /** Blocks of the transformers of each level, in the order down. */
  readonly depth: readonly number[];
}

/** The layout of a conditional U-Net. */
export function unetLayout(shape: UNetShape): Layout {
  const { channels, layers, contextDim, down, up, linear, depth } = shape;
  const out: Layout = {};
  const put = (key: string, weight: number[], bias = true): void => {
    out[`${key}.weight`] = weight;
    if (bias) out[`${key}.bias`] = [weight[0]!];
  };
  const time = 4 * channels[0]!;
  const resnet = (p: string, a: number, b: number): void => {
    put(`${p}.norm1`, [a]);
    put(`${p}.conv1`, [b, a, 3, 3]);
    put(`${p}.time_emb_proj`, [b, time]);
    put(`${p}.norm2`, [b]);
    put(`${p}.conv2`, [b, b, 3, 3]);
    if (a !== b) put(`${p}.conv_shortcut`, [b, a, 1, 1]);
  };
  const transformer = (p: string, c: number, blocks: number): void => {
    put(`${p}.norm`, [c]);
    for (const end of ["proj_in", "proj_out"]) put(`${p}.${end}`, linear ? [c, c] : [c, c, 1, 1]);
    for (let k = 0; k < blocks; k++) {
      const b = `${p}.transformer_blocks.${k}`;
      for (const norm of ["norm1", "norm2", "norm3"]) put(`${b}.${norm}`, [c]);
      for (const [attn, d] of [["attn1", c] as const, ["attn2", contextDim] as const]) {
        put(`${b}.${attn}.to_q`, [c, c], false);
        put(`${b}.${attn}.to_k`, [c, d], false);
        put(`${b}.${attn}.to_v`, [c, d], false);
        put(`${b}.${attn}.to_out.0`, [c, c]);
      }
      put(`${b}.ff.net.0.proj`, [8 * c, c]);
      put(`${b}.ff.net.2`, [c, 4 * c]);
    }
  };

  const n = channels.length;
  put("conv_in", [channels[0]!, shape.inChannels, 3, 3]);
  put("time_embedding.linear_1", [time, channels[0]!]);
  put("time_embedding.linear_2", [time, time]);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < layers; j++) {
      resnet(`down_blocks.${i}.resnets.${j}`, j ? channels[i]! : channels[Math.max(0, i - 1)]!, channels[i]!);
      if (down[i]) transformer(`down_blocks.${i}.attentions.${j}`, channels[i]!, depth[i]!);
    }
    if (i < n - 1) put(`down_blocks.${i}.downsamplers.0.conv`, [channels[i]!, channels[i]!, 3, 3]);
  }
  const last = channels[n - 1]!;
  resnet("mid_block.resnets.0", last, last);
  transformer("mid_block.attentions.0", last, depth[n - 1]!);
  resnet("mid_block.resnets.1", last, last);
  const r = channels.toReversed();
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= layers; j++) {
      const skip = j === layers ? r[Math.min(i + 1, n - 1)]! : r[i]!;
      resnet(`up_blocks.${i}.resnets.${j}`, (j ? r[i]! : r[Math.max(0, i - 1)]!) + skip, r[i]!);
      if (up[i]) transformer(`up_blocks.${i}.attentions.${j}`, r[i]!, depth[n - 1 - i]!);
    }
    if (i < n - 1) put(`up_blocks.${i}.upsamplers.0.conv`, [r[i]!, r[i]!, 3, 3]);
  }
  put("conv_norm_out", [channels[0]!]);
  put("conv_out", [shape.outChannels, channels[0]!, 3, 3]);
  return out;
}

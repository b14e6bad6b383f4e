/**
 * Q-DiT: a trained diffusion transformer in few bits, without training it again (Chen et al., CVPR 2025).
 *
 * 1. Weights and inputs of a linear layer are rounded in groups of g consecutive *input* channels, each with its own scale:
 *    s = (max - min) / (2^bits - 1), z = round(-min / s), x' = s (clamp(round(x / s) + z, 0, 2^bits - 1) - z).
 * 2. The ranges of inputs are dynamic: taken anew for every token of every sample in every step.
 * 3. Weights are rounded by GPTQ, block by block, on samples of all noise levels that the blocks before have rounded.
 * 4. The group size of every layer is searched for (`search.ts`): min over g of FID(real, drawn with g), such that
 *    B(g) <= the bit operations of uniform groups.
 *
 * The arithmetic of 1 to 3 is `src/nn/quantize`; here it is put together for a DiT.
 */
import { ArgumentError } from "../../errors.ts";
import {
  bitOperations,
  calibrate,
  chosenLayers,
  type InputStatistics,
  type LayerScheme,
  packedSchemes,
  type QuantizedLayer,
  quantizeInStages,
  type SchemeOf,
} from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";

/** What is asked of a network: its blocks hold linear layers under the names of diffusers' DiT. */
export interface DiffusionTransformer {
  readonly transformerBlocks: readonly object[];
  /** Sides of the pictures and of the patches: their square is the number of tokens. */
  readonly config: { readonly sampleSize: number; readonly patchSize: number };
  /** Prediction of the noise in x [N, C, H, W] at timesteps [N] for labels [N]. */
  call(x: Tensor, timestep: Tensor, labels: Tensor): Tensor;
}

/** Samples at one noise level each. */
export interface CalibrationBatch {
  readonly x: Tensor; // [N, C, H, W]
  readonly timestep: Tensor; // [N]
  readonly labels: Tensor; // [N]
}

/** Bits of weights and activations. */
export interface Bits {
  readonly weights: number;
  readonly activations: number;
}

/** The linear layers of the blocks that are quantised, by what they read. */
export const KINDS = ["qkv", "out", "fc1", "fc2"] as const;
/** What a network is made of, by kind. */
export type Kind = (typeof KINDS)[number];

const PATTERNS: Readonly<Record<Kind, RegExp>> = {
  qkv: /\.attn1\.to_[qkv]$/,
  out: /\.attn1\.to_out\.0$/,
  fc1: /\.ff\.net\.0\.proj$/,
  fc2: /\.ff\.net\.2$/,
};

/** Block and kind of a layer, or undefined for a layer that is not of a block. */
export function placeOf(key: string): { block: number; kind: Kind } | undefined {
  const block = /^transformer_blocks\.(\d+)\./.exec(key)?.[1];
  const kind = KINDS.find((k) => PATTERNS[k].test(key));
  return block !== undefined && kind ? { block: Number(block), kind } : undefined;
}

/** Group sizes: one for all layers, or one for each kind of layer of each block, in the order of the network. */
export type Groups = number | readonly number[];

/** The group size of a layer. Throws `ArgumentError` for a list of another length. */
export function groupOf(groups: Groups, key: string, blocks: number): number {
  if (typeof groups === "number") return groups;
  if (groups.length !== blocks * KINDS.length)
    throw new ArgumentError(
      `group sizes: expected ${blocks * KINDS.length}, ${KINDS.length} for each block, got ${groups.length}`,
    );
  const { block, kind } = placeOf(key)!;
  return groups[block * KINDS.length + KINDS.indexOf(kind)]!;
}

/** A layer of a block: groups of input channels for weights and inputs, dynamic ranges, GPTQ. */
export const groupScheme = ({ weights, activations }: Bits, group: number): LayerScheme => ({
  weight: { bits: weights, granularity: group, symmetric: false },
  activation: { bits: activations, granularity: group, symmetric: false, range: "dynamic" },
  rounding: "gptq",
});

/**
 * The scheme of a DiT that is packed for real: its blocks by GPTQ, with symmetric 8-bit inputs, which the kernel has, or
 * float ones; the condition's layers with 8-bit weights alone. The last projection stays in floats.
 */
export const packedScheme = (
  { weights, activations }: { readonly weights: number; readonly activations: 8 | 16 },
  groups: Groups,
  blocks: number,
): SchemeOf =>
  packedSchemes({
    ...{ weights, activations, rounding: "gptq" },
    group: (key) => {
      if (placeOf(key)) return groupOf(groups, key, blocks);
      throw new ArgumentError(`"${key}" is no layer of a DiT's blocks, nor of its condition`);
    },
  });

/** What the layers of some keys of a model see on calibration samples. */
export const statisticsOn =
  (batches: readonly CalibrationBatch[]) =>
  <M extends DiffusionTransformer>(
    model: M,
    keys: readonly string[],
    moments = true,
  ): Promise<Map<string, InputStatistics>> =>
    calibrate(model, keys, {
      batches,
      run: (m, { x, timestep, labels }: CalibrationBatch) => m.call(x, timestep, labels),
      samples: batches.reduce((n, b) => n + b.x.shape[0]!, 0),
      moments,
    });

/** GPTQ block by block, each on what the blocks before it give once they are quantised. */
export function quantizeBlocks<M extends DiffusionTransformer>(
  model: M,
  scheme: SchemeOf,
  batches: readonly CalibrationBatch[],
): Promise<Map<string, QuantizedLayer>> {
  const stages = model.transformerBlocks.map((_, i) => new RegExp(`^transformer_blocks\\.${i}\\.`));
  return quantizeInStages(model, scheme, stages, statisticsOn(batches));
}

/** B(g): bit operations of the layers of the blocks for one picture. */
export function bitBudget(model: DiffusionTransformer, groups: Groups, bits: Bits): number {
  const blocks = model.transformerBlocks.length;
  const tokens = (model.config.sampleSize / model.config.patchSize) ** 2;
  const scheme: SchemeOf = (key) => (placeOf(key) ? groupScheme(bits, 16) : undefined);
  let total = 0;
  for (const [key, { layer }] of chosenLayers(model, scheme)) {
    const [rows, columns] = layer.weight.shape as [number, number];
    const group = groupOf(groups, key, blocks);
    total += tokens * bitOperations({ rows, columns, bits: bits.weights, group }, bits.activations);
  }
  return total;
}

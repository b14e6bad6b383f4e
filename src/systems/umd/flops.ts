/** Multiplications and additions of a forward pass for one picture, counted from the sizes. */
import { keptTokens, tokenCount, type UMDConfig } from "./config.ts";
import type { Mixture } from "./objective.ts";

/** Of a pass that hides a share of the tokens: matrices of blocks, attention, conditioning, embedding and head. */
export function forwardFlops(config: UMDConfig, maskRatio: number): number {
  const { dim: d, depth, decoderDepth, classTokens, patch, channels, conditioning, classes } = config;
  const tokens = tokenCount(config);
  const extra = conditioning === "token" ? 1 : 0;
  const block = (length: number): number => {
    const n = length + extra;
    return 24 * n * d * d + 4 * n * n * d + (conditioning === "adaLN" ? 12 * d * d : 0);
  };
  const encoder = depth * block(keptTokens(tokens, maskRatio) + classTokens);
  const decoder = decoderDepth * block(tokens + 1);
  const values = patch * patch * channels;
  const ends = 2 * tokens * d * values + 2 * tokens * d * 2 * values;
  const trunks = (classes > 0 ? 2 : 1) * 8 * d * d + (conditioning === "adaLN" ? 4 * d * d : 0);
  return encoder + decoder + ends + trunks;
}

/** Of a training step for one picture of the mixture: the backward pass counts twice. */
export function trainingFlops(config: UMDConfig, { cleanShare, noisedMask, cleanMask }: Mixture): number {
  const noised = cleanShare < 1 ? (1 - cleanShare) * forwardFlops(config, noisedMask) : 0;
  const clean = cleanShare > 0 ? cleanShare * forwardFlops(config, cleanMask) : 0;
  return 3 * (noised + clean);
}

/** A small DiT with random weights everywhere: a fresh one is zero behind its gates. */
import { type DiTConfig, type DiTTransformer2DModel, initDiT } from "../../../src/networks/index.ts";
import { createRng, mapParameters } from "../../../src/nn/index.ts";
import { MINIATURE } from "../../../src/systems/q-dit/model.ts";

export const randomDiT = (config: Partial<DiTConfig>, seed = 1): DiTTransformer2DModel =>
  mapParameters(initDiT({ ...MINIATURE, ...config }, createRng(seed)), (t, key) =>
    /norm1\.linear|proj_out/.test(key) ? createRng(key.length + t.size).normal(t.shape, 0.05) : t,
  );

/** Two blocks of width 64 on 16 tokens. */
export const SMALL = { sampleSize: 8, patchSize: 2, layers: 2, heads: 2, headDim: 32, classes: 4 };

/** The miniature: a class-conditional diffusion transformer for pictures of 28x28 in ten classes. */
import { type DiTConfig, DiTTransformer2DModel, initDiT } from "../../networks/index.ts";
import { blankRng, createRng } from "../../nn/index.ts";

/** Patches of 4 give 49 tokens; widths of 128 and 512 leave room for groups of 16, 32, 64 and 128. */
export const MINIATURE: DiTConfig = {
  sampleSize: 28,
  patchSize: 4,
  inChannels: 1,
  outChannels: 1,
  layers: 4,
  heads: 4,
  headDim: 32,
  classes: 10,
  nullClass: true,
  freqShift: 0,
  mlpNormEps: 1e-6,
  attentionBias: true,
  activation: "geluTanh",
  dropout: 0,
  sharedEmbedding: true,
};

/** A miniature to train from scratch. */
export const newMiniature = (seed: number): DiTTransformer2DModel => initDiT(MINIATURE, createRng(seed));

/** A miniature to load weights into. */
export const blankMiniature = (): DiTTransformer2DModel => new DiTTransformer2DModel(MINIATURE, blankRng);

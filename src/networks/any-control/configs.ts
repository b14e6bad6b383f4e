/** Sizes of AnyControl's encoder and adapter: as published for Stable Diffusion 1.5, small ones, and how small ones begin. */
import { mapParameters, type Rng } from "../../nn/index.ts";
import { eye, fromHost, type Tensor } from "../../tensor/index.ts";
import type { LocalAdapterConfig } from "./local-adapter.ts";
import { conditionTokens, type MultiControlConfig, MultiControlEncoder } from "./multi-control-encoder.ts";

/** An encoder and the adapter behind it. */
export interface AnyControlSizes {
  readonly encoder: MultiControlConfig;
  readonly adapter: LocalAdapterConfig;
}

/** As published: BLIP-2's Q-Former with 256 queries over EVA-CLIP ViT-g/14. */
export const PAPER_SIZES: AnyControlSizes = {
  encoder: {
    visual: {
      ...{ imageSize: 224, patchSize: 14, inChannels: 3, dim: 1408, depth: 39, heads: 16 },
      ...{ mlpRatio: 4.3637, eps: 1e-6, qkvBias: "qv" },
    },
    levels: [3, 10, 17, 24, 31, 38],
    ...{ dim: 768, layers: 12, heads: 12, inner: 3072, grid: 16, positions: 512 },
    ...{ vocabulary: 30523, textLength: 512, readouts: [4, 6, 8, 12], norm: "after", eps: 1e-12 },
  },
  adapter: { features: [192, 256, 384, 512], dim: 768, scales: [4, 2, 1, 0.5] },
};

/** What a small model is for: pictures of `size`, a U-Net of three levels that sees half of it, a tokenizer. */
export interface SmallSizes {
  /** Side of the conditions, a multiple of `patch`. Default 32. */
  readonly size?: number;
  readonly patch?: number;
  readonly dim?: number;
  readonly layers?: number;
  readonly vocabulary: number;
  readonly textLength: number;
  /** Channels that modulate each level of the adapter. Default 24, 32 and 48. */
  readonly features?: readonly number[];
  /** Factors from the grid of queries to the levels of the adapter. Default 2, 1 and 0.5. */
  readonly scales?: readonly number[];
  /** Blocks of the visual encoder that the fusions read. Default 0 and 1. */
  readonly levels?: readonly number[];
}

/** A small encoder whose norms come first, with a visual encoder that is trained as well. */
export function smallSizes(
  given: SmallSizes,
  ablation: Pick<MultiControlConfig, "align" | "fuse" | "slots"> = {},
): AnyControlSizes {
  const { size = 32, patch = 4, dim = 96, layers = 4, vocabulary, textLength } = given;
  const { features = [24, 32, 48], scales = [2, 1, 0.5], levels = [0, 1] } = given;
  const heads = Math.max(1, dim / 24);
  const visual = {
    imageSize: size,
    patchSize: patch,
    inChannels: 3,
    dim,
    depth: 2,
    heads,
    mlpRatio: 2,
    eps: 1e-6,
  };
  return {
    encoder: {
      ...{ visual, levels, dim, layers, heads, inner: 2 * dim, grid: size / patch },
      ...{ vocabulary, textLength, norm: "before", eps: 1e-6, ...ablation },
      readouts: features.map((_, i) => Math.max(1, layers - features.length + 1 + i)),
    },
    adapter: { features, dim, scales },
  };
}

/** Longest wavelength of the grid's positions, in places. */
const LONGEST = 32;

/** Waves of a grid's places [side², dim], every head having some of each frequency and axis. */
function gridWaves(side: number, dim: number, heads: number): Float32Array {
  const waves = new Float32Array(side * side * dim);
  const width = dim / heads;
  for (let place = 0; place < side * side; place++)
    for (let c = 0; c < dim; c++) {
      const [at, wave] = [c % 2 ? place % side : Math.floor(place / side), Math.floor(c / 2)];
      const frequency = Math.PI * (2 / LONGEST) ** (Math.floor(wave / 2) / Math.max(1, dim / 4 - 1));
      const channel = (Math.floor(c / 4) % heads) * width + 4 * Math.floor(c / (4 * heads)) + (c % 4);
      waves[place * dim + channel] = wave % 2 ? Math.cos(frequency * at) : Math.sin(frequency * at);
    }
  return waves;
}

/**
 * An encoder to be trained from nothing: queries and positions of conditions are the same waves, and fusion compares them, so
 * that each query begins by looking at its own place of every condition, and by taking over what is there. It would have to
 * discover the grid otherwise.
 */
export function initMultiControl(config: MultiControlConfig, rng: Rng): MultiControlEncoder {
  const { grid, dim, heads, visual, slots = 0 } = config;
  const waves = gridWaves(grid, dim, heads);
  const tokens = conditionTokens(visual);
  const places = new Float32Array(Math.max(1, slots) * tokens * dim);
  const half = waves.map((v) => v / 2);
  for (let slot = 0; slot < Math.max(1, slots); slot++) places.set(half, (slot * tokens + 1) * dim); // none for the class token
  const times = (factor: number): Tensor => eye(dim).mul(factor); // a tensor of its own for each
  return mapParameters(new MultiControlEncoder(config, rng), (own, key) => {
    if (visual.dim !== dim || tokens !== grid * grid + 1) return own;
    if (key === "query_tokens") return fromHost("f32", own.shape, half);
    if (key === "crossattn_embeddings.position_embeddings.weight") return fromHost("f32", own.shape, places);
    if (/crossattention\.self\.(query|key)\.weight$/.test(key)) return times(2);
    return /crossattention\.(self\.value|output\.dense)\.weight$/.test(key) ? times(1) : own;
  });
}

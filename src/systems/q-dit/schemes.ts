/** Q-DiT, its ingredients one by one, and what it is compared with, as schemes of the layers of a DiT. */
import { ArgumentError } from "../../errors.ts";
import type { LayerScheme, SchemeOf } from "../../nn/index.ts";

/** The linear layers of the blocks that are quantised, by what they read. */
export const KINDS = ["qkv", "out", "fc1", "fc2"] as const;
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

/** One group size for each kind of layer of each block, in the order of the network. */
export type Groups = readonly number[];

/** The group size of a layer; one number stands for all. Throws `ArgumentError` for a list of another length. */
export function groupOf(groups: Groups | number, key: string, blocks: number): number {
  if (typeof groups === "number") return groups;
  if (groups.length !== blocks * KINDS.length)
    throw new ArgumentError(
      `group sizes: expected ${blocks * KINDS.length}, ${KINDS.length} for each block, got ${groups.length}`,
    );
  const { block, kind } = placeOf(key)!;
  return groups[block * KINDS.length + KINDS.indexOf(kind)]!;
}

/** Blocks in their order, for calibration on what was quantised before. */
export const stagesOf = (blocks: number): RegExp[] =>
  Array.from({ length: blocks }, (_, i) => new RegExp(`^transformer_blocks\\.${i}\\.`));

/** How a layer of a block is quantised. */
export interface Method {
  readonly about: string;
  /** What must be known of the inputs: nothing, their ranges, or their second moments block by block. */
  readonly needs: "nothing" | "ranges" | "stages";
  scheme(bits: { readonly weights: number; readonly activations: number }, group: number): LayerScheme;
}

const weightGrid = (bits: number, granularity: "tensor" | "row" | number) => ({
  bits,
  granularity,
  symmetric: false,
});
const activationGrid = (
  bits: number,
  granularity: "tensor" | "row" | number,
  range: "static" | "dynamic",
) => ({
  bits,
  granularity,
  symmetric: false,
  range,
});

const gptqStatic: Method["scheme"] = ({ weights: w, activations: a }) => ({
  weight: weightGrid(w, "row"),
  activation: activationGrid(a, "tensor", "static"),
  rounding: "gptq",
});
const gptqGroups: Method["scheme"] = ({ weights: w, activations: a }, group) => ({
  weight: weightGrid(w, group),
  activation: activationGrid(a, group, "dynamic"),
  rounding: "gptq",
});

/** Methods by name: naive ones first, then published ones, then Q-DiT built up from its ingredients. */
export const METHODS = {
  "tensor-static": {
    about: "one scale for a weight, one static scale for its inputs, rounding to nearest",
    needs: "ranges",
    scheme: ({ weights: w, activations: a }) => ({
      weight: weightGrid(w, "tensor"),
      activation: activationGrid(a, "tensor", "static"),
    }),
  },
  "channel-static": {
    about: "one scale for each output channel, one static scale for the inputs",
    needs: "ranges",
    scheme: ({ weights: w, activations: a }) => ({
      weight: weightGrid(w, "row"),
      activation: activationGrid(a, "tensor", "static"),
    }),
  },
  "channel-token": {
    about: "one scale for each output channel, one dynamic scale for each token",
    needs: "nothing",
    scheme: ({ weights: w, activations: a }) => ({
      weight: weightGrid(w, "row"),
      activation: activationGrid(a, "row", "dynamic"),
    }),
  },
  repq: {
    about: "RepQ-like: scales of input channels folded into the weight, then as channel-static",
    needs: "ranges",
    scheme: ({ weights: w, activations: a }) => ({
      weight: weightGrid(w, "row"),
      activation: activationGrid(a, "tensor", "static"),
      change: { kind: "repq" },
    }),
  },
  smooth: {
    about: "SmoothQuant-like with alpha 0.5, then as channel-static",
    needs: "ranges",
    scheme: ({ weights: w, activations: a }) => ({
      weight: weightGrid(w, "row"),
      activation: activationGrid(a, "tensor", "static"),
      change: { kind: "smooth", alpha: 0.5 },
    }),
  },
  "gptq-static": {
    about: "GPTQ with one scale for each output channel, one static scale for the inputs",
    needs: "stages",
    scheme: gptqStatic,
  },
  "gptq-static-in-order": {
    about: "the same with columns rounded in their order, as released",
    needs: "stages",
    scheme: (bits, group) => ({ ...gptqStatic(bits, group), gptq: { order: "columns" } }),
  },
  "group-static": {
    about: "groups of input channels for weights and inputs, static ranges",
    needs: "ranges",
    scheme: ({ weights: w, activations: a }, group) => ({
      weight: weightGrid(w, group),
      activation: activationGrid(a, group, "static"),
    }),
  },
  "group-dynamic": {
    about: "groups of input channels for weights and inputs, dynamic ranges",
    needs: "nothing",
    scheme: ({ weights: w, activations: a }, group) => ({
      weight: weightGrid(w, group),
      activation: activationGrid(a, group, "dynamic"),
    }),
  },
  "q-dit": {
    about:
      "Q-DiT: groups, dynamic ranges, GPTQ; with group sizes that were searched for where they are given",
    needs: "stages",
    scheme: gptqGroups,
  },
  "q-dit-in-order": {
    about: "Q-DiT with columns rounded in their order, as released",
    needs: "stages",
    scheme: (bits, group) => ({ ...gptqGroups(bits, group), gptq: { order: "columns" } }),
  },
} as const satisfies Readonly<Record<string, Method>>;
export type MethodName = keyof typeof METHODS;

/** The schemes of a whole DiT for a method. */
export const methodScheme =
  (
    name: MethodName,
    bits: { readonly weights: number; readonly activations: number },
    groups: Groups | number,
    blocks: number,
  ): SchemeOf =>
  (key) =>
    placeOf(key) && METHODS[name].scheme(bits, groupOf(groups, key, blocks));

/** Layers that carry the condition: an error there reaches every token, so they keep 8 bits and float inputs. */
const CONDITION = /(^|\.)(norm1\.linear|proj_out_1|timestep_embedder\.linear_[12])$/;

/**
 * The schemes of a DiT that is packed for real: the layers of its blocks with symmetric dynamic activations, which the
 * kernel has, and the condition's layers with 8-bit weights alone.
 */
export const packedScheme =
  (
    weights: number,
    groups: Groups | number,
    blocks: number,
    rounding: "nearest" | "gptq" = "nearest",
  ): SchemeOf =>
  (key, layer) => {
    if (placeOf(key)) {
      const group = groupOf(groups, key, blocks);
      return {
        weight: weightGrid(weights, group),
        activation: { bits: 8, granularity: kernelBlock(group), symmetric: true, range: "dynamic" },
        rounding,
      };
    }
    if (!CONDITION.test(key)) return undefined;
    const width = layer.weight.shape[1]!;
    return { weight: weightGrid(8, width % 128 === 0 ? 128 : width) };
  };

/** The kernel's groups are powers of two; larger and other groups are several of its blocks. */
const kernelBlock = (group: number): number => [256, 128, 64, 32, 16].find((b) => group % b === 0) ?? group;

/** A scheme for any network: its linear layers in packed integers, those that carry conditions kept finer. */
import { ArgumentError } from "../../errors.ts";
import { checkBits } from "./grid.ts";
import type { LayerScheme, SchemeOf } from "./model.ts";
import { blockSizeFor } from "./packed.ts";

/** Options of `packedSchemes`. */
export interface PackedOptions {
  /** Bits of the weights, 2 to 8. */
  readonly weights: number;
  /** 8: activations are rounded by the kernel; 16: they stay floats. */
  readonly activations: 8 | 16;
  /** Input channels that share a scale, of all layers or of the layer of a key: a multiple of 16. */
  readonly group: number | ((key: string) => number);
  /** Scales from the largest magnitude. Default false. */
  readonly symmetric?: boolean;
  /**
   * Whether ranges of up to 4 bits are shrunk to where the error of the weights is least. Default false: predictions become
   * worse by it, because the largest weights, which are cut, meet the largest inputs.
   */
  readonly shrink?: boolean;
  /**
   * Layers whose error reaches everything, such as embeddings of timestep and class: 8-bit weights, float inputs. Default:
   * those of the networks here.
   */
  readonly condition?: RegExp;
  /** Layers that stay as they are, besides the last projection of a DiT, whose error nothing makes up for. */
  readonly exclude?: RegExp;
  readonly rounding?: LayerScheme["rounding"];
}

/** Names of layers that compute embeddings of timesteps, classes and sizes, or modulations from them. */
export const CONDITION_LAYERS =
  /(^|\.)(time_embedding|class_embedding|add_embedding|timestep_embedder|time_emb_proj|time_embed|label_emb|norm\d*\.linear|proj_out_1|adaLN_modulation)(\.|$)/;

/** The last projection of a DiT. */
const FINAL_LAYERS = /(^|\.)(proj_out_2|final_layer\.linear)$/;

/** Groups of the kernel that divide a width, the largest up to 128 first. */
const kernelGroup = (width: number): number | undefined => [128, 64, 32, 16].find((g) => width % g === 0);

/** Throws `ArgumentError` for bits that no kernel has. */
function check({ weights, activations }: PackedOptions): void {
  checkBits(weights, "weights");
  if (activations !== 8 && activations !== 16)
    throw new ArgumentError(`activations: expected 8 bits (rounded) or 16 (floats), got ${activations}`);
}

/**
 * The scheme. Layers whose inputs the group does not divide are an error when they are quantised; condition layers take
 * the largest group of the kernel that fits, and stay as they are where none does.
 */
export function packedSchemes(options: PackedOptions): SchemeOf {
  check(options);
  const { weights, activations, group, symmetric = false, shrink = false, rounding = "nearest" } = options;
  const { condition = CONDITION_LAYERS, exclude } = options;
  const groupOf = typeof group === "number" ? () => group : group;
  if (typeof group === "number") blockSizeFor(group);
  return (key, layer) => {
    if (FINAL_LAYERS.test(key) || exclude?.test(key)) return undefined;
    if (condition.test(key)) {
      const own = kernelGroup(layer.weight.shape[1]!);
      return own === undefined ? undefined : { weight: { bits: 8, granularity: own, symmetric } };
    }
    const granularity = groupOf(key);
    const block = blockSizeFor(granularity);
    return {
      weight: { bits: weights, granularity, symmetric, shrink: shrink && weights <= 4 },
      rounding,
      ...(activations === 8 && {
        activation: { bits: 8, granularity: block, symmetric: true, range: "dynamic" as const },
      }),
    };
  };
}

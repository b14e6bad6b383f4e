/** What Q-DiT is compared with: naive and published ways to round, and Q-DiT built up from its ingredients. */
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { chosenLayers, type LayerScheme, type QuantizedLayer, quantizeLayers } from "../../nn/index.ts";
import {
  type Bits,
  type CalibrationBatch,
  type Groups,
  groupOf,
  groupScheme,
  placeOf,
  quantizeBlocks,
  statisticsOn,
} from "./method.ts";

/** How a layer of a block is quantised. */
export interface Method {
  readonly about: string;
  /** What must be known of the inputs: nothing, their ranges, or their second moments block by block. */
  readonly needs: "nothing" | "ranges" | "stages";
  scheme(bits: Bits, group: number): LayerScheme;
}

type Granularity = "tensor" | "row" | "group";

/** Asymmetric grids, rounding to nearest unless told otherwise. */
const rounded =
  (
    weights: Granularity,
    inputs: Granularity,
    range: "static" | "dynamic",
    more: Partial<LayerScheme> = {},
  ): Method["scheme"] =>
  (bits, group) => {
    const grid = (width: number, granularity: Granularity) => ({
      bits: width,
      granularity: granularity === "group" ? group : granularity,
      symmetric: false,
    });
    return {
      weight: grid(bits.weights, weights),
      activation: { ...grid(bits.activations, inputs), range },
      ...more,
    };
  };

const IN_ORDER = { order: "columns" } as const;

/** Methods by name: naive ones first, then published ones, then Q-DiT built up from its ingredients. */
export const METHODS = {
  "tensor-static": {
    about: "one scale for a weight, one static scale for its inputs, rounding to nearest",
    needs: "ranges",
    scheme: rounded("tensor", "tensor", "static"),
  },
  "channel-static": {
    about: "one scale for each output channel, one static scale for the inputs",
    needs: "ranges",
    scheme: rounded("row", "tensor", "static"),
  },
  "channel-token": {
    about: "one scale for each output channel, one dynamic scale for each token",
    needs: "nothing",
    scheme: rounded("row", "row", "dynamic"),
  },
  repq: {
    about: "RepQ-like: scales of input channels folded into the weight, then as channel-static",
    needs: "ranges",
    scheme: rounded("row", "tensor", "static", { change: { kind: "repq" } }),
  },
  smooth: {
    about: "SmoothQuant-like with alpha 0.5, then as channel-static",
    needs: "ranges",
    scheme: rounded("row", "tensor", "static", { change: { kind: "smooth", alpha: 0.5 } }),
  },
  "gptq-static": {
    about: "GPTQ with one scale for each output channel, one static scale for the inputs",
    needs: "stages",
    scheme: rounded("row", "tensor", "static", { rounding: "gptq" }),
  },
  "gptq-static-in-order": {
    about: "the same with columns rounded in their order, as released",
    needs: "stages",
    scheme: rounded("row", "tensor", "static", { rounding: "gptq", gptq: IN_ORDER }),
  },
  "group-static": {
    about: "groups of input channels for weights and inputs, static ranges",
    needs: "ranges",
    scheme: rounded("group", "group", "static"),
  },
  "group-dynamic": {
    about: "groups of input channels for weights and inputs, dynamic ranges",
    needs: "nothing",
    scheme: rounded("group", "group", "dynamic"),
  },
  "q-dit": {
    about:
      "Q-DiT: groups, dynamic ranges, GPTQ; with group sizes that were searched for where they are given",
    needs: "stages",
    scheme: groupScheme,
  },
  "q-dit-in-order": {
    about: "Q-DiT with columns rounded in their order, as released",
    needs: "stages",
    scheme: (bits, group) => ({ ...groupScheme(bits, group), gptq: IN_ORDER }),
  },
} as const satisfies Readonly<Record<string, Method>>;
export type MethodName = keyof typeof METHODS;

/** Quantised layers of a DiT by one of the methods, with the calibration that it needs. */
export async function quantizeDiT(
  model: DiTTransformer2DModel,
  method: MethodName,
  bits: Bits,
  groups: Groups,
  batches: readonly CalibrationBatch[],
): Promise<Map<string, QuantizedLayer>> {
  const blocks = model.transformerBlocks.length;
  const { needs, scheme: schemeOf } = METHODS[method];
  const scheme = (key: string): LayerScheme | undefined =>
    placeOf(key) && schemeOf(bits, groupOf(groups, key, blocks));
  if (needs === "nothing") return quantizeLayers(model, scheme);
  if (needs === "stages") return quantizeBlocks(model, scheme, batches);
  const keys = [...chosenLayers(model, scheme).keys()];
  return quantizeLayers(model, scheme, await statisticsOn(batches)(model, keys, false));
}

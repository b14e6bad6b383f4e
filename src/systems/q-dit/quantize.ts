/** Quantises a DiT by one of the methods, with the calibration that the method needs. */
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import {
  bitOperations,
  calibrate,
  chosenLayers,
  type InputStatistics,
  type QuantizedLayer,
  quantizeInStages,
  quantizeLayers,
  type SchemeOf,
} from "../../nn/index.ts";
import type { NoisyBatch } from "./sample.ts";
import {
  type Groups,
  groupOf,
  METHODS,
  type MethodName,
  methodScheme,
  placeOf,
  stagesOf,
} from "./schemes.ts";

/** What the layers of some keys of a model see on noisy batches. */
export const statisticsOn =
  (batches: readonly NoisyBatch[]) =>
  (
    model: DiTTransformer2DModel,
    keys: readonly string[],
    moments = true,
  ): Promise<Map<string, InputStatistics>> =>
    calibrate(model, keys, {
      batches,
      run: (m, { x, timestep, labels }: NoisyBatch) => m.call(x, timestep, labels),
      samples: batches.reduce((n, b) => n + b.x.shape[0]!, 0),
      moments,
    });

/** Quantised layers of a DiT, by key. GPTQ is calibrated block by block on what was quantised before. */
export async function quantizeDiT(
  model: DiTTransformer2DModel,
  method: MethodName,
  bits: { readonly weights: number; readonly activations: number },
  groups: Groups | number,
  batches: readonly NoisyBatch[],
): Promise<Map<string, QuantizedLayer>> {
  const blocks = model.transformerBlocks.length;
  const scheme = methodScheme(method, bits, groups, blocks);
  const { needs } = METHODS[method];
  if (needs === "nothing") return quantizeLayers(model, scheme);
  const statistics = statisticsOn(batches);
  if (needs === "stages") return quantizeInStages(model, scheme, stagesOf(blocks), statistics);
  const keys = [...chosenLayers(model, scheme).keys()];
  return quantizeLayers(model, scheme, await statistics(model, keys, false));
}

/** The same for schemes of one's own, by GPTQ in stages. */
export const quantizeStaged = (
  model: DiTTransformer2DModel,
  scheme: SchemeOf,
  batches: readonly NoisyBatch[],
): Promise<Map<string, QuantizedLayer>> =>
  quantizeInStages(model, scheme, stagesOf(model.transformerBlocks.length), statisticsOn(batches));

/** Bit operations of the quantised layers of a DiT for one picture. */
export function bitBudget(
  model: DiTTransformer2DModel,
  groups: Groups | number,
  bits: { readonly weights: number; readonly activations: number },
): number {
  const blocks = model.transformerBlocks.length;
  const tokens = (model.config.sampleSize / model.config.patchSize) ** 2;
  let total = 0;
  for (const [key, { layer }] of chosenLayers(model, methodScheme("group-dynamic", bits, 16, blocks))) {
    if (!placeOf(key)) continue;
    const [rows, columns] = layer.weight.shape as [number, number];
    const group = groupOf(groups, key, blocks);
    total += tokens * bitOperations({ rows, columns, bits: bits.weights, group }, bits.activations);
  }
  return total;
}

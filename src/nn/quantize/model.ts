/**
 * Quantisation of the linear layers of any network, layer by layer: as a simulation of every scheme, or for real, with
 * packed weights.
 */
import { ArgumentError } from "../../errors.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import { Linear } from "../layers/linear.ts";
import { mapModules, modules } from "../module.ts";
import { type ActivationGrid, StaticRange, sharedRanges } from "./activation.ts";
import type { InputStatistics } from "./calibrate.ts";
import { type GptqOptions, gptq } from "./gptq.ts";
import {
  checkBits,
  checkFinite,
  dequantizeMatrix,
  groupSize,
  type QuantizedMatrix,
  quantizeMatrix,
  type WeightGrid,
} from "./grid.ts";
import { IntegerLinear, type PackedActivations, PackedLinear, packMatrix } from "./packed.ts";
import { type InputChange, SimulatedLinear } from "./simulated.ts";

/** How one layer is quantised. */
export interface LayerScheme {
  readonly weight: WeightGrid;
  /** Nearest, or with the errors made up for on calibration samples. Default "nearest". */
  readonly rounding?: "nearest" | "gptq";
  /** Absent: activations stay floats. */
  readonly activation?: ActivationGrid;
  /** A change of variables before rounding: SmoothQuant with its alpha, or RepQ's. */
  readonly change?: { readonly kind: "smooth"; readonly alpha?: number } | { readonly kind: "repq" };
  readonly gptq?: GptqOptions;
}

/** The scheme of a layer, or undefined for layers that stay as they are. */
export type SchemeOf = (key: string, layer: Linear) => LayerScheme | undefined;

/** Whether a layer has packed weights. */
export const isQuantized = (layer: unknown): boolean =>
  layer instanceof SimulatedLinear || layer instanceof PackedLinear || layer instanceof IntegerLinear;

/** Linear layers by key. Throws `ArgumentError` when the model is quantised already. */
export function linearLayers(model: object): Map<string, Linear> {
  const found = new Map<string, Linear>();
  for (const [key, layer] of modules(model)) {
    if (isQuantized(layer))
      throw new ArgumentError(`"${key}" is quantised already; begin with the original weights`);
    if (layer instanceof Linear) found.set(key, layer);
  }
  return found;
}

/** Scales and shifts of the inputs that even out their channels. */
function changeOf(
  scheme: LayerScheme,
  weight: Float32Array,
  columns: number,
  seen: InputStatistics,
): { scale: Float32Array; shift: Float32Array | undefined } {
  const least = 1e-5;
  if (scheme.change!.kind === "repq") {
    // Li et al. 2023, eq. 8 to 10: per-channel scales and zeros of the activations become their means.
    const range = seen.high.map((high, i) => Math.max(high - seen.low[i]!, least));
    const middle = seen.high.map((high, i) => (high + seen.low[i]!) / 2);
    const mean = range.reduce((a, b) => a + b, 0) / columns;
    return { scale: range.map((r) => r / mean), shift: middle };
  }
  const { alpha = 0.5 } = scheme.change as { alpha?: number };
  if (!(alpha >= 0 && alpha <= 1))
    throw new ArgumentError(`SmoothQuant: alpha must be in [0, 1], got ${alpha}`);
  const largest = new Float32Array(columns).fill(least);
  for (const [i, w] of weight.entries()) largest[i % columns] = Math.max(largest[i % columns]!, Math.abs(w));
  // Xiao et al. 2023, eq. 4.
  const scale = seen.magnitude.map((x, i) => Math.max(x, least) ** alpha / largest[i]! ** (1 - alpha));
  return { scale: scale.map((s) => Math.max(s, least)), shift: undefined };
}

/** A layer in codes, and everything that its simulation needs. */
export interface QuantizedLayer {
  readonly matrix: QuantizedMatrix;
  readonly bias: Tensor | undefined;
  readonly scheme: LayerScheme;
  readonly change?: { readonly scale: Float32Array; readonly shift: Float32Array | undefined };
  readonly range?: { readonly low: Float32Array; readonly high: Float32Array };
}

const needs = (key: string, what: string): ArgumentError =>
  new ArgumentError(`quantising "${key}": ${what} needs calibration samples`);

/** The Hessian of the changed inputs (x - shift) / scale; the shift's share is left out where there is none. */
function changedHessian(hessian: Float64Array, scale: Float32Array, columns: number): Float64Array {
  return hessian.map((h, at) => h / (scale[Math.floor(at / columns)]! * scale[at % columns]!));
}

/**
 * Quantises one layer. Throws `ArgumentError` for groups that do not divide, bits out of range, and schemes that need
 * statistics that are not there; `NonFiniteError` for weights and biases that are not finite; `CalibrationError` from GPTQ.
 */
export async function quantizeLayer(
  key: string,
  layer: Linear,
  scheme: LayerScheme,
  seen?: InputStatistics,
): Promise<QuantizedLayer> {
  const [rows, columns] = layer.weight.shape as [number, number];
  const { activation } = scheme;
  if (activation) {
    checkBits(activation.bits, `activations of "${key}"`);
    groupSize(activation.granularity, columns, `activations of "${key}"`);
  }
  let weight = Float32Array.from((await layer.weight.cast("f32").data()) as Float32Array);
  let bias = layer.bias;
  if (bias) checkFinite((await bias.cast("f32").data()) as Float32Array, rows, `"${key}.bias"`);
  let change: QuantizedLayer["change"];
  if (scheme.change) {
    if (!seen) throw needs(key, `the change of variables "${scheme.change.kind}"`);
    change = changeOf(scheme, weight, columns, seen);
    const { scale, shift } = change;
    if (shift) {
      const moved = Float32Array.from(bias ? ((await bias.data()) as Float32Array) : new Float32Array(rows));
      for (const [i, w] of weight.entries()) moved[Math.floor(i / columns)]! += w * shift[i % columns]!;
      bias = fromHost("f32", [rows], moved);
    }
    weight = weight.map((w, i) => w * scale[i % columns]!);
  }
  let matrix: QuantizedMatrix;
  if (scheme.rounding === "gptq") {
    if (!seen?.hessian) throw needs(key, "GPTQ");
    const hessian = change ? changedHessian(seen.hessian, change.scale, columns) : seen.hessian;
    matrix = gptq(weight, rows, columns, hessian, scheme.weight, scheme.gptq, `"${key}"`);
  } else matrix = quantizeMatrix(weight, rows, columns, scheme.weight, `"${key}"`);

  let range: QuantizedLayer["range"];
  if (activation?.range === "static") {
    if (!seen) throw needs(key, "a static range of activations");
    const into = (x: Float32Array): Float32Array =>
      change ? x.map((v, i) => (v - (change.shift?.[i] ?? 0)) / change.scale[i]!) : x;
    range = sharedRanges(into(seen.low), into(seen.high), activation);
  }
  return { matrix, bias, scheme, ...(change && { change }), ...(range && { range }) };
}

const vector = (values: Float32Array): Tensor => fromHost("f32", [values.length], values);

/** The layer that computes in floats what the codes say. */
export function simulatedLayer({ matrix, bias, scheme, change, range }: QuantizedLayer): SimulatedLinear {
  const weight = fromHost("f32", [matrix.rows, matrix.columns], dequantizeMatrix(matrix));
  // A range for each channel; as the groups are of equal values, they need not be told apart any more.
  const fixed = range && new StaticRange(vector(range.low), vector(range.high));
  const changed: InputChange | undefined = change && {
    scale: vector(change.scale),
    shift: change.shift && vector(change.shift),
  };
  return new SimulatedLinear(weight, bias, scheme.activation, {
    ...(changed && { change: changed }),
    ...(fixed && { range: fixed }),
  });
}

/** Activations that the packed kernel has for a scheme. Throws `ArgumentError` for others. */
function packedActivations(
  key: string,
  { activation, change }: LayerScheme,
  group: number,
): PackedActivations {
  if (change) throw new ArgumentError(`packing "${key}": a change of variables has no kernel; simulate it`);
  if (!activation) return 16;
  const { bits, symmetric, range } = activation;
  if (bits !== 8 || !symmetric || range !== "dynamic")
    throw new ArgumentError(
      `packing "${key}": the kernel rounds activations to 8 bits, symmetrically, with dynamic ranges; got ${bits} bits, ${symmetric ? "" : "a"}symmetric, ${range}`,
    );
  if (typeof activation.granularity !== "number" || activation.granularity > group)
    throw new ArgumentError(
      `packing "${key}": the kernel rounds activations in groups of at most ${group}, got ${activation.granularity}`,
    );
  return 8;
}

/** The layer that keeps the codes and runs on the integer kernels. */
export function packedLayer(key: string, layer: QuantizedLayer): PackedLinear {
  const { matrix, bias, scheme } = layer;
  return new PackedLinear(packMatrix(matrix), bias, packedActivations(key, scheme, matrix.group));
}

/** The model with layers replaced by key. */
export const replaceLayers = <M extends object>(model: M, layers: ReadonlyMap<string, object>): M =>
  mapModules(model, (module, key) => layers.get(key) ?? module);

/** Which layers the schemes of a model name, in order. Throws `ArgumentError` when there are none. */
export function chosenLayers(
  model: object,
  schemeOf: SchemeOf,
): Map<string, { layer: Linear; scheme: LayerScheme }> {
  const chosen = new Map<string, { layer: Linear; scheme: LayerScheme }>();
  for (const [key, layer] of linearLayers(model)) {
    const scheme = schemeOf(key, layer);
    if (scheme) chosen.set(key, { layer, scheme });
  }
  if (chosen.size === 0) throw new ArgumentError("quantise: no linear layer is to be quantised");
  return chosen;
}

/** How quantised layers compute: in floats that are on the grid, or in packed integers. */
export type Face = "simulated" | "packed";

/** The model with quantised layers in place of its own. Throws `ArgumentError` for a scheme that has no kernel. */
export const withQuantized = <M extends object>(
  model: M,
  layers: ReadonlyMap<string, QuantizedLayer>,
  face: Face,
): M =>
  replaceLayers(
    model,
    new Map(
      [...layers].map(([key, layer]) => [
        key,
        face === "simulated" ? simulatedLayer(layer) : packedLayer(key, layer),
      ]),
    ),
  );

/**
 * Quantises the layers that the schemes choose, from statistics of the original model. Throws as `quantizeLayer` does,
 * and `ArgumentError` when the model is quantised already or nothing is chosen.
 */
export async function quantizeLayers(
  model: object,
  schemeOf: SchemeOf,
  statistics: ReadonlyMap<string, InputStatistics> = new Map(),
): Promise<Map<string, QuantizedLayer>> {
  const quantized = new Map<string, QuantizedLayer>();
  for (const [key, { layer, scheme }] of chosenLayers(model, schemeOf))
    quantized.set(key, await quantizeLayer(key, layer, scheme, statistics.get(key)));
  return quantized;
}

/**
 * The same in stages (blocks, in the order of the network): the layers of a stage are calibrated on a model whose earlier
 * stages are quantised already, so that they make up for its errors, as GPTQ does. `calibrateOn` gives the statistics of
 * some layers of a model. Layers that no stage names come last.
 */
export async function quantizeInStages<M extends object>(
  model: M,
  schemeOf: SchemeOf,
  stages: readonly RegExp[],
  calibrateOn: (model: M, keys: readonly string[]) => Promise<ReadonlyMap<string, InputStatistics>>,
): Promise<Map<string, QuantizedLayer>> {
  const waiting = chosenLayers(model, schemeOf);
  const quantized = new Map<string, QuantizedLayer>();
  for (const stage of [...stages, /./]) {
    const keys = [...waiting.keys()].filter((key) => stage.test(key));
    if (keys.length === 0) continue;
    const statistics = await calibrateOn(withQuantized(model, quantized, "simulated"), keys);
    for (const key of keys) {
      const { layer, scheme } = waiting.get(key)!;
      waiting.delete(key);
      quantized.set(key, await quantizeLayer(key, layer, scheme, statistics.get(key)));
    }
  }
  return quantized;
}

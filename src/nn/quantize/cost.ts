/** What quantised layers cost: bytes, bit operations, and the error that rounding leaves. */
import type { Linear } from "../layers/linear.ts";
import { modules } from "../module.ts";
import type { QuantizedMatrix } from "./grid.ts";
import { PackedLinear, unpackedWeight } from "./packed.ts";

/** Bytes of a matrix as a file holds it: codes, and per group a scale of half precision and a zero. */
export function matrixBytes({ rows, columns, bits, group }: QuantizedMatrix): number {
  const groups = (rows * columns) / group;
  return Math.ceil((rows * columns * bits) / 8) + 2 * groups + Math.ceil((groups * bits) / 8);
}

/**
 * Weight of the rescaling of a group's sum in bit operations, as a share of a 32-bit multiplication's 32·32: so small that
 * groups of 128 add a quarter at 4 and 8 bits.
 */
const RESCALE = 32 * 32;

/**
 * Bit operations of a layer for one token: bits times bits for each multiplication, and a rescaling in floats for the sum
 * of each group. `activationBits` is 32 for floats.
 */
export function bitOperations(
  { rows, columns, bits, group }: Pick<QuantizedMatrix, "rows" | "columns" | "bits" | "group">,
  activationBits: number,
): number {
  return rows * columns * bits * activationBits + rows * (columns / group) * RESCALE;
}

/** Signal-to-noise ratio in decibels; infinite for equal values, those of zeros included. */
export function signalToNoiseDecibels(signal: ArrayLike<number>, approximation: ArrayLike<number>): number {
  let [power, error] = [0, 0];
  for (let i = 0; i < signal.length; i++) {
    power += signal[i]! ** 2;
    error += (signal[i]! - approximation[i]!) ** 2;
  }
  return error === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(power / error);
}

/** Signal-to-noise ratio of the weight of each packed layer of a model, as it was read from its file, in decibels. */
export async function weightErrors(
  packed: object,
  original: ReadonlyMap<string, Linear>,
): Promise<Map<string, number>> {
  const errors = new Map<string, number>();
  for (const [key, layer] of modules(packed)) {
    if (!(layer instanceof PackedLinear)) continue;
    const weight = (await original.get(key)!.weight.cast("f32").data()) as Float32Array;
    errors.set(key, signalToNoiseDecibels(weight, await unpackedWeight(layer)));
  }
  return errors;
}

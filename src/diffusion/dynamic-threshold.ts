/** Clipping and dynamic thresholding: keep the predicted clean sample in the range of the data. */
import { ArgumentError } from "../errors.ts";
import { maximum, minimum, type Tensor } from "../tensor/index.ts";
import { floatsOf, fromFloats, isEvaluated, mapElements } from "./weighted-sum.ts";

/** Clamps to [-range, range]. */
export function clip(range = 1): (denoised: Tensor) => Tensor {
  if (!(range > 0)) throw new ArgumentError(`clip: expected a positive range, got ${range}`);
  return (x) =>
    isEvaluated(x) ? mapElements(x, (v) => Math.min(range, Math.max(-range, v))) : x.clip(-range, range);
}

/**
 * Dynamic thresholding (Saharia et al. 2022, "Imagen", section 2.3): per sample, clamps to the given quantile of the
 * absolute values and divides by it. The divisor is at least 1 and at most `max`; `max` wins.
 */
export function dynamicThreshold(quantile = 0.995, max = 1): (denoised: Tensor) => Tensor {
  if (!(quantile >= 0 && quantile <= 1)) {
    throw new ArgumentError(`dynamicThreshold: expected a quantile in [0, 1], got ${quantile}`);
  }
  return (x) => {
    if (!isEvaluated(x)) return thresholded(x, quantile, max);
    const values = floatsOf(x).slice();
    const size = values.length / x.shape[0]!;
    for (let start = 0; start < values.length; start += size) {
      const row = values.subarray(start, start + size);
      const limit = Math.min(max, Math.max(1, quantileOf(row.map(Math.abs).sort(), quantile)));
      row.forEach((v, i) => {
        row[i] = Math.min(limit, Math.max(-limit, v)) / limit;
      });
    }
    return fromFloats(values, x.shape, x.dtype);
  };
}

/** Dynamic thresholding as an expression; the rows are sorted in the graph. */
function thresholded(x: Tensor, quantile: number, max: number): Tensor {
  const rows = x.cast("f64").flattenAxes(1); // [N, size]
  const size = rows.shape[1]!;
  const [sorted] = rows.abs().sort(1);
  const position = quantile * (size - 1);
  const at = (i: number): Tensor => sorted.sliceAxis(1, i, i + 1); // [N, 1]
  const low = at(Math.floor(position));
  const level = low.add(
    at(Math.ceil(position))
      .sub(low)
      .mul(position - Math.floor(position)),
  );
  const limit = minimum(maximum(level, 1), max);
  return rows.clipTo(limit.neg(), limit).div(limit).reshape(x.shape).cast(x.dtype);
}

/** Quantile of sorted numbers, linear between them. */
function quantileOf(sorted: ArrayLike<number>, q: number): number {
  const position = q * (sorted.length - 1);
  const low = Math.floor(position);
  const high = Math.ceil(position);
  return sorted[low]! + (position - low) * (sorted[high]! - sorted[low]!);
}

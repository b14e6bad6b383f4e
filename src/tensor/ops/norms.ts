/** Reductions made of others, with care at the corners. */
import type { Tensor } from "../tensor.ts";
import { where } from "./arithmetic.ts";
import { normalizeAxes } from "./op.ts";
import { type Axes, peakOf, sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

/** Euclidean norm over axes; `eps` is added below the root. Its gradient at zero is zero. */
export function norm(x: Tensor, axes?: Axes, keepDims = false, eps = 0): Tensor {
  const squares = sum(x.square(), axes, keepDims);
  if (eps !== 0) return squares.add(eps).sqrt();
  const zero = squares.equal(0);
  return where(zero, 0, where(zero, 1, squares).sqrt());
}

/** log(sum(exp(x))), without overflow; -Infinity where all elements are. */
export function logSumExp(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  const largest = peakOf(x, axes).stopGradient();
  const peak = where(largest.isInf(), 0, largest);
  const out = sum(x.sub(peak).exp(), axes, true).log().add(peak);
  if (keepDims) return out;
  const gone = normalizeAxes(axes, x.rank);
  return reshape(
    out,
    x.shape.filter((_, i) => !gone.includes(i)),
  );
}

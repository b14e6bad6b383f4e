/** Normalisation by the statistics of the data itself. */
import { ShapeError } from "../../errors.ts";
import type { Aval, Tensor } from "../tensor.ts";
import { apply, needFloat, type Op } from "./op.ts";
import { reshape } from "./shape.ts";

/**
 * (x - mean) / sqrt(variance + eps) over the last axis, with the mean and the reciprocal deviation as further outputs.
 * Layer, group and instance norm are this operation between two reshapes.
 */
const standardizeOp: Op<{ eps: number }> = {
  name: "standardize",
  infer: ([x]) => {
    needFloat(x!);
    const rows: Aval = { shape: [...x!.shape.slice(0, -1), 1], dtype: x!.dtype };
    return [x!, rows, rows];
  },
  lower: (g, [x], { eps }, { inputs: [a] }) => {
    const ones = g.full(a!.dtype, [a!.shape.at(-1)!], 1);
    return g.node("LayerNormalization", [x!, ones], { axis: -1, epsilon: { float: eps } }, 3);
  },
  vjp: ([ct, ctMean, ctInv], [x], [y, , inv]) => {
    const n = x!.shape.at(-1)!;
    let dx: Tensor | undefined;
    if (ct) {
      const centred = ct.sub(ct.mean(-1, true)).sub(y!.mul(ct.mul(y!).mean(-1, true)));
      dx = inv!.mul(centred);
    }
    if (ctMean) dx = dx ? dx.add(ctMean.mul(1 / n)) : ctMean.mul(1 / n).broadcastTo(x!.shape);
    if (ctInv) {
      const term = y!.mul(
        inv!
          .square()
          .mul(ctInv)
          .mul(-1 / n),
      ); // d inv / dx = -inv^2 y / n
      dx = dx ? dx.add(term) : term;
    }
    return [dx];
  },
};

/** Zero mean and unit variance over the last axis. */
export function standardize(x: Tensor, eps = 1e-5): Tensor {
  return apply(standardizeOp, [x], { eps })[0]!;
}

/** Layer norm over the last axis: x [..., D], weight and bias [D]. */
export function layerNorm(x: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  const scaled = weight ? standardize(x, eps).mul(weight) : standardize(x, eps);
  return bias ? scaled.add(bias) : scaled;
}

/** Root-mean-square norm over the last axis (Zhang and Sennrich 2019). */
export function rmsNorm(x: Tensor, weight?: Tensor, eps = 1e-6): Tensor {
  const scaled = x.mul(x.square().mean(-1, true).add(eps).sqrt().reciprocal());
  return weight ? scaled.mul(weight) : scaled;
}

const perChannel = (v: Tensor, x: Tensor): Tensor => reshape(v, [v.size, ...x.shape.slice(2).map(() => 1)]);

/** Group norm (Wu and He 2018): x [N, C, ...], weight and bias [C]; statistics over each of `groups` groups of channels. */
export function groupNorm(x: Tensor, groups: number, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  const [n, c] = x.shape as [number, number];
  if (x.rank < 2 || !Number.isInteger(groups) || groups < 1 || c % groups !== 0) {
    throw new ShapeError(`groupNorm: ${c} channels of ${x} do not split into ${groups} groups`);
  }
  const normal = reshape(standardize(reshape(x, [n, groups, -1]), eps), x.shape);
  const scaled = weight ? normal.mul(perChannel(weight, x)) : normal;
  return bias ? scaled.add(perChannel(bias, x)) : scaled;
}

/** Instance norm: group norm with one channel per group. */
export function instanceNorm(x: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  return groupNorm(x, x.shape[1]!, weight, bias, eps);
}

/** Batch norm of x [N, C, ...] by given statistics [C] (inference), or by the batch's own. */
export function batchNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  statistics?: { mean: Tensor; variance: Tensor },
  eps = 1e-5,
): Tensor {
  const axes = x.shape.map((_, i) => i).filter((i) => i !== 1);
  const mean = statistics ? perChannel(statistics.mean, x) : x.mean(axes, true);
  const variance = statistics ? perChannel(statistics.variance, x) : x.variance(axes, true);
  return x
    .sub(mean)
    .mul(variance.add(eps).sqrt().reciprocal().mul(perChannel(weight, x)))
    .add(perChannel(bias, x));
}

export const normalizeOps = { standardize: standardizeOp };

/** Gradients between the loss and the optimiser: norms, clipping, accumulation. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { barrier, flatten, type Tensor, treeLeaves, treeMap, valueAndGrad } from "../../tensor/index.ts";
import { needLeaves } from "../../tensor/tree.ts";
import { keyedEntries } from "../module.ts";
import { packed, trainedEntries } from "./optimizer.ts";

/** The trained leaves. */
const trainedLeaves = (tree: unknown): Tensor[] => trainedEntries(tree).map(({ leaf }) => leaf);

/** Sum of squares as a product of a row with itself: one pass, no temporary. */
function sumOfSquares(t: Tensor): Tensor {
  return t
    .reshape([1, -1])
    .matmul(t.reshape([1, -1]), { transB: true })
    .reshape([]);
}

/** Euclidean norm of all trained leaves (floats that no module declares as fixed) together. */
export function globalNorm(tree: unknown): Tensor {
  const leaves = trainedLeaves(tree);
  needLeaves(tree, leaves, "globalNorm: the tree");
  const small = leaves.filter((t) => t.size <= 8192 && t.dtype === leaves[0]!.dtype);
  const large = leaves.filter((t) => !small.includes(t));
  const parts = (small.length > 0 ? [packed(small), ...large] : large).map(sumOfSquares);
  return parts.reduce((a, b) => a.add(b)).sqrt();
}

/** Norm of each float leaf, by checkpoint key: names the layer when something explodes. */
export function normsByPath(tree: unknown): Record<string, Tensor> {
  const entries = keyedEntries(tree).filter(({ leaf }) => leaf.dtype.startsWith("f"));
  return Object.fromEntries(entries.map(({ key, leaf }) => [key, sumOfSquares(leaf).sqrt()]));
}

/** Scales a tree so that its global norm is at most `max` (as PyTorch's `clip_grad_norm_`). Also gives the norm before. */
export function clipByGlobalNorm<T>(tree: T, max: number): { clipped: T; norm: Tensor } {
  if (!(max > 0)) throw new ArgumentError(`clipByGlobalNorm: expected a positive bound, got ${max}`);
  const norm = globalNorm(tree);
  const scale = norm.add(1e-6).reciprocal().mul(max).clip(0, 1);
  return { clipped: treeMap((t) => (t.dtype.startsWith("f") ? t.mul(scale.cast(t.dtype)) : t), tree), norm };
}

/** Limits every element to [-bound, bound]. */
export function clipByValue<T>(tree: T, bound: number): T {
  return treeMap((t) => (t.dtype.startsWith("f") ? t.clip(-bound, bound) : t), tree);
}

/**
 * `valueAndGrad` over `parts` equal slices of the batch (axis 0 of every tensor after the first argument), averaged:
 * the gradient of the whole batch with the memory of one slice. Each slice waits for the one before. With `aux` the loss
 * gives `[scalar, anything]`, and floats of both are averaged.
 */
export function accumulatedValueAndGrad<X, Batch extends unknown[], R>(
  loss: (x: X, ...batch: Batch) => R,
  parts: number,
  options: { aux?: boolean } = {},
): (x: X, ...batch: Batch) => [value: R, gradient: X] {
  if (!Number.isInteger(parts) || parts < 1)
    throw new ArgumentError(`accumulatedValueAndGrad: expected a positive number of parts, got ${parts}`);
  return (x, ...batch) => {
    const { leaves, def } = flatten(batch);
    for (const t of leaves) {
      if ((t.shape[0] ?? 0) % parts !== 0 || t.rank === 0) {
        throw new ShapeError(`accumulatedValueAndGrad: axis 0 of ${t} does not split into ${parts} parts`);
      }
    }
    let total: [R, X] | undefined;
    for (let i = 0; i < parts; i++) {
      const token = total && treeLeaves(total[1])[0]; // the first layer's gradient is computed last
      const slice = leaves.map((t) => {
        const n = t.shape[0]! / parts;
        const part = t.sliceAxis(0, i * n, (i + 1) * n);
        return token ? barrier(part, token) : part;
      });
      const found = valueAndGrad(loss, options)(x, ...(def.unflatten(slice) as Batch));
      total = total ? treeMap((a, _, b) => a.add(b!), total, found) : found;
    }
    const share = 1 / parts;
    return treeMap((t) => (t.dtype.startsWith("f") ? t.mul(share) : t), total!);
  };
}

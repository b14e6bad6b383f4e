/** Counts the multiplications and additions of the matrix products and convolutions behind some tensors. */
import { sizeOf, type Tensor } from "../src/tensor/index.ts";
import { reachable } from "../src/tensor/lower.ts";

/** Floating-point operations (two per multiply-add); elementwise work is not counted. */
export function countFlops(...results: readonly Tensor[]): number {
  let total = 0;
  for (const node of reachable(results)) {
    const [a, b] = node.inputs.map((t) => t.shape);
    const out = node.avals[0]!.shape;
    switch (node.op?.name) {
      case "matmul": {
        const { transA } = node.attrs as { transA: boolean };
        total += 2 * sizeOf(out) * a!.at(transA ? -2 : -1)!;
        break;
      }
      case "conv":
        total += 2 * sizeOf(out) * sizeOf(b!.slice(1));
        break;
      case "convTranspose":
        total += 2 * sizeOf(a!) * sizeOf(b!.slice(1));
        break;
      case "convWeightGrad":
        total += 2 * sizeOf(b!) * sizeOf(out.slice(1));
        break;
    }
  }
  return total;
}

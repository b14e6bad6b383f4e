/**
 * Weighted sums with weights that are numbers: what the formulas of diffusion are made of. One operation, because it is
 * linear: whatever it computes in between, the backward pass keeps nothing of it.
 */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { DTYPES, type DType } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Op, Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { apply1, needFloat } from "./op.ts";

const convert = (g: GraphBuilder, x: string, from: DType, to: DType): string =>
  from === to ? x : g.op("Cast", [x], { to: DTYPES[to].onnx });

const weightedSumOp: Op<{ weights: readonly number[] }> = {
  name: "weightedSum",
  infer: (inputs, { weights }) => {
    const [first] = inputs;
    if (!first || inputs.length !== weights.length)
      throw new ArgumentError(`expected a weight for each tensor, got ${weights.length}`);
    for (const weight of weights)
      if (!Number.isFinite(weight)) throw new ArgumentError(`expected finite weights, got ${weight}`);
    for (const x of inputs) {
      needFloat(x);
      if (x.shape.join() !== first.shape.join())
        throw new ShapeError(`expected terms of one shape, got [${first.shape}] and [${x.shape}]`);
    }
    return [first];
  },
  lower: (g, inputs, { weights }, { inputs: avals, outputs: [y] }) => {
    // Double precision where the device has it for sure, as on the host: the kernels of others may lack it.
    const wide = g.contrib || avals.some((a) => a.dtype === "f64") ? "f64" : "f32";
    const terms = inputs.map((x, i) =>
      g.op("Mul", [convert(g, x, avals[i]!.dtype, wide), g.scalar(wide, weights[i]!)]),
    );
    const sum = terms.reduce((a, b) => g.op("Add", [a, b]));
    const narrow = y!.dtype === "f64" ? sum : convert(g, sum, wide, "f32");
    return [y!.dtype === "f16" ? convert(g, narrow, "f32", "f16") : narrow];
  },
  vjp: ([ct], inputs, _, { weights }) =>
    inputs.map((x, i) => ct && cast(apply1(weightedSumOp, [ct], { weights: [weights[i]!] }), x.dtype)),
};

/**
 * Sum of weights[i] * terms[i] over float tensors of one shape, in the dtype of the first; added up in double precision, in
 * this order, and rounded once (in f32 on devices without it). Throws `ArgumentError` for weights that are not finite,
 * `ShapeError` when shapes differ.
 */
export function sumOfWeighted(terms: readonly Tensor[], weights: readonly number[]): Tensor {
  return apply1(weightedSumOp, terms, { weights });
}

export const weightedSumOps = { weightedSum: weightedSumOp };

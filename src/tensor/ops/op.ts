/** Applying an operation to tensors, and the checks that the shape rules share. */
import { ArgumentError, DTypeError, ShapeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import { callSite } from "../call-site.ts";
import { isFloat } from "../dtype.ts";
import { assertTensorFits } from "../memory.ts";
import { type Cotangent, Node, type Op, Tensor } from "../tensor.ts";

/** The vector-Jacobian product of an operation whose outputs do not vary smoothly with any input. */
export const notDifferentiable = (): readonly Cotangent[] => [];

const describe = (inputs: readonly Aval[]): string =>
  inputs.map((a) => `${a.dtype}[${a.shape.join(", ")}]`).join(" and ");

/** Where the error happened: the operation, its operands and the user's line. */
function located(error: unknown, name: string, inputs: readonly Aval[]): unknown {
  if (!(error instanceof ShapeError || error instanceof DTypeError || error instanceof ArgumentError))
    return error;
  const site = callSite();
  error.message = `${name}(${describe(inputs)}): ${error.message}${site ? `\n    called at ${site}` : ""}`;
  return error;
}

/** Applies an operation: checks, infers, and adds a node to the graph. */
export function apply<Attrs>(op: Op<Attrs>, inputs: readonly Tensor[], attrs: Attrs): Tensor[] {
  const avals = inputs.map((t) => t.node.avals[t.output]!);
  try {
    if (avals.some((a) => a.dtype === "bf16"))
      throw new DTypeError("bf16 is for storage only: cast to f32 first");
    const outputs = op.infer(avals, attrs);
    for (const out of outputs) assertTensorFits(out.shape, out.dtype);
    const node = new Node(op, inputs, attrs, outputs);
    return outputs.map((_, i) => new Tensor(node, i));
  } catch (error) {
    throw located(error, op.name, avals);
  }
}

/** `apply` for operations with one output. */
export function apply1<Attrs>(op: Op<Attrs>, inputs: readonly Tensor[], attrs: Attrs): Tensor {
  return apply(op, inputs, attrs)[0]!;
}

// ---- checks shared by the shape rules ----

/** Throws `DTypeError` unless the operand is a float. */
export function needFloat(x: Aval): void {
  if (!isFloat(x.dtype)) throw new DTypeError(`expected a float tensor, got ${x.dtype}`);
}

/** Throws `DTypeError` unless all operands have one dtype. */
export function needSameDType(inputs: readonly Aval[]): void {
  const [first, ...rest] = inputs;
  for (const x of rest) {
    if (x.dtype !== first!.dtype)
      throw new DTypeError(`dtypes differ: ${first!.dtype} and ${x.dtype}; cast one of them`);
  }
}

/** Throws `ShapeError` unless the operand has the given number of axes. */
export function needRank(x: Aval, rank: number, what: string): void {
  if (x.shape.length !== rank)
    throw new ShapeError(`${what} needs ${rank} axes, got [${x.shape.join(", ")}]`);
}

/** Axis counted from the front. Throws `ArgumentError` when out of range. */
export function normalizeAxis(axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ArgumentError(`axis ${axis} is outside a tensor with ${rank} axes`);
  }
  return axis < 0 ? axis + rank : axis;
}

/** Axes from the front, sorted, without repeats; all of them when none is named. */
export function normalizeAxes(axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof axes === "number" ? [axes] : axes).map((a) => normalizeAxis(a, rank));
  return [...new Set(list)].sort((a, b) => a - b);
}

/** Shape that two shapes broadcast to (NumPy rule). Throws `ShapeError` when they do not. */
export function broadcastShapes(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const da = a[i - rank + a.length] ?? 1;
    const db = b[i - rank + b.length] ?? 1;
    if (da !== db && da !== 1 && db !== 1) {
      throw new ShapeError(
        `shapes [${a.join(", ")}] and [${b.join(", ")}] do not broadcast: axis ${i - rank} has ${da} and ${db}`,
      );
    }
    return da === 1 ? db : da;
  });
}

/**
 * Reverse-mode differentiation. Gradients are tensors built from the same operations, so they can be differentiated
 * again, compiled and exported like anything else.
 */
import { ArgumentError, DTypeError, ShapeError, TreeError } from "../errors.ts";
import { isFloat } from "./dtype.ts";
import { reachable } from "./lower.ts";
import { onesLike, zerosLike } from "./ops/create.ts";
import { alias, barrier, customVjp, stopGradient } from "./ops/gradient-control.ts";
import { refuseFromOutside } from "./origin.ts";
import { type AnyOp, type Cotangent, type Node, peekNodeId, Tensor } from "./tensor.ts";
import { assertSamePaths, describeValue, flatten, needLeaves } from "./tree.ts";

interface TapeEntry {
  readonly node: Node;
  readonly op: AnyOp;
  readonly inputs: readonly Tensor[];
  readonly attrs: unknown;
}

/**
 * The operations between `sources` and `outputs`. Kept apart from the graph, because evaluating a tensor frees the
 * graph behind it.
 */
function record(outputs: readonly Tensor[], sources: readonly Tensor[]): TapeEntry[] {
  const active = new Set<Node>(sources.map((t) => t.node));
  const tape: TapeEntry[] = [];
  for (const node of reachable(outputs)) {
    if (!node.op || !node.inputs.some((t) => active.has(t.node)) || active.has(node)) continue;
    active.add(node);
    tape.push({ node, op: node.op, inputs: node.inputs, attrs: node.attrs });
  }
  return tape;
}

/** Runs the vector-Jacobian products of a tape backwards. Absent gradients are undefined. */
function pullBack(
  tape: readonly TapeEntry[],
  outputs: readonly Tensor[],
  seeds: readonly Tensor[],
  sources: readonly Tensor[],
): Cotangent[] {
  const active = new Set<Node>([...sources.map((t) => t.node), ...tape.map((e) => e.node)]);
  const cotangents = new Map<Node, Cotangent[]>();
  const accumulate = (t: Tensor, ct: Cotangent): void => {
    if (!ct || !active.has(t.node) || !isFloat(t.dtype)) return;
    let slots = cotangents.get(t.node);
    if (!slots) cotangents.set(t.node, (slots = t.node.avals.map(() => undefined)));
    slots[t.output] = slots[t.output]?.add(ct) ?? ct;
  };
  outputs.forEach((t, i) => {
    accumulate(t, seeds[i]);
  });
  for (const { node, op, inputs, attrs } of tape.toReversed()) {
    const cts = cotangents.get(node);
    if (!cts) continue;
    const grads = op.vjp(cts, inputs, node.tensors(), attrs);
    grads.forEach((ct, i) => {
      accumulate(inputs[i]!, ct);
    });
  }
  return sources.map((t) => cotangents.get(t.node)?.[t.output]);
}

/**
 * Fresh stand-ins for the float leaves of a tree, so that the function differentiates with respect to these uses only.
 * `checkUse` throws when a result depends on a leaf from outside and not through its stand-in.
 */
function mark<T>(tree: T, what: string) {
  const { leaves, def } = flatten(tree);
  needLeaves(tree, leaves, what);
  const sources = leaves.map((t) => (isFloat(t.dtype) ? alias(t) : t));
  return {
    marked: def.unflatten(sources) as T,
    sources,
    unflatten: (l: readonly unknown[]): T => def.unflatten(l) as T,
    checkUse: (outputs: readonly Tensor[]): void =>
      refuseFromOutside(outputs, leaves, sources, def.paths, what),
  };
}

/** The result itself; a promise is let go of, so that what it says later ends no process. */
function settledResult<R>(result: R): R {
  if (result instanceof Promise) result.catch(() => {});
  return result;
}

const gradientOf = (source: Tensor, ct: Cotangent): Tensor => ct ?? zerosLike(source);

function checkScalar(loss: unknown): asserts loss is Tensor {
  if (!(loss instanceof Tensor))
    throw new ArgumentError(`grad: expected a function whose result is a tensor, got ${describeValue(loss)}`);
  if (loss.rank !== 0)
    throw new ShapeError(
      `grad: expected a function with a scalar result, got shape [${loss.shape}]: take its sum() or mean()`,
    );
  if (!isFloat(loss.dtype)) throw new DTypeError(`grad: expected a float result, got ${loss.dtype}`);
}

/**
 * `valueAndGrad(f)(x, ...rest)` gives `[f(x, ...rest), df/dx]`, the gradient as a tree of the same structure as `x`
 * (zeros for leaves that are integers or do not matter). `f` returns a scalar, or `[scalar, anything]` with
 * `{ aux: true }`; then the value is that pair.
 *
 * @throws ArgumentError when `x` holds no float tensors, when the result is no tensor, and when `f` uses tensors of `x`
 * from outside instead of those that it is given
 *
 * @example
 * ```ts
 * const loss = (w: Tensor, x: Tensor) => x.matmul(w).square().mean();
 * const [value, slope] = valueAndGrad(loss)(tensor([[1], [2]]), tensor([[3, 4]]));
 * console.log(await value.item(), await slope.toArray()); // 121 [ 66, 88 ]
 * ```
 */
export function valueAndGrad<X, Rest extends unknown[], R>(
  f: (x: X, ...rest: Rest) => R,
  options: { aux?: boolean } = {},
): (x: X, ...rest: Rest) => [value: R, gradient: X] {
  return (x, ...rest) => {
    const { marked, sources, unflatten, checkUse } = mark(x, "grad: the first argument");
    const result = settledResult(f(marked, ...rest));
    const loss: unknown = options.aux ? (result as [Tensor])[0] : result;
    checkScalar(loss);
    const grads = pullBack(record([loss], sources), [loss], [onesLike(loss)], sources);
    if (grads.includes(undefined)) checkUse([loss]);
    return [result, unflatten(sources.map((s, i) => gradientOf(s, grads[i])))];
  };
}

/**
 * `grad(f)(x, ...rest)` is the gradient of the scalar `f(x, ...rest)` with respect to the tree `x`.
 *
 * @example
 * ```ts
 * await grad((x: Tensor) => x.square().sum())(tensor([1, 2])).toArray(); // [2, 4]
 * ```
 */
export function grad<X, Rest extends unknown[]>(
  f: (x: X, ...rest: Rest) => Tensor,
): (x: X, ...rest: Rest) => X {
  return (x, ...rest) => valueAndGrad(f)(x, ...rest)[1];
}

/** Result of `f` and the function that pulls a cotangent of the result back to cotangents of the arguments. */
export function vjp<Args extends unknown[], R>(
  f: (...args: Args) => R,
  ...args: Args
): [result: R, pullback: (cotangent: R) => Args] {
  const { marked, sources, unflatten, checkUse } = mark(args, "vjp: the arguments");
  const result = settledResult(f(...(marked as Args)));
  const { leaves: outputs, def } = flatten(result);
  if (outputs.length === 0)
    throw new ArgumentError(
      `vjp: expected a function whose result holds tensors, got ${describeValue(result)}`,
    );
  checkUse(outputs);
  const tape = record(outputs, sources);
  return [
    result,
    (cotangent) => {
      const seeds = flatten(cotangent).leaves;
      if (seeds.length !== outputs.length)
        throw new ArgumentError(`vjp: expected ${outputs.length} cotangents, got ${seeds.length}`);
      checkAlike(outputs, seeds, def.paths, "vjp: the cotangent");
      const grads = pullBack(tape, outputs, seeds, sources);
      return unflatten(sources.map((s, i) => gradientOf(s, grads[i])));
    },
  ];
}

/** @throws ShapeError or DTypeError unless tensors are of the shapes and dtypes of others */
function checkAlike(
  expected: readonly Tensor[],
  got: readonly Tensor[],
  paths: readonly string[],
  what: string,
): void {
  got.forEach((t, i) => {
    const like = expected[i]!;
    const where = paths[i] ? ` "${paths[i]}"` : "";
    if (t.shape.join() !== like.shape.join())
      throw new ShapeError(`${what}${where} must have the shape [${like.shape}], got [${t.shape}]`);
    if (t.dtype !== like.dtype) throw new DTypeError(`${what}${where} must be ${like.dtype}, got ${t.dtype}`);
  });
}

/**
 * Result of `f` and its directional derivative along `tangents`, which are a tree like `args`. Forward mode by
 * differentiating the pullback, which is linear in its cotangent, once more. Throws `TreeError`, `ShapeError` or
 * `DTypeError` when the tangents do not match the arguments.
 */
export function jvp<Args extends unknown[], R>(
  f: (...args: Args) => R,
  args: Args,
  tangents: Args,
): [result: R, tangent: R] {
  const [primals, directions] = [flatten(args), flatten(tangents)];
  assertSamePaths(primals.def.paths, directions.def.paths);
  checkAlike(primals.leaves, directions.leaves, primals.def.paths, "jvp: the tangent");
  const [result, pullback] = vjp(f, ...args);
  const { leaves, def } = flatten(result);
  const dummies = leaves.map((t) => zerosLike(t));
  const [, pushForward] = vjp((cts: unknown[]) => flatten(pullback(def.unflatten(cts) as R)).leaves, dummies);
  const [out] = pushForward(directions.leaves);
  return [result, def.unflatten(out) as R];
}

/**
 * A function with its own gradient: `f` over trees as it is, and `backward(cotangent, args, result)` in place of its
 * derivative. The cotangent is a tree like the result; `backward` gives for each argument a tree of gradients like it, of
 * which anything may be left out (undefined): that counts as zero. Example: straight-through rounding is
 * `customGradient((x: Tensor) => x.round(), (ct) => [ct])`. Tensors that `f` captures get no gradient.
 *
 * @throws TreeError, ShapeError or DTypeError, when it is differentiated, for gradients that do not match the arguments
 */
export function customGradient<Args extends unknown[], R>(
  f: (...args: Args) => R,
  backward: (cotangent: R, args: Args, result: R) => readonly unknown[],
): (...args: Args) => R {
  return (...args) => {
    const { leaves: inputs, def } = flatten(args);
    const result = settledResult(f(...(def.unflatten(inputs.map(stopGradient)) as Args)));
    const { leaves: outputs, def: outDef } = flatten(result);
    if (outputs.length === 0)
      throw new ArgumentError(
        `customGradient: expected a function whose result holds tensors, got ${describeValue(result)}`,
      );
    const wrapped = customVjp(outputs, inputs, (cts, xs, ys) => {
      const cotangent = outDef.unflatten(cts.map((ct, i) => ct ?? zerosLike(ys[i]!))) as R;
      const given = backward(cotangent, def.unflatten(xs) as Args, outDef.unflatten(ys) as R);
      return gradientsByPath(given, xs, def.paths);
    });
    return outDef.unflatten(wrapped) as R;
  };
}

/** Gradients in the order of the leaves; undefined for those that were left out. */
function gradientsByPath(
  given: readonly unknown[],
  inputs: readonly Tensor[],
  paths: readonly string[],
): Cotangent[] {
  const { leaves, def } = flatten([...given]);
  const found = new Map(def.paths.map((path, i) => [path, leaves[i]!]));
  const strange = def.paths.filter((path) => !paths.includes(path));
  if (strange.length > 0)
    throw new TreeError(
      `customGradient: gradients for "${strange.join('", "')}", where the arguments hold tensors at "${paths.join('", "')}"`,
    );
  return inputs.map((x, i) => {
    const gradient = found.get(paths[i]!);
    if (gradient) checkAlike([x], [gradient], [paths[i]!], "customGradient: the gradient of argument");
    return gradient;
  });
}

/**
 * Recomputes `f` during the backward pass instead of keeping its intermediate values (Chen et al. 2016, sublinear
 * memory). The recomputation starts from copies of the inputs that exist only once the cotangent does, so neither the
 * runtime's common-subexpression pass nor its scheduling can undo it. Tensors that `f` captures count as inputs.
 */
export function checkpoint<Args extends unknown[], R>(f: (...args: Args) => R): (...args: Args) => R {
  return (...args) => {
    const { leaves: inputs, def } = flatten(args);
    const call = (xs: readonly Tensor[]): R => f(...(def.unflatten(xs) as Args));
    const first = peekNodeId();
    const shielded = inputs.map(stopGradient);
    const { leaves: outputs, def: outDef } = flatten(call(shielded));
    const captured = capturedBy(outputs, shielded, first);
    const wrapped = customVjp(outputs.map(stopGradient), [...inputs, ...captured], (cts, all) => {
      const token = cts.find((ct) => ct)!;
      const copies = all.map((x, i) => (i < inputs.length && isFloat(x.dtype) ? barrier(x, token) : x));
      const fresh = copies.slice(0, inputs.length);
      const again = flatten(call(fresh)).leaves;
      const sources = [...fresh, ...captured];
      const live = again.map((t, i) => [t, cts[i]] as const).filter(([, ct]) => ct);
      const outs = live.map(([t]) => t);
      return pullBack(
        record(outs, sources),
        outs,
        live.map(([, ct]) => ct!),
        sources,
      );
    });
    return outDef.unflatten(wrapped) as R;
  };
}

/** Tensors made before the function ran that its result depends on. */
function capturedBy(outputs: readonly Tensor[], inputs: readonly Tensor[], firstId: number): Tensor[] {
  const own = new Set(inputs.map((t) => t.node));
  const found = new Map<string, Tensor>();
  for (const node of reachable(outputs)) {
    if (node.id < firstId || own.has(node)) continue;
    for (const t of node.inputs) {
      if (t.node.id < firstId && t.node.leaf !== "literal") found.set(`${t.node.id}:${t.output}`, t);
    }
  }
  return [...found.values()];
}

/**
 * Maps a function over axis 0 of its arguments' leaves by applying it to each slice and stacking the results. Unrolled:
 * the graph grows with the batch, so prefer writing batched code where it matters. Throws `ShapeError` unless all leaves
 * have as many elements on axis 0.
 */
export function vmap<Args extends unknown[], R>(f: (...args: Args) => R): (...args: Args) => R {
  return (...args) => {
    const { leaves, def } = flatten(args);
    const n = leaves[0]?.shape[0] ?? 0;
    if (n === 0) throw new ShapeError("vmap: expected tensors with at least one element on axis 0");
    leaves.forEach((t, i) => {
      if (t.shape[0] !== n)
        throw new ShapeError(
          `vmap: axis 0 of "${def.paths[i]}" must have ${n} elements as that of "${def.paths[0]}", got ${t}`,
        );
    });
    const results = Array.from({ length: n }, (_, i) =>
      flatten(f(...(def.unflatten(leaves.map((t) => t.slice([i], [i + 1]).squeeze(0))) as Args))),
    );
    const stacked = results[0]!.leaves.map((t, k) =>
      t.unsqueeze(0).concat(
        results.slice(1).map((r) => r.leaves[k]!.unsqueeze(0)),
        0,
      ),
    );
    return results[0]!.def.unflatten(stacked) as R;
  };
}

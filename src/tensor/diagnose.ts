/** Finds where a computation first stops being finite. */
import { isFloat } from "./dtype.ts";
import { evaluate } from "./eager.ts";
import { reachable } from "./lower.ts";
import { type Node, peekHost, type Tensor } from "./tensor.ts";
import { treeEntries } from "./tree.ts";

/** Where a computation stops being finite: the operation, its place, and what went in. */
export interface NonFiniteReport {
  /** The first operation, in order of computation, whose result is not finite; "input" for a leaf. */
  readonly operation: string;
  readonly shape: readonly number[];
  /** The leaf of `inputs` that this operation uses directly, or the nearest one before it. */
  readonly nearest: string | undefined;
}

/**
 * Evaluates every value between `inputs` (a tree of leaves with names) and `result` and reports the first that holds a
 * NaN or an infinity, or undefined when all are finite. Takes the memory of all intermediate values: for post-mortems.
 */
export async function firstNonFinite(inputs: unknown, result: Tensor): Promise<NonFiniteReport | undefined> {
  const nodes = reachable([result]).filter((node) => isFloat(node.avals[0]!.dtype));
  const names = new Map<Node, string>(treeEntries(inputs).map(([path, t]) => [t.node, path]));
  const origin = nearestNames(reachable([result]), names);
  // x - x is 0 where x is finite and NaN elsewhere.
  const flags = nodes.map((node) => node.tensors()[0]!).map((t) => t.sub(t).sum());
  const known = nodes.map((node) => ({
    name: node.op?.name ?? "input",
    shape: node.avals[0]!.shape,
    nearest: origin.get(node),
  }));
  await evaluate(flags);
  const first = flags.findIndex((flag) => Number.isNaN(Number(peekHost(flag)[0])));
  if (first < 0) return undefined;
  const { name, shape, nearest } = known[first]!;
  return { operation: name, shape, nearest };
}

/** For each node, the latest named leaf that it depends on. */
function nearestNames(
  nodes: readonly Node[],
  names: ReadonlyMap<Node, string>,
): Map<Node, string | undefined> {
  const nearest = new Map<Node, string | undefined>();
  for (const node of nodes) {
    const direct = node.inputs.map((t) => names.get(t.node)).findLast((name) => name !== undefined);
    const inherited = node.inputs.map((t) => nearest.get(t.node)).findLast((name) => name !== undefined);
    nearest.set(node, names.get(node) ?? direct ?? inherited);
  }
  return nearest;
}

/**
 * Trees: nested arrays, plain objects and modules whose leaves are tensors. Everything else in them (numbers, strings,
 * functions) is part of the structure. `grad`, `jit`, optimisers and checkpoints all speak trees.
 */
import { TreeError } from "../errors.ts";
import { Tensor } from "./tensor.ts";

/** A structure with its leaves taken out. */
export interface TreeDef {
  /** Equal for equal structures: kinds, keys, classes and static values. */
  readonly key: string;
  /** Property path of each leaf, such as `blocks.0.conv.weight`. */
  readonly paths: readonly string[];
  /** Puts leaves back in. */
  unflatten(leaves: readonly unknown[]): unknown;
}

const identities = new WeakMap<object, number>();
let nextIdentity = 0;

/** A stable name for a function, class or foreign object, which are equal only to themselves. */
function identityOf(value: object): string {
  let id = identities.get(value);
  if (id === undefined) identities.set(value, (id = nextIdentity++));
  return `#${id}`;
}

const isPlain = (value: object): boolean => {
  const proto = Object.getPrototypeOf(value);
  return proto === Object.prototype || proto === null;
};

/** Classes whose instances are walked like objects; others are opaque static values. */
const nodeClasses = new WeakSet<object>();

/** Lets instances of a class (and of its subclasses) be walked as trees. Used by `Module`. */
export function registerTreeClass(ctor: abstract new (...args: never[]) => object): void {
  nodeClasses.add(ctor.prototype);
}

function isTreeClass(value: object): boolean {
  for (let p = Object.getPrototypeOf(value); p; p = Object.getPrototypeOf(p))
    if (nodeClasses.has(p)) return true;
  return false;
}

interface Walk {
  readonly leaves: Tensor[];
  readonly paths: string[];
  readonly key: string[];
  readonly open: Set<object>;
}

type Rebuild = (leaves: readonly unknown[]) => unknown;

function walk(value: unknown, path: string, w: Walk): Rebuild {
  if (value instanceof Tensor) {
    const i = w.leaves.length;
    w.leaves.push(value);
    w.paths.push(path);
    w.key.push("*");
    return (leaves) => leaves[i];
  }
  if (typeof value !== "object" || value === null) {
    w.key.push(typeof value === "function" ? identityOf(value) : `${typeof value}:${String(value)}`);
    return () => value;
  }
  if (w.open.has(value)) throw new TreeError(`the tree contains itself at "${path}"`);
  const array = Array.isArray(value);
  if (!array && !isPlain(value) && !isTreeClass(value)) {
    w.key.push(identityOf(value));
    return () => value;
  }
  w.open.add(value);
  const proto = Object.getPrototypeOf(value);
  w.key.push(array ? "[" : isPlain(value) ? "{" : `${identityOf(proto)}{`);
  const children = Object.entries(value).map(([name, child]) => {
    w.key.push(`${name}=`);
    return [name, walk(child, path ? `${path}.${name}` : name, w)] as const;
  });
  w.key.push("}");
  w.open.delete(value);
  if (array) return (leaves) => children.map(([, rebuild]) => rebuild(leaves));
  return (leaves) => {
    const copy = Object.create(proto);
    for (const [name, rebuild] of children) copy[name] = rebuild(leaves);
    return copy;
  };
}

/** Leaves of a tree in a fixed order, and its structure. Throws `TreeError` on cycles. */
export function flatten(tree: unknown): { leaves: Tensor[]; def: TreeDef } {
  const w: Walk = { leaves: [], paths: [], key: [], open: new Set() };
  const unflatten = walk(tree, "", w);
  return { leaves: w.leaves, def: { key: w.key.join(" "), paths: w.paths, unflatten } };
}

/** All tensors of a tree. */
export const treeLeaves = (tree: unknown): Tensor[] => flatten(tree).leaves;

/** Leaves with their property paths. */
export function treeEntries(tree: unknown): [path: string, leaf: Tensor][] {
  const { leaves, def } = flatten(tree);
  return leaves.map((leaf, i) => [def.paths[i]!, leaf]);
}

/** The same tree with every leaf replaced. Further trees must have the same leaves; their values come as arguments. */
export function treeMap<T>(
  f: (leaf: Tensor, path: string, ...others: Tensor[]) => unknown,
  tree: T,
  ...rest: unknown[]
): T {
  const { leaves, def } = flatten(tree);
  const others = rest.map((other) => {
    const flat = flatten(other);
    assertSamePaths(def.paths, flat.def.paths);
    return flat.leaves;
  });
  return def.unflatten(leaves.map((leaf, i) => f(leaf, def.paths[i]!, ...others.map((o) => o[i]!)))) as T;
}

/** Throws `TreeError`, naming the first difference, unless the leaves have the same paths. */
export function assertSamePaths(expected: readonly string[], got: readonly string[]): void {
  const length = Math.max(expected.length, got.length);
  for (let i = 0; i < length; i++) {
    if (expected[i] !== got[i]) {
      throw new TreeError(
        `trees differ at leaf ${i}: expected ${expected[i] === undefined ? "no more leaves" : `"${expected[i]}"`}, ` +
          `got ${got[i] === undefined ? "none" : `"${got[i]}"`} (${expected.length} and ${got.length} leaves)`,
      );
    }
  }
}

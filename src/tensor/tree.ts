/**
 * Trees: nested arrays, plain objects and modules whose leaves are tensors. Everything else in them (numbers, strings,
 * functions) is part of the structure. `grad`, `jit`, optimisers and checkpoints all speak trees. What holds tensors
 * and is no tree (a Map, a class of its own) is refused, for its tensors would be neither trained nor saved.
 */
import { ArgumentError, TreeError } from "../errors.ts";
import { isFloat } from "./dtype.ts";
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

/** How deep, and how far into a list, tensors are looked for in what is no tree. */
const LOOK_DEPTH = 3;
const LOOK_ENTRIES = 16;

/** Whether an object that is no tree holds tensors or modules. */
function holdsTensors(value: unknown, depth = LOOK_DEPTH): boolean {
  if (value instanceof Tensor) return true;
  if (typeof value !== "object" || value === null || depth === 0 || ArrayBuffer.isView(value)) return false;
  if (isTreeClass(value)) return true;
  const entries =
    value instanceof Map || value instanceof Set
      ? [...value.values()]
      : Array.isArray(value)
        ? value
        : Object.values(value);
  return entries.slice(0, LOOK_ENTRIES).some((entry) => holdsTensors(entry, depth - 1));
}

/** What a value is, in words: for errors about trees. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  if (Array.isArray(value)) return `an array of ${value.length} without tensors in it`;
  if (isPlain(value)) return `an object without tensors in it (${Object.keys(value).slice(0, 5).join(", ")})`;
  const name = value.constructor?.name || "object";
  if (value instanceof Promise) return "a Promise, which must be awaited first";
  if (value instanceof Map || value instanceof Set)
    return `a ${name}, which is no tree: use a plain object or array`;
  if (ArrayBuffer.isView(value)) return `a ${name}, which is no tensor: use fromHost or tensor`;
  return isTreeClass(value)
    ? `a ${name} without tensors in it`
    : `an instance of ${name}, which is no tree: the class must extend Module`;
}

/** @throws TreeError for an opaque object that holds tensors, which nothing would train, save or feed */
function refuseHolder(value: object, path: string): void {
  if (holdsTensors(value))
    throw new TreeError(
      `${path ? `"${path}"` : "the tree"} holds tensors and is ${describeValue(value)}; nothing would train or save them`,
    );
}

/**
 * @throws TreeError for a module whose `call` is a field: such a function is bound to the module that it was made in, and
 * computes with that one's tensors instead of those that are traced, trained or loaded
 */
function refuseBoundCall(value: object, path: string): void {
  const field = Object.getOwnPropertyDescriptor(value, "call");
  if (field?.enumerable && typeof field.value === "function")
    throw new TreeError(
      `${path ? `"${path}"` : "the module"} (${value.constructor.name}) has call as a field (\`call = (x) => …\`): make it a method (\`call(x) { … }\`), or it goes on using the tensors that the module was made with`,
    );
}

/** @throws ArgumentError naming what came, unless the tree has leaves that pass */
export function needLeaves(tree: unknown, leaves: readonly Tensor[], what: string): void {
  if (leaves.some(({ dtype }) => isFloat(dtype))) return;
  const found =
    leaves.length > 0
      ? `tensors of ${[...new Set(leaves.map((t) => t.dtype))].join(", ")} only`
      : describeValue(tree);
  throw new ArgumentError(
    `${what}: expected a tree with float tensors (arrays, plain objects, modules), got ${found}`,
  );
}

interface Walk {
  readonly leaves: Tensor[];
  readonly paths: string[];
  readonly key: string[];
  readonly open: Set<object>;
  /** Told of opaque values outside of modules. */
  readonly opaque: ((value: object, path: string) => void) | undefined;
  /** Number of modules around. */
  modules: number;
}

/** A static value as part of a key: -0 is not 0, and a text cannot pass for another part. */
const staticKey = (value: unknown): string =>
  typeof value === "string"
    ? JSON.stringify(value)
    : Object.is(value, -0)
      ? "number:-0"
      : `${typeof value}:${String(value)}`;

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
    w.key.push(typeof value === "function" ? identityOf(value) : staticKey(value));
    return () => value;
  }
  if (w.open.has(value)) throw new TreeError(`the tree contains itself at "${path}"`);
  const array = Array.isArray(value);
  const plain = !array && isPlain(value);
  const module = !array && !plain && isTreeClass(value);
  if (!array && !plain && !module) {
    refuseHolder(value, path);
    if (w.modules === 0) w.opaque?.(value, path);
    w.key.push(identityOf(value));
    return () => value;
  }
  w.open.add(value);
  const proto = Object.getPrototypeOf(value);
  if (module) {
    refuseBoundCall(value, path);
    w.modules++;
  }
  w.key.push(array ? "[" : plain ? "{" : `${identityOf(proto)}{`);
  const children = Object.entries(value).map(([name, child]) => {
    w.key.push(`${name}=`);
    return [name, walk(child, path ? `${path}.${name}` : name, w)] as const;
  });
  w.key.push("}");
  if (module) w.modules--;
  w.open.delete(value);
  if (array) return (leaves) => children.map(([, rebuild]) => rebuild(leaves));
  return (leaves) => {
    const copy = Object.create(proto);
    for (const [name, rebuild] of children) copy[name] = rebuild(leaves);
    return copy;
  };
}

/**
 * Leaves of a tree in a fixed order, and its structure. `opaque` is told of objects in it that are no trees and hold no
 * tensors, those within modules apart. Throws `TreeError` on cycles, and for what holds tensors without being a tree.
 */
export function flatten(
  tree: unknown,
  opaque?: (value: object, path: string) => void,
): { leaves: Tensor[]; def: TreeDef } {
  const w: Walk = { leaves: [], paths: [], key: [], open: new Set(), opaque, modules: 0 };
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

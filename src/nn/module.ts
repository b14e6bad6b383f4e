/**
 * Modules: classes whose fields are tensors, modules, arrays and objects of them, and static values. They are trees,
 * so `grad`, `jit`, optimisers and checkpoints take them as they are, and they are never changed in place: loading or
 * adapting gives a new module. The property path, written in snake_case, is the checkpoint key:
 * `downBlocks.0.resnets.1.conv1.weight` is `down_blocks.0.resnets.1.conv1.weight`.
 */
import { TreeError } from "../errors.ts";
import {
  bytesOf,
  cast,
  flatten,
  formatBytes,
  registerTreeClass,
  Tensor,
  treeEntries,
  treeLeaves,
  zeros,
} from "../tensor/index.ts";

/**
 * Base class of all modules and layers. Subclasses assign their fields in the constructor and compute in a method
 * `call`. Fields must be public and enumerable; getters and methods are not part of the tree.
 */
// biome-ignore lint/complexity/noStaticOnlyClass: subclasses are what instances are made of
export abstract class Module {
  /** Checkpoint names of properties where snake_case is not it, such as `{ linear1: "linear_1" }`. */
  static readonly keyNames: Readonly<Record<string, string>> = {};
  /**
   * Fields that are not trained: running statistics, fixed frequencies or positions. They are saved and loaded like the
   * others; optimisers, clipping and averages leave them alone.
   */
  static readonly fixed: readonly string[] = [];

  static {
    registerTreeClass(Module);
  }
}

const snakeCase = (name: string): string =>
  name.replace(/[A-Z]/g, (letter, at: number) => `${at > 0 ? "_" : ""}${letter.toLowerCase()}`);

/** Checkpoint key of a property of `owner`, whose own key is `prefix`. */
function keyOf(owner: object, prefix: string, name: string): string {
  const renamed = owner instanceof Module ? (owner.constructor as typeof Module).keyNames[name] : undefined;
  const last = renamed ?? snakeCase(name);
  return prefix ? `${prefix}.${last}` : last;
}

/** Leaves in the order of `flatten`. */
function* keyedLeaves(value: unknown, key: string): Generator<[key: string, leaf: Tensor]> {
  if (value instanceof Tensor) yield [key, value];
  else if (treeLeaves(value).length > 0) {
    const owner = value as object;
    for (const [name, child] of Object.entries(owner)) yield* keyedLeaves(child, keyOf(owner, key, name));
  }
}

/** All tensors of a module by checkpoint key, in the order of the fields. Throws `TreeError` when two share a key. */
export function parameters(module: object): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const [key, leaf] of keyedLeaves(module, "")) {
    if (found.has(key)) throw new TreeError(`parameters: two tensors have the key "${key}"`);
    found.set(key, leaf);
  }
  return found;
}

/** A leaf with its two names: the checkpoint key, which is what users see, and the property path of `flatten`. */
export interface KeyedLeaf {
  readonly key: string;
  readonly path: string;
  readonly leaf: Tensor;
}

/** All tensors of a tree under both names, in the order of `flatten`. */
export function keyedEntries(tree: unknown): KeyedLeaf[] {
  const keys = [...keyedLeaves(tree, "")];
  return treeEntries(tree).map(([path, leaf], i) => ({ key: keys[i]![0], path, leaf }));
}

/** Number of values in all tensors of a module, or with `trained` in those that are trained. */
export function parameterCount(module: object, { trained = false } = {}): number {
  const fixed = trained ? fixedPaths(module) : new Set();
  return treeEntries(module).reduce((total, [path, leaf]) => total + (fixed.has(path) ? 0 : leaf.size), 0);
}

/** Property paths of the leaves below fields that their modules declare as fixed. */
export function fixedPaths(tree: unknown): ReadonlySet<string> {
  const found = new Set<string>();
  const visit = (value: unknown, path: string, inFixed: boolean): void => {
    if (value instanceof Tensor && inFixed) found.add(path);
    if (value instanceof Tensor || treeLeaves(value).length === 0) return;
    const fixed = value instanceof Module ? (value.constructor as typeof Module).fixed : [];
    for (const [name, child] of Object.entries(value as object))
      visit(child, path ? `${path}.${name}` : name, inFixed || fixed.includes(name));
  };
  visit(tree, "", false);
  return found;
}

const grouped = (n: number): string => n.toLocaleString("en-US");

/** A table of a module's tensors: key, shape, number of values, and the totals below. */
export function summary(module: object): string {
  const entries = [...parameters(module)];
  const rows = entries.map(([key, t]) => [key, `[${t.shape.join(", ")}]`, t.dtype, grouped(t.size)] as const);
  const width = (column: 0 | 1 | 2 | 3): number => Math.max(0, ...rows.map((row) => row[column].length));
  const lines = rows.map(
    ([key, shape, dtype, count]) =>
      `${key.padEnd(width(0))}  ${shape.padEnd(width(1))}  ${dtype.padEnd(width(2))}  ${count.padStart(width(3))}`,
  );
  const bytes = entries.reduce((total, [, t]) => total + bytesOf(t.shape, t.dtype), 0);
  const total = `total: ${grouped(entries.length)} tensors, ${grouped(parameterCount(module))} values, ${formatBytes(bytes)}`;
  return [...lines, total].join("\n");
}

/** The same module with every tensor replaced by `f(tensor, key)`. */
export function mapParameters<T extends object>(module: T, f: (value: Tensor, key: string) => Tensor): T {
  const leaves = [...keyedLeaves(module, "")].map(([key, leaf]) => f(leaf, key));
  return flatten(module).def.unflatten(leaves) as T;
}

/** The same module with all tensors zero, as the last layer of a branch that should begin as the identity. */
export const zeroed = <T extends object>(module: T): T =>
  mapParameters(module, (t) => zeros(t.shape, t.dtype));

/**
 * The same tree with modules replaced: `f` sees every module from the root down, with its key. What it returns takes
 * the place of the module; when that is the module itself, the search goes on inside it.
 */
export function mapModules<T>(root: T, f: (module: Module, key: string) => unknown): T {
  const visit = (value: unknown, key: string): unknown => {
    if (value instanceof Module) {
      const replacement = f(value, key);
      if (replacement !== value) return replacement;
    } else if (value instanceof Tensor || treeLeaves(value).length === 0) return value;
    const owner = value as object;
    if (Array.isArray(owner)) return owner.map((child, i) => visit(child, keyOf(owner, key, String(i))));
    const copy = Object.create(Object.getPrototypeOf(owner));
    for (const [name, child] of Object.entries(owner)) copy[name] = visit(child, keyOf(owner, key, name));
    return copy;
  };
  return visit(root, "") as T;
}

/** All modules of a tree by key, from the root down; a root that is a module has the key "". */
export function modules(root: unknown): Map<string, Module> {
  const found = new Map<string, Module>();
  mapModules(root, (module, key) => {
    found.set(key, module);
    return module;
  });
  return found;
}

/** A copy of a module with some fields replaced. */
export const withFields = <T extends Module>(module: T, fields: Partial<T>): T =>
  Object.assign(Object.create(Object.getPrototypeOf(module)), module, fields);

/** How strict loading is. */
export interface LoadOptions {
  /** Takes f16 and bf16 weights where the module has f32, widened. Default false. */
  readonly widen?: boolean;
  /** Names in the checkpoint that may stay unused, such as `num_batches_tracked`. */
  readonly ignore?: (key: string) => boolean;
}

const shapeText = (t: Tensor): string => `${t.dtype}[${t.shape.join(", ")}]`;

/** Why a weight cannot take the place of a parameter, or undefined when it can. */
function mismatch(expected: Tensor, got: Tensor, widen: boolean): string | undefined {
  const sameShape = expected.rank === got.rank && expected.shape.every((d, i) => d === got.shape[i]);
  const narrower = got.dtype === "f16" || got.dtype === "bf16";
  const sameType = expected.dtype === got.dtype || (widen && expected.dtype === "f32" && narrower);
  if (sameShape && sameType) return undefined;
  return `expected ${shapeText(expected)}, got ${shapeText(got)}`;
}

/**
 * A new module with the given weights. All or nothing: throws one `TreeError` that lists every missing, every
 * unexpected and every mis-shaped (or mistyped) name.
 */
export function loadParameters<T extends object>(
  module: T,
  weights: ReadonlyMap<string, Tensor>,
  options: LoadOptions = {},
): T {
  const expected = parameters(module);
  const { widen = false, ignore = () => false } = options;
  const problems = [...expected].flatMap(([key, parameter]) => {
    const weight = weights.get(key);
    if (!weight) return [`missing "${key}": expected ${shapeText(parameter)}`];
    const difference = mismatch(parameter, weight, widen);
    return difference ? [`wrong "${key}": ${difference}`] : [];
  });
  for (const [key, weight] of weights) {
    if (!expected.has(key) && !ignore(key)) problems.push(`unexpected "${key}": got ${shapeText(weight)}`);
  }
  if (problems.length > 0) {
    const count = `${problems.length} problem${problems.length > 1 ? "s" : ""}`;
    throw new TreeError(`loadParameters: ${count}, nothing was loaded:\n  ${problems.join("\n  ")}`);
  }
  return mapParameters(module, (parameter, key) => cast(weights.get(key)!, parameter.dtype));
}

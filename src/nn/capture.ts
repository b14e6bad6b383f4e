/**
 * Hooks: read and edit the outputs of a network's modules by key, and use networks that are not trained (frozen).
 * Nothing is registered or changed: hooks are part of a copy, so they work inside `jit` and `grad` and end with the
 * function that used them.
 */
import { TreeError } from "../errors.ts";
import { checkpoint, type Tensor, treeMap } from "../tensor/index.ts";
import { type Module, mapModules, modules } from "./module.ts";

/** A callback on a module's output and arguments; the caller sees what it returns. */
// biome-ignore lint/suspicious/noExplicitAny: results and arguments are as various as modules
export type Hook = (output: any, args: readonly any[], key: string) => unknown;

type Callable = Module & { call(...args: unknown[]): unknown };

/** A copy whose `call` passes its result through the hook. It stays an instance of its class, with the same fields. */
function hooked(module: Callable, key: string, hook: Hook): Module {
  const methods = Object.create(Object.getPrototypeOf(module), {
    call: {
      value(this: Callable, ...args: unknown[]): unknown {
        return hook(module.call.apply(this, args), args, key);
      },
    },
  });
  return Object.assign(Object.create(methods), module);
}

function checkKeys(module: object, keys: readonly string[]): void {
  const found = modules(module);
  for (const key of keys) {
    const target = found.get(key);
    const near = [...found.keys()].filter((k) => k).slice(0, 12);
    if (!target) throw new TreeError(`there is no module "${key}"; there are ${near.join(", ")} …`);
    if (typeof (target as Partial<Callable>).call !== "function")
      throw new TreeError(`module "${key}" (${target.constructor.name}) has no method call to hook`);
  }
}

/**
 * The same module with hooks on some of its modules, by checkpoint key such as `mid_block` ("" is the module itself).
 * Hook inside the function that is compiled: hooked copies are of different structures to `jit`, which would compile
 * each anew. Throws `TreeError` for keys that are not there.
 */
export function withHooks<T extends object>(module: T, hooks: Readonly<Record<string, Hook>>): T {
  checkKeys(module, Object.keys(hooks));
  const visit = <U>(root: U, prefix: string, rootDone: boolean): U =>
    mapModules(root, (child, at) => {
      if (rootDone && at === "") return child;
      const key = prefix && at ? `${prefix}.${at}` : prefix || at;
      const hook = hooks[key];
      return hook ? hooked(visit(child, key, true) as Callable, key, hook) : child;
    });
  return visit(module, "", false);
}

/**
 * Runs `f` on the module and gives, beside its result, what the modules of the given keys gave: the features of any
 * layer, such as h-space (`mid_block`; Kwon et al. 2023). Pure, so it can be compiled and differentiated as a whole.
 * Throws `TreeError` when a module of the list is not there, is not called, or is called more than once.
 */
export function captureFeatures<T extends object, R, F = Tensor>(
  module: T,
  keys: readonly string[],
  f: (module: T) => R,
): [result: R, features: Record<string, F>] {
  const features: Record<string, F> = {};
  const keep: Hook = (output, _, key) => {
    if (key in features)
      throw new TreeError(
        `captureFeatures: "${key}" is called more than once; use withHooks to see each call`,
      );
    features[key] = output;
    return output;
  };
  const result = f(withHooks(module, Object.fromEntries(keys.map((key) => [key, keep]))));
  const missing = keys.filter((key) => !(key in features));
  if (missing.length > 0) throw new TreeError(`captureFeatures: not called: ${missing.join(", ")}`);
  return [result, features];
}

/**
 * The same module whose parts of the given keys keep none of their intermediate values for the backward pass and compute them
 * again there: less memory, about a third more time. Choose parts that do not lie within each other. Throws `TreeError` for
 * keys that are not there.
 */
export function recomputing<T extends object>(module: T, keys: readonly string[]): T {
  checkKeys(module, keys);
  const wanted = new Set(keys);
  return mapModules(module, (child, key) => {
    if (!wanted.has(key)) return child;
    const part = child as Callable;
    const methods = Object.create(Object.getPrototypeOf(part), {
      call: {
        value: (...args: unknown[]) => checkpoint((...given: unknown[]) => part.call(...given))(...args),
      },
    });
    return Object.assign(Object.create(methods), part);
  });
}

/**
 * The same tree with no gradient into it; gradients still pass through computations with it to their other inputs. Pass
 * a frozen network to a compiled step as part of the batch, or as an argument of its own: then it is neither in the
 * trainable state nor embedded in the graph.
 */
export const frozen = <T>(tree: T): T => treeMap((leaf) => leaf.stopGradient(), tree);

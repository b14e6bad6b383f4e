/** What an optimiser is: two pure functions over trees, traced into the training step like everything else. */
import { ArgumentError } from "../../errors.ts";
import {
  assertSamePaths,
  asTensor,
  concat,
  type Tensor,
  treeEntries,
  treeLeaves,
  treeMap,
  zerosLike,
} from "../../tensor/index.ts";
import { needLeaves } from "../../tensor/tree.ts";
import { fixedPaths, type KeyedLeaf, keyedEntries } from "../module.ts";

/** Learning rate: a number, or a function of the step number (a float scalar, 0 at the first update). */
export type LearningRate = number | ((step: Tensor) => Tensor);

/** Settings for the parameters that match, by checkpoint key; the first matching group counts. */
export interface ParameterGroup {
  /** `key` is that of `parameters()`, such as `down_blocks.0.conv.weight`. A group that matches nothing is an error. */
  readonly match: (key: string, parameter: Tensor) => boolean;
  /** Multiplies the learning rate. 0 freezes. Default 1. */
  readonly rateScale?: number;
  /** Replaces the optimiser's weight decay. */
  readonly weightDecay?: number;
}

/** Per-parameter memory of an optimiser, and the number of updates made. */
export interface OptimizerState {
  /** Updates made so far, f32 scalar (exact up to 2^24). */
  readonly step: Tensor;
  /** One tree like the parameters per slot. */
  readonly slots: Readonly<Record<string, unknown>>;
}

/** An update of parameters by their gradients, and its state: pure functions on trees. */
export interface Optimizer {
  readonly name: string;
  /** State before the first update. */
  init(parameters: unknown): OptimizerState;
  /** New parameters and state from gradients of the same structure. */
  update<P>(parameters: P, gradients: P, state: OptimizerState): { parameters: P; state: OptimizerState };
}

/** One parameter's update: its new value and its new slots. */
export interface UpdateRule {
  readonly name: string;
  readonly slots: readonly string[];
  /** The rule looks at a parameter as a whole (its norm), so parameters are never updated together. */
  readonly whole?: boolean;
  /** The new value of a parameter, and its new state. */
  update(
    p: Tensor,
    g: Tensor,
    slots: Readonly<Record<string, Tensor>>,
    context: { readonly step: Tensor; readonly rate: Tensor; readonly weightDecay: number },
  ): { p: Tensor; slots: Readonly<Record<string, Tensor>> };
}

/** Options of `makeOptimizer`. */
export interface OptimizerOptions {
  readonly learningRate: LearningRate;
  readonly weightDecay?: number;
  readonly groups?: readonly ParameterGroup[];
}

/** Float leaves are trained; integer leaves (indices, counters) and what a module declares as fixed pass through. */
export const trainedPaths = (tree: unknown): ReadonlySet<string> =>
  new Set(trainedEntries(tree).map(({ path }) => path));

/** The trained leaves with their names. */
export function trainedEntries(tree: unknown): KeyedLeaf[] {
  const fixed = fixedPaths(tree);
  return keyedEntries(tree).filter(({ path, leaf }) => leaf.dtype.startsWith("f") && !fixed.has(path));
}

/** @throws ArgumentError when a predicate of parameters holds for none of them: a misspelt key, most often */
export function needMatch(
  leaves: readonly KeyedLeaf[],
  match: (key: string, parameter: Tensor) => boolean,
  what: string,
): void {
  if (leaves.some(({ key, leaf }) => match(key, leaf))) return;
  const some = leaves.slice(0, 5).map(({ key }) => key);
  throw new ArgumentError(
    `${what} matches none of the ${leaves.length} parameters that are trained; their keys are ${some.join(", ")}${leaves.length > some.length ? ", …" : ""}`,
  );
}

/**
 * Leaves up to this size are updated together: for a bias of 64 numbers the overhead of a dozen operations dominates.
 */
const SMALL = 8192;

/** Leaves that are updated together, under the same settings. */
interface Bundle {
  readonly paths: string[];
  readonly rateScale: number;
  readonly weightDecay: number;
}

/** Sorts trained leaves into bundles: one for each large leaf, one for all small leaves of equal settings. */
function bundle(
  leaves: readonly KeyedLeaf[],
  groups: readonly ParameterGroup[],
  decay: number,
  whole: boolean,
): Bundle[] {
  const bundles = new Map<string, Bundle>();
  for (const { key: name, path, leaf: p } of leaves) {
    const group = groups.find((candidate) => candidate.match(name, p));
    const [rateScale, weightDecay] = [group?.rateScale ?? 1, group?.weightDecay ?? decay];
    if (rateScale === 0) continue;
    const key = p.size <= SMALL && !whole ? `${p.dtype} ${rateScale} ${weightDecay}` : path;
    const found = bundles.get(key);
    if (found) found.paths.push(path);
    else bundles.set(key, { paths: [path], rateScale, weightDecay });
  }
  return [...bundles.values()];
}

/** Tensors end to end as one vector; a single one stays as it is. */
export function packed(tensors: readonly Tensor[]): Tensor {
  const [first, ...rest] = tensors;
  return rest.length === 0
    ? first!
    : concat(
        first!.reshape([-1]),
        rest.map((t) => t.reshape([-1])),
        0,
      );
}

/** The inverse of `packed`: pieces with the shapes of the given tensors. */
function unpacked(vector: Tensor, like: readonly Tensor[]): Tensor[] {
  if (like.length === 1) return [vector];
  return vector
    .split(
      like.map((t) => t.size),
      0,
    )
    .map((piece, i) => piece.reshape(like[i]!.shape));
}

/** @throws ArgumentError unless there is something to train */
const needTree = (parameters: unknown, name: string): void =>
  needLeaves(parameters, treeLeaves(parameters), `${name}: the parameters`);

/** An optimiser from a rule for one parameter. */
export function makeOptimizer(rule: UpdateRule, options: OptimizerOptions): Optimizer {
  const { learningRate, weightDecay = 0, groups = [] } = options;
  const isRate = typeof learningRate === "number" && learningRate >= 0 && Number.isFinite(learningRate);
  if (!isRate && typeof learningRate !== "function") {
    throw new ArgumentError(
      `${rule.name}: the learning rate must be a number that is finite and not negative, or a function of the step, got ${learningRate}`,
    );
  }
  return {
    name: rule.name,
    init: (parameters) => {
      needTree(parameters, rule.name);
      const leaves = trainedEntries(parameters);
      for (const [i, { match }] of groups.entries()) needMatch(leaves, match, `${rule.name}: groups[${i}]`);
      return {
        step: asTensor(0, "f32"),
        slots: Object.fromEntries(rule.slots.map((slot) => [slot, treeMap(zerosLike, parameters)])),
      };
    },
    update(parameters, gradients, state) {
      needTree(parameters, rule.name);
      const step = state.step.add(1);
      const rate =
        typeof learningRate === "number" ? asTensor(learningRate, "f32") : learningRate(state.step);
      const before = new Map(treeEntries(parameters));
      const slopes = new Map(treeEntries(gradients));
      assertSamePaths([...before.keys()], [...slopes.keys()]);
      const slots = new Map(rule.slots.map((slot) => [slot, new Map(treeEntries(state.slots[slot]))]));
      const after = new Map(before);
      for (const { paths, rateScale, weightDecay: decay } of bundle(
        trainedEntries(parameters),
        groups,
        weightDecay,
        rule.whole ?? false,
      )) {
        const pick = (values: ReadonlyMap<string, Tensor>): Tensor[] =>
          paths.map((path) => values.get(path)!);
        const memory = Object.fromEntries([...slots].map(([slot, values]) => [slot, packed(pick(values))]));
        const scaled = rateScale === 1 ? rate : rate.mul(rateScale);
        const like = pick(before);
        const result = rule.update(packed(like), packed(pick(slopes)), memory, {
          step,
          rate: scaled,
          weightDecay: decay,
        });
        const put = (values: Map<string, Tensor>, vector: Tensor): void => {
          for (const [i, piece] of unpacked(vector, like).entries()) values.set(paths[i]!, piece);
        };
        put(after, result.p);
        for (const [slot, values] of slots) put(values, result.slots[slot]!);
      }
      const rebuild = <T>(tree: T, values: ReadonlyMap<string, Tensor>): T =>
        treeMap((_, path) => values.get(path)!, tree);
      const nextSlots = rule.slots.map((slot) => [slot, rebuild(state.slots[slot], slots.get(slot)!)]);
      return {
        parameters: rebuild(parameters, after),
        state: { step, slots: Object.fromEntries(nextSlots) },
      };
    },
  };
}

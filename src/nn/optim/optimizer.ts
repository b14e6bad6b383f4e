/** What an optimiser is: two pure functions over trees, traced into the training step like everything else. */
import { ArgumentError } from "../../errors.ts";
import { asTensor, type Tensor, treeEntries, treeMap, zerosLike } from "../../tensor/index.ts";

/** Learning rate: a number, or a function of the step number (a float scalar, 0 at the first update). */
export type LearningRate = number | ((step: Tensor) => Tensor);

/** Settings for the parameters whose path matches; the first matching group counts. */
export interface ParameterGroup {
  readonly match: (path: string, parameter: Tensor) => boolean;
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
  update(
    p: Tensor,
    g: Tensor,
    slots: Readonly<Record<string, Tensor>>,
    context: { readonly step: Tensor; readonly rate: Tensor; readonly weightDecay: number },
  ): { p: Tensor; slots: Readonly<Record<string, Tensor>> };
}

export interface OptimizerOptions {
  readonly learningRate: LearningRate;
  readonly weightDecay?: number;
  readonly groups?: readonly ParameterGroup[];
}

/** Float leaves are trained; integer leaves (indices, counters) pass through. */
const trained = (t: Tensor): boolean => t.dtype.startsWith("f");

/** An optimiser from a rule for one parameter. */
export function makeOptimizer(rule: UpdateRule, options: OptimizerOptions): Optimizer {
  const { learningRate, weightDecay = 0, groups = [] } = options;
  if (typeof learningRate === "number" && !(learningRate >= 0 && Number.isFinite(learningRate))) {
    throw new ArgumentError(
      `${rule.name}: the learning rate must be finite and not negative, got ${learningRate}`,
    );
  }
  return {
    name: rule.name,
    init: (parameters) => ({
      step: asTensor(0, "f32"),
      slots: Object.fromEntries(rule.slots.map((slot) => [slot, treeMap(zerosLike, parameters)])),
    }),
    update(parameters, gradients, state) {
      const next = state.step.add(1);
      const rate =
        typeof learningRate === "number" ? asTensor(learningRate, "f32") : learningRate(state.step);
      const slotLeaves = rule.slots.map((slot) => new Map(treeEntries(state.slots[slot])));
      const written = rule.slots.map(() => new Map<string, Tensor>());
      const updated = treeMap(
        (p, path, g) => {
          const slots = Object.fromEntries(rule.slots.map((slot, i) => [slot, slotLeaves[i]!.get(path)!]));
          const group = groups.find((candidate) => candidate.match(path, p));
          const scale = group?.rateScale ?? 1;
          const frozen = !trained(p) || scale === 0;
          const scaled = scale === 1 ? rate : rate.mul(scale);
          const context = { step: next, rate: scaled, weightDecay: group?.weightDecay ?? weightDecay };
          const result = frozen ? { p, slots } : rule.update(p, g!, slots, context);
          rule.slots.forEach((slot, i) => {
            written[i]!.set(path, result.slots[slot]!);
          });
          return result.p;
        },
        parameters,
        gradients,
      );
      const slots = Object.fromEntries(
        rule.slots.map((slot, i) => [slot, treeMap((_, path) => written[i]!.get(path)!, state.slots[slot])]),
      );
      return { parameters: updated, state: { step: next, slots } };
    },
  };
}

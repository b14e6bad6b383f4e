/** One training step: losses, gradients, clipping, updates and the average as a single compiled run. */
import { ArgumentError } from "../errors.ts";
import { type JitOptions, jit, Tensor, treeEntries, valueAndGrad } from "../tensor/index.ts";
import { type BatchNorm, trackingStatistics } from "./layers/norm.ts";
import { fixedPaths, keyedEntries, mapModules, mapParameters } from "./module.ts";
import { type EmaDecay, updateEma } from "./optim/ema.ts";
import { accumulatedValueAndGrad, clipByGlobalNorm, globalNorm } from "./optim/gradients.ts";
import { needMatch, type Optimizer, type OptimizerState, trainedEntries } from "./optim/optimizer.ts";

/** Everything that a step changes. A tree: saved, resumed and donated as a whole. */
export interface TrainState<M> {
  readonly model: M;
  readonly optimizer: OptimizerState;
  /** Of the further updates, by name, when there are any. */
  readonly others?: Readonly<Record<string, OptimizerState>>;
  /** EMA of the parameters, if there is one. */
  readonly ema?: M;
}

/** A loss with further scalars that are worth a curve; no gradient flows through these. */
export interface LossParts {
  readonly loss: Tensor;
  readonly metrics?: Readonly<Record<string, Tensor>>;
}

/**
 * Scalar loss, traced once per batch shape. All randomness comes in through the batch. Batch norms that are called with the
 * statistics of the batch move their running statistics, once for each call.
 */
export type Loss<M, Batch> = (model: M, batch: Batch) => Tensor | LossParts;

/** The scalar to minimise. */
export const lossOf = (result: Tensor | LossParts): Tensor =>
  result instanceof Tensor ? result : result.loss;

/** What is trained by a loss, and how. */
export interface UpdateOptions<M, Batch> {
  readonly loss: Loss<M, Batch>;
  readonly optimizer: Optimizer;
  /** Largest global norm of the gradient. Default: no clipping. */
  readonly clipNorm?: number;
  /**
   * Parameters that stay as they are; nothing is computed or kept for them. `key` is that of `parameters()`, such as
   * `down_blocks.0.conv.weight`. A predicate that holds for nothing is an error.
   */
  readonly frozen?: (key: string, parameter: Tensor) => boolean;
}

/** A further update in the same step: another loss, another optimiser, another part of the model. */
export interface FurtherUpdate<M, Batch> extends UpdateOptions<M, Batch> {
  readonly name: string;
}

export interface StepOptions<M, Batch> extends UpdateOptions<M, Batch> {
  /**
   * Further updates of the step, such as the discriminator's after the generator's. Each sees what those before it have
   * changed; with `together` all start from the model before the step, and must train different parameters.
   */
  readonly further?: readonly FurtherUpdate<M, Batch>[];
  readonly together?: boolean;
  readonly ema?: EmaDecay;
  /** Slices of the batch whose gradients are averaged in one step. Default 1. */
  readonly accumulate?: number;
  /**
   * What every batch has in common, such as networks that are not trained: fields of `Batch` that `batch` leaves out. They
   * are neither saved nor sliced, and not part of the graph.
   */
  readonly constants?: Partial<Batch>;
  readonly jit?: Omit<JitOptions, "donate">;
}

type Frozen = UpdateOptions<unknown, unknown>["frozen"];

/** The trainable part: the model itself, or, when some leaves are frozen, a record of the others by key. */
function trainedPart<M>(model: M, frozen: Frozen): M | Record<string, Tensor> {
  if (!frozen) return model;
  const kept = trainedEntries(model).filter(({ key, leaf }) => !frozen(key, leaf));
  if (kept.length === 0) throw new ArgumentError("train: all parameters are frozen");
  return Object.fromEntries(kept.map(({ key, leaf }) => [key, leaf]));
}

/** The model with other values for some leaves, by key. */
const withLeaves = <M>(model: M, leaves: Readonly<Record<string, Tensor>>): M =>
  mapParameters(model as M & object, (t, key) => leaves[key] ?? t);

/** The model with another trained part. */
const withPart = <M>(model: M, part: M | Record<string, Tensor>, frozen: Frozen): M =>
  frozen ? withLeaves(model, part as Record<string, Tensor>) : (part as M);

/** What no update trains. */
const frozenByAll = <M, B>({
  frozen,
  further = [],
}: Pick<StepOptions<M, B>, "frozen" | "further">): Frozen =>
  frozen && further.every((update) => update.frozen)
    ? (key, t) => frozen(key, t) && further.every((update) => update.frozen!(key, t))
    : undefined;

/** Names of the metrics of a further update. */
export const lossName = (update: string): string => `${update} loss`;
/** Names of the gradient norms of a further update. */
export const normName = (update: string): string => `${update} gradient norm`;

/** Running statistics that batch norms have moved, by key. */
function movedLeaves<M>(model: M, moved: ReadonlyMap<BatchNorm, BatchNorm>): Record<string, Tensor> {
  if (moved.size === 0) return {};
  const after = new Map(treeEntries(mapModules(model, (m) => moved.get(m as BatchNorm) ?? m)));
  const fixed = fixedPaths(model);
  return Object.fromEntries(
    keyedEntries(model).flatMap(({ key, path, leaf }) =>
      fixed.has(path) && after.get(path) !== leaf ? [[key, after.get(path)!] as const] : [],
    ),
  );
}

/** The update of one loss: from `from`, into `model`. */
function updated<M, Batch>(
  { loss, optimizer, clipNorm, frozen }: UpdateOptions<M, Batch>,
  {
    from,
    model,
    moments,
    batch,
    constants,
    accumulate,
  }: {
    from: M;
    model: M;
    moments: OptimizerState;
    batch: Batch;
    constants: Partial<Batch> | undefined;
    accumulate: number;
  },
) {
  const part = trainedPart(from, frozen);
  const partLoss = (p: typeof part, b: Batch) => {
    const whole = withPart(from, p, frozen);
    const { result, moved } = trackingStatistics(() => loss(whole, constants ? { ...b, ...constants } : b));
    const metrics = result instanceof Tensor ? {} : (result.metrics ?? {});
    return [lossOf(result), { metrics, statistics: movedLeaves(whole, moved) }] as const;
  };
  const differentiate =
    accumulate > 1
      ? accumulatedValueAndGrad(partLoss, accumulate, { aux: true })
      : valueAndGrad(partLoss, { aux: true });
  const [[value, { metrics, statistics }], gradients] = differentiate(part, batch);
  const { clipped, norm } =
    clipNorm === undefined
      ? { clipped: gradients, norm: globalNorm(gradients) }
      : clipByGlobalNorm(gradients, clipNorm);
  const { parameters, state } = optimizer.update(part, clipped, moments);
  const next = withLeaves(withPart(model, parameters, frozen), statistics);
  return { model: next, moments: state, loss: value, norm, metrics };
}

/** @throws ArgumentError when updates that start together train the same parameters, or have one name */
function checkUpdates<M, Batch>(model: M, { further = [], together, frozen }: StepOptions<M, Batch>): void {
  const names = further.map(({ name }) => name);
  if (new Set(names).size < names.length)
    throw new ArgumentError(`train: updates need names of their own, got ${names.join(", ")}`);
  if (!together) return;
  const seen = new Set<string>();
  for (const update of [{ frozen }, ...further]) {
    for (const { key, leaf } of trainedEntries(model)) {
      if (update.frozen?.(key, leaf)) continue;
      if (seen.has(key)) throw new ArgumentError(`train: two updates that start together train ${key}`);
      seen.add(key);
    }
  }
}

/** The compiled step: a state and a batch give the next state, the first loss and its gradient's norm, and metrics. */
export function makeTrainStep<M, Batch>(options: StepOptions<M, Batch>) {
  const { further = [], together = false, ema, accumulate = 1 } = options;
  return jit(
    (state: TrainState<M>, batch: Batch, constants?: Partial<Batch>) => {
      checkUpdates(state.model, options);
      const shared = { batch, constants, accumulate };
      const first = updated(options, {
        from: state.model,
        model: state.model,
        moments: state.optimizer,
        ...shared,
      });
      let { model } = first;
      const metrics: Record<string, Tensor> = { ...first.metrics };
      const others: Record<string, OptimizerState> = {};
      for (const update of further) {
        const { name } = update;
        const from = together ? state.model : model;
        const next = updated(update, { from, model, moments: state.others![name]!, ...shared });
        Object.assign(metrics, next.metrics, { [lossName(name)]: next.loss, [normName(name)]: next.norm });
        model = next.model;
        others[name] = next.moments;
      }
      const frozen = frozenByAll(options);
      const averaged = (average: M, decay: EmaDecay): M =>
        withPart(
          model,
          updateEma(trainedPart(average, frozen), trainedPart(model, frozen), decay(state.optimizer.step)),
          frozen,
        );
      const average = ema && state.ema ? averaged(state.ema, ema) : undefined;
      const next: TrainState<M> = {
        model,
        optimizer: first.moments,
        ...(further.length > 0 && { others }),
        ...(average && { ema: average }),
      };
      return { state: next, loss: first.loss, norm: first.norm, metrics };
    },
    { ...options.jit, donate: [0] },
  );
}

/** @throws ArgumentError when one tensor is two parameters, which would be two different ones after the first step */
function refuseTied(part: unknown): void {
  const seen = new Map<string, string>();
  for (const { key, leaf } of trainedEntries(part)) {
    const name = `${leaf.node.id}:${leaf.output}`;
    const before = seen.get(name);
    if (before !== undefined)
      throw new ArgumentError(
        `train: "${before}" and "${key}" are the same tensor, and would be two after the first step; keep it in one field, and read it from there (a getter) in the other place`,
      );
    seen.set(name, key);
  }
}

/** The trainable part, when everything about it makes sense. */
function checkedPart<M>(model: M, frozen: Frozen): M | Record<string, Tensor> {
  if (frozen) needMatch(trainedEntries(model), frozen, "train: frozen");
  const part = trainedPart(model, frozen);
  refuseTied(part);
  return part;
}

/** State before the first step of one update, of the same `ema` and `frozen` as the step. */
export function initialState<M>(
  model: M,
  optimizer: Optimizer,
  ema?: EmaDecay,
  frozen?: Frozen,
): TrainState<M> {
  return { model, optimizer: optimizer.init(checkedPart(model, frozen)), ...(ema && { ema: model }) };
}

/** State before the first step of all updates. */
export function firstState<M, Batch>(
  model: M,
  { optimizer, ema, frozen, further = [] }: StepOptions<M, Batch>,
): TrainState<M> {
  const { ema: average, ...state } = initialState(model, optimizer, ema, frozen);
  const others = Object.fromEntries(
    further.map((update) => [update.name, update.optimizer.init(checkedPart(model, update.frozen))]),
  );
  return { ...state, ...(further.length > 0 && { others }), ...(average && { ema: average }) };
}

/**
 * The trainer: an async generator of events. Progress bars, plots and samples belong to whoever iterates; the loop
 * itself knows only the compiled step, the run directory and when to stop.
 */
import { AbortError, ArgumentError, NonFiniteError, ShapeError, TreeError } from "../errors.ts";
import type { RunDirectory } from "../io/run-directory.ts";
import { isRawTensor } from "../io/safetensors.ts";
import {
  assertSamePaths,
  evaluate,
  firstNonFinite,
  flatten,
  fromHost,
  type JitOptions,
  jit,
  type Tensor,
  treeEntries,
  treeMap,
  valueAndGrad,
} from "../tensor/index.ts";
import { type EmaDecay, updateEma } from "./optim/ema.ts";
import { accumulatedValueAndGrad, clipByGlobalNorm, globalNorm } from "./optim/gradients.ts";
import { type Optimizer, type OptimizerState, trainedPaths } from "./optim/optimizer.ts";

/** Everything that a step changes. A tree: saved, resumed and donated as a whole. */
export interface TrainState<M> {
  readonly model: M;
  readonly optimizer: OptimizerState;
  /** EMA of the parameters, if there is one. */
  readonly ema?: M;
}

export interface TrainOptions<M, Batch> {
  readonly model: M;
  readonly optimizer: Optimizer;
  /** Scalar loss, traced once per batch shape. All randomness comes in through the batch. */
  readonly loss: (model: M, batch: Batch) => Tensor;
  /**
   * The batch of a step: a pure function of the step number (seed your noise and your shuffle with it). That is why a
   * resumed run sees exactly the data and the noise that an uninterrupted one does.
   */
  readonly batch: (step: number) => Batch | Promise<Batch>;
  /** Total number of steps, those before a resume included. */
  readonly steps: number;
  /** Largest global norm of the gradient. Default: no clipping. */
  readonly clipNorm?: number;
  readonly ema?: EmaDecay;
  /** Parameters that stay as they are; nothing is computed or kept for them. `path` is the property path. */
  readonly frozen?: (path: string, parameter: Tensor) => boolean;
  /** Slices of the batch whose gradients are averaged in one step. Default 1. */
  readonly accumulate?: number;
  /** Where to keep checkpoints; without it nothing is written. An existing run is resumed. */
  readonly directory?: string;
  /** Steps between checkpoints. Default 500. The last step is always saved. */
  readonly saveEvery?: number;
  /** Checkpoints kept. Default 2. */
  readonly keep?: number;
  /** Called every `validateEvery` steps and after the last one; its numbers come back in an event. */
  readonly validate?: (state: TrainState<M>, step: number) => Promise<Record<string, number>>;
  readonly validateEvery?: number;
  /** Written into every checkpoint; a resumed run must give the same. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Stops after the current step; the state is saved first. */
  readonly signal?: AbortSignal;
  readonly jit?: Omit<JitOptions, "donate">;
}

export type TrainEvent<M> =
  | { readonly type: "resumed"; readonly step: number; readonly skipped: readonly string[] }
  | {
      readonly type: "step";
      /** Steps done, this one included. */
      readonly step: number;
      readonly loss: number;
      /** Norm of the gradient before clipping. */
      readonly gradientNorm: number;
      readonly stepsPerSecond: number;
      readonly secondsLeft: number;
      /** Resident memory of the process, in bytes; undefined in browsers. */
      readonly memoryBytes: number | undefined;
    }
  | { readonly type: "validated"; readonly step: number; readonly metrics: Readonly<Record<string, number>> }
  | { readonly type: "saved"; readonly step: number; readonly directory: string }
  | { readonly type: "done"; readonly step: number; readonly state: TrainState<M> };

/** Copies the leaves, so that donating the state leaves the caller's model alone. */
async function ownCopy<T>(tree: T): Promise<T> {
  await evaluate(flatten(tree).leaves);
  const copies = new Map<Tensor, Tensor>();
  for (const t of flatten(tree).leaves) copies.set(t, fromHost(t.dtype, t.shape, (await t.data()).slice()));
  return treeMap((t) => copies.get(t)!, tree);
}

type Frozen = TrainOptions<unknown, unknown>["frozen"];

/** The trainable part: the model itself, or, when some leaves are frozen, a record of the others by path. */
function trainedPart<M>(model: M, frozen: Frozen): M | Record<string, Tensor> {
  if (!frozen) return model;
  const trained = trainedPaths(model);
  const kept = treeEntries(model).filter(([path, t]) => trained.has(path) && !frozen(path, t));
  if (kept.length === 0) throw new ArgumentError("train: all parameters are frozen");
  return Object.fromEntries(kept);
}

/** The model with another trained part. */
function withPart<M>(model: M, part: M | Record<string, Tensor>, frozen: Frozen): M {
  return frozen ? treeMap((t, path) => (part as Record<string, Tensor>)[path] ?? t, model) : (part as M);
}

/** One compiled step: loss, gradient, clipping, update, average, as a single run. */
export function makeTrainStep<M, Batch>(
  options: Pick<
    TrainOptions<M, Batch>,
    "loss" | "optimizer" | "clipNorm" | "ema" | "frozen" | "accumulate" | "jit"
  >,
) {
  const { loss, optimizer, clipNorm, ema, frozen, accumulate = 1 } = options;
  return jit(
    (state: TrainState<M>, batch: Batch) => {
      const part = trainedPart(state.model, frozen);
      const partLoss = (p: typeof part, b: Batch): Tensor => loss(withPart(state.model, p, frozen), b);
      const differentiate =
        accumulate > 1 ? accumulatedValueAndGrad(partLoss, accumulate) : valueAndGrad(partLoss);
      const [value, gradients] = differentiate(part, batch);
      const { clipped, norm } =
        clipNorm === undefined
          ? { clipped: gradients, norm: globalNorm(gradients) }
          : clipByGlobalNorm(gradients, clipNorm);
      const { parameters, state: moments } = optimizer.update(part, clipped, state.optimizer);
      const model = withPart(state.model, parameters, frozen);
      const averaged = (average: M, decay: EmaDecay): M =>
        withPart(
          model,
          updateEma(trainedPart(average, frozen), parameters, decay(state.optimizer.step)),
          frozen,
        );
      const average = ema && state.ema ? averaged(state.ema, ema) : undefined;
      const next: TrainState<M> = { model, optimizer: moments, ...(average && { ema: average }) };
      return { state: next, loss: value as Tensor, norm };
    },
    { ...options.jit, donate: [0] },
  );
}

/** State before the first step, of the same `ema` and `frozen` as the step. */
export function initialState<M>(
  model: M,
  optimizer: Optimizer,
  ema?: EmaDecay,
  frozen?: Frozen,
): TrainState<M> {
  return { model, optimizer: optimizer.init(trainedPart(model, frozen)), ...(ema && { ema: model }) };
}

/**
 * Trains. Yields an event per step and per checkpoint; ends with `done`. Resuming is bit-exact: the same as never
 * having stopped. Throws `NonFiniteError`, naming the step and the layer, when the loss or the gradient is not finite
 * (after saving the last good state), `AbortError` when the signal fires (after saving), and `ArgumentError` for
 * impossible settings.
 */
export async function* train<M, Batch>(
  options: TrainOptions<M, Batch>,
): AsyncGenerator<TrainEvent<M>, TrainState<M>> {
  const { steps, saveEvery = 500, keep = 2, validate, validateEvery = saveEvery, signal } = options;
  for (const [name, value] of Object.entries({ steps, saveEvery, keep, validateEvery })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(`train: ${name} must be a positive integer, got ${value}`);
  }
  const run = options.directory ? await openRun(options.directory, keep) : undefined;
  const step = makeTrainStep(options);
  try {
    let state = await ownCopy(initialState(options.model, options.optimizer, options.ema, options.frozen));
    let done = 0;
    const resumed = run && (await restore(run, state, options.settings));
    if (resumed) {
      ({ state, step: done } = resumed);
      yield { type: "resumed", step: done, skipped: resumed.skipped };
    }
    const startedAt = performance.now();
    const startedFrom = done;
    let savedAt = resumed ? done : -1;
    const save = async (): Promise<TrainEvent<M> | undefined> => {
      if (!run || savedAt === done) return undefined;
      const directory = await store(run, done, state, options.settings);
      savedAt = done;
      return { type: "saved", step: done, directory };
    };

    while (done < steps) {
      if (signal?.aborted) {
        const event = await save();
        if (event) yield event;
        throw new AbortError(`training stopped after step ${done}${run ? "; run again to resume" : ""}`);
      }
      const batch = await options.batch(done);
      checkBatch(batch, done);
      const result = await step(state, batch);
      const [loss, norm] = [await result.loss.item(), await result.norm.item()];
      if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
        const [good] = step.takeBack() ?? [];
        if (good) state = good as TrainState<M>;
        await save();
        throw new NonFiniteError(
          await describeFailure(options.loss, state.model, batch, done + 1, loss, norm),
        );
      }
      state = result.state;
      done++;
      const elapsed = (performance.now() - startedAt) / 1000;
      const stepsPerSecond = (done - startedFrom) / elapsed;
      const memoryBytes = typeof process === "object" ? process.memoryUsage?.rss?.() : undefined;
      yield {
        type: "step",
        step: done,
        loss,
        gradientNorm: norm,
        stepsPerSecond,
        secondsLeft: (steps - done) / stepsPerSecond,
        memoryBytes,
      };
      if (done % saveEvery === 0 || done === steps) {
        const event = await save();
        if (event) yield event;
      }
      if (validate && (done % validateEvery === 0 || done === steps)) {
        yield { type: "validated", step: done, metrics: await validate(state, done) };
      }
    }
    yield { type: "done", step: done, state };
    return state;
  } finally {
    await step.close();
    await run?.close();
  }
}

function checkBatch(batch: unknown, step: number): void {
  for (const [path, t] of treeEntries(batch)) {
    if (t.size === 0)
      throw new ShapeError(`train: the batch of step ${step} is empty: "${path}" has shape [${t.shape}]`);
  }
}

/** Where the computation went wrong, in words. */
async function describeFailure<M, Batch>(
  loss: (model: M, batch: Batch) => Tensor,
  model: M,
  batch: Batch,
  step: number,
  value: number,
  norm: number,
): Promise<string> {
  const head = `step ${step}: the loss is ${value} and the gradient norm is ${norm}`;
  const bad = await firstNonFinite({ batch, model }, loss(model, batch));
  if (bad?.operation === "input") return `${head}; ${bad.nearest} is not finite before the step`;
  if (bad)
    return `${head}; the first value that is not finite is the result of ${bad.operation} [${bad.shape}] at ${bad.nearest}`;
  const [, gradients] = valueAndGrad(loss)(model, batch);
  for (const [path, g] of treeEntries(gradients).toReversed()) {
    if (!(await g.toArray()).every(Number.isFinite))
      return `${head}; the loss is finite, the gradient of ${path} is not`;
  }
  return `${head}; each gradient is finite, their norm overflows`;
}

const STATE_FILE = "state.safetensors";

/** Loaded on demand, because files exist in Node only and training works in browsers too. */
async function openRun(directory: string, keep: number): Promise<RunDirectory> {
  const { openRunDirectory } = await import("../io/run-directory.ts");
  return openRunDirectory(directory, { keep });
}

async function store<M>(
  run: RunDirectory,
  step: number,
  state: TrainState<M>,
  settings: unknown,
): Promise<string> {
  await evaluate(flatten(state).leaves);
  const tensors: Record<
    string,
    { dtype: Tensor["dtype"]; shape: readonly number[]; data: Awaited<ReturnType<Tensor["data"]>> }
  > = {};
  for (const [path, t] of treeEntries(state))
    tensors[path] = { dtype: t.dtype, shape: t.shape, data: await t.data() };
  const metadata = { step: String(step), settings: JSON.stringify(settings ?? {}) };
  return await run.save(step, { [STATE_FILE]: { tensors, metadata } });
}

/** The newest valid checkpoint in place of the fresh state, or undefined when there is none. */
async function restore<M>(run: RunDirectory, fresh: TrainState<M>, settings: unknown) {
  const latest = await run.latest();
  if (!latest) return undefined;
  const { readSafetensors } = await import("../io/safetensors-file.ts");
  const file = await readSafetensors(`${latest.directory}/${STATE_FILE}`);
  const expected = JSON.stringify(settings ?? {});
  const saved = file.metadata.get("settings");
  if (saved !== expected) {
    throw new ArgumentError(
      `train: ${latest.directory} was made with settings ${saved}, this run has ${expected}`,
    );
  }
  const paths = treeEntries(fresh).map(([path]) => path);
  assertSamePaths([...paths].sort(), [...file.tensors.keys()].sort());
  const state = treeMap((t, path) => {
    const stored = file.tensors.get(path)!;
    if (isRawTensor(stored))
      throw new TreeError(`train: ${path} in ${latest.directory} is of type ${stored.dtype}`);
    const { dtype, shape, data } = stored;
    if (dtype !== t.dtype || shape.join() !== t.shape.join()) {
      throw new TreeError(
        `train: ${path} in ${latest.directory} is ${dtype}[${shape}], the model has ${t.dtype}[${t.shape}]`,
      );
    }
    return fromHost(t.dtype, t.shape, data);
  }, fresh);
  return { state, step: latest.step, skipped: latest.skipped.map((s) => `${s.directory}: ${s.reason}`) };
}

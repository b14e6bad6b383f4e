/**
 * The trainer: an async generator of events. Progress bars, plots and samples belong to whoever iterates; the loop
 * itself knows only the compiled step, the run directory and when to stop.
 */
import { AbortError, ArgumentError, NonFiniteError, ShapeError, TreeError } from "../errors.ts";
import type { RunDirectory } from "../io/run-directory.ts";
import { isRawTensor } from "../io/safetensors.ts";
import {
  adopt,
  assertSamePaths,
  evaluate,
  firstNonFinite,
  flatten,
  fromHost,
  peekHost,
  type Tensor,
  treeEntries,
  treeMap,
  valueAndGrad,
} from "../tensor/index.ts";
import { standsFor } from "../tensor/origin.ts";
import { keyedEntries } from "./module.ts";
import type * as RunFiles from "./run-files.node.ts";
import { checkStatics, staticFields } from "./static-fields.ts";
import {
  firstState,
  type Loss,
  lossName,
  lossOf,
  makeTrainStep,
  normName,
  type StepOptions,
  type TrainState,
} from "./train-step.ts";

export interface TrainOptions<M, Batch, Raw = Batch> extends StepOptions<M, Batch> {
  readonly model: M;
  /**
   * The batch of a step: a pure function of the step number (seed your noise and your shuffle with it). That is why a
   * resumed run sees exactly the data and the noise that an uninterrupted one does.
   */
  readonly batch: (step: number) => Raw | Promise<Raw>;
  /**
   * Work between the batch and the step that needs the state: samples of the current model, guesses of its average. A
   * pure function of its arguments, or a resumed run is another one; it keeps nothing of the state, whose memory the step
   * takes. Default: the batch as it is.
   */
  readonly prepare?: (state: TrainState<M>, batch: Raw, step: number) => Batch | Promise<Batch>;
  /** Total number of steps, those before a resume included. */
  readonly steps: number;
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
}

/** What a training says while it goes on. */
export type TrainEvent<M> =
  | { readonly type: "resumed"; readonly step: number; readonly skipped: readonly string[] }
  | {
      readonly type: "step";
      /** Steps done, this one included. */
      readonly step: number;
      readonly loss: number;
      /** Norm of the gradient before clipping. */
      readonly gradientNorm: number;
      /** What the losses report beside themselves; of further updates also "NAME loss" and "NAME gradient norm". */
      readonly metrics: Readonly<Record<string, number>>;
      readonly stepsPerSecond: number;
      readonly secondsLeft: number;
      /** Resident memory of the process, in bytes; undefined in browsers. */
      readonly memoryBytes: number | undefined;
    }
  | { readonly type: "validated"; readonly step: number; readonly metrics: Readonly<Record<string, number>> }
  | { readonly type: "saved"; readonly step: number; readonly directory: string }
  | { readonly type: "done"; readonly step: number; readonly state: TrainState<M> };

/**
 * Copies the leaves, so that donating the state leaves the caller's model alone. The copies stand for the caller's tensors: a
 * loss that uses those instead is found out.
 */
async function ownCopy<T>(tree: T): Promise<T> {
  await evaluate(flatten(tree).leaves);
  const copies = new Map<Tensor, Tensor>();
  for (const t of flatten(tree).leaves) {
    const copy = adopt(t.dtype, t.shape, peekHost(t).slice());
    standsFor(copy, t);
    copies.set(t, copy);
  }
  return treeMap((t) => copies.get(t)!, tree);
}

/**
 * Trains. Yields an event per step and per checkpoint; ends with `done`. Resuming is bit-exact: the same as never
 * having stopped. Throws `NonFiniteError`, naming the step and the layer, when the loss or the gradient is not finite
 * (after saving the last good state), `AbortError` when the signal fires (after saving), and `ArgumentError` for
 * impossible settings, for a first gradient of exactly 0, and for a checkpoint of another model or of other settings.
 *
 * @example
 * ```ts
 * const run = train({
 *   model: new Linear(2, 1, createRng(0)),
 *   optimizer: adamW({ learningRate: 0.01 }),
 *   steps: 1000,
 *   directory: "run", // checkpoints; started again, it goes on there
 *   batch: (step) => batchOf(step), // a pure function of the step
 *   loss: (net, batch: Batch) => net.call(batch.x).sub(batch.y).square().mean(),
 * });
 * for await (const event of run) {
 *   if (event.type === "step") console.log(event.step, event.loss);
 *   if (event.type === "done") await use(event.state.model);
 * }
 * ```
 */
export async function* train<M, Batch, Raw = Batch>(
  options: TrainOptions<M, Batch, Raw>,
): AsyncGenerator<TrainEvent<M>, TrainState<M>> {
  const { steps, saveEvery = 500, keep = 2, validate, validateEvery = saveEvery, signal } = options;
  for (const [name, value] of Object.entries({ steps, saveEvery, keep, validateEvery })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(`train: ${name} must be a positive integer, got ${value}`);
  }
  const run = options.directory ? await openRun(options.directory, keep) : undefined;
  const step = makeTrainStep(options);
  try {
    let state = await ownCopy(firstState(options.model, options));
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
      const raw = await options.batch(done);
      const batch = options.prepare ? await options.prepare(state, raw, done) : (raw as unknown as Batch);
      checkBatch(batch, done);
      const result = await (options.constants ? step(state, batch, options.constants) : step(state, batch));
      const [loss, norm] = [await result.loss.item(), await result.norm.item()];
      const metrics: Record<string, number> = {};
      for (const [name, value] of Object.entries(result.metrics)) metrics[name] = await value.item();
      const failed = failedUpdate(options, { loss, norm, metrics });
      if (failed) {
        const [good] = step.takeBack(result) ?? [];
        if (good) state = good as TrainState<M>;
        await save();
        const whole = { ...batch, ...options.constants };
        throw new NonFiniteError(await describeFailure(failed, state.model, whole, done + 1));
      }
      if (done === 0 && norm === 0) throw new ArgumentError(nothingToLearn(loss));
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
        metrics,
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

/** Why a gradient may be nothing but zeros. */
const nothingToLearn = (loss: number): string =>
  `train: the gradient of the first step is exactly 0 (the loss is ${loss}), so nothing would be trained. Does the loss use the model that it is given, and not one from outside? Is there a stopGradient, a rounding or a comparison between the parameters and the loss, or a factor of 0 in front of it?`;

function checkBatch(batch: unknown, step: number): void {
  for (const [path, t] of treeEntries(batch)) {
    if (t.size === 0)
      throw new ShapeError(`train: the batch of step ${step} is empty: "${path}" has shape [${t.shape}]`);
  }
}

interface Failure<M, Batch> {
  /** Begins the message; empty for the first update. */
  readonly name: string;
  readonly loss: Loss<M, Batch>;
  readonly value: number;
  readonly norm: number;
}

/** The first update whose loss or gradient is not finite. */
function failedUpdate<M, Batch>(
  { loss, further = [] }: StepOptions<M, Batch>,
  numbers: { loss: number; norm: number; metrics: Readonly<Record<string, number>> },
): Failure<M, Batch> | undefined {
  const all = [
    { name: "", loss, value: numbers.loss, norm: numbers.norm },
    ...further.map((update) => ({
      name: `${update.name}, `,
      loss: update.loss,
      value: numbers.metrics[lossName(update.name)]!,
      norm: numbers.metrics[normName(update.name)]!,
    })),
  ];
  return all.find(({ value, norm }) => !Number.isFinite(value) || !Number.isFinite(norm));
}

/** Where the computation went wrong, in words. */
async function describeFailure<M, Batch>(
  { name, loss, value, norm }: Failure<M, Batch>,
  model: M,
  batch: Batch,
  step: number,
): Promise<string> {
  const head = `${name}step ${step}: the loss is ${value} and the gradient norm is ${norm}`;
  const scalar = (m: M, b: Batch): Tensor => lossOf(loss(m, b));
  const bad = await firstNonFinite({ batch, model }, scalar(model, batch));
  if (bad?.operation === "input") return `${head}; ${bad.nearest} is not finite before the step`;
  if (bad)
    return `${head}; the first value that is not finite is the result of ${bad.operation} [${bad.shape}] at ${bad.nearest}`;
  const [, gradients] = valueAndGrad(scalar)(model, batch);
  for (const { key, leaf } of keyedEntries(gradients).toReversed()) {
    if (!(await leaf.toArray()).every(Number.isFinite))
      return `${head}; the loss is finite, the gradient of ${key} is not`;
  }
  return `${head}; each gradient is finite, their norm overflows`;
}

const STATE_FILE = "state.safetensors";

/** Loaded on demand, because files exist in Node only and training works in browsers too. */
const runFiles = async () => (await import("#run-files")) as typeof RunFiles;

const openRun = async (directory: string, keep: number): Promise<RunDirectory> =>
  (await runFiles()).openRunDirectory(directory, { keep });

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
    tensors[path] = { dtype: t.dtype, shape: t.shape, data: peekHost(t) }; // written before the next step
  const metadata = {
    step: String(step),
    settings: JSON.stringify(settings ?? {}),
    statics: JSON.stringify(staticFields(state.model)),
  };
  return await run.save(step, { [STATE_FILE]: { tensors, metadata } });
}

/** Which settings differ, and how: "steps 200, now 400". */
function differences(saved: string | undefined, expected: string): string {
  const [then, now] = [JSON.parse(saved ?? "{}"), JSON.parse(expected)] as Record<string, unknown>[];
  const text = (value: unknown): string => (value === undefined ? "none" : JSON.stringify(value));
  const names = [...new Set([...Object.keys(then!), ...Object.keys(now!)])];
  return names
    .filter((name) => text(then![name]) !== text(now![name]))
    .map((name) => `${name} ${text(then![name])}, now ${text(now![name])}`)
    .join("; ");
}

/** The newest valid checkpoint in place of the fresh state, or undefined when there is none. */
async function restore<M>(run: RunDirectory, fresh: TrainState<M>, settings: unknown) {
  const latest = await run.latest();
  if (!latest) return undefined;
  const { readSafetensors } = await runFiles();
  const file = await readSafetensors(`${latest.directory}/${STATE_FILE}`);
  const expected = JSON.stringify(settings ?? {});
  const saved = file.metadata.get("settings");
  const other = differences(saved, expected);
  if (other !== "")
    throw new ArgumentError(
      `train: ${latest.directory} was made with other settings (${other}). With those of then it ` +
        "goes on; other ones need another folder, where a training can begin from what this one has learned",
    );
  const statics = file.metadata.get("statics");
  if (statics !== undefined) checkStatics(JSON.parse(statics), staticFields(fresh.model), latest.directory);
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
    const kept = fromHost(t.dtype, t.shape, data);
    standsFor(kept, t);
    return kept;
  }, fresh);
  return { state, step: latest.step, skipped: latest.skipped.map((s) => `${s.directory}: ${s.reason}`) };
}

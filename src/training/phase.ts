/** A phase of training: the trainer with its history, its report, its curves and its settings in one place. */
import { mkdir } from "#node";
import { ArgumentError } from "../errors.ts";
import {
  adamW,
  cosineDecay,
  type LearningRate,
  type TrainEvent,
  type TrainOptions,
  type TrainState,
  train,
  warmup,
} from "../nn/index.ts";
import { type HistoryEntry, openHistory, readHistory, writeRunReport } from "../report/index.ts";
import type { Work, WorkEvent } from "../work.ts";

/** How long and how fast a phase trains. Systems add what else decides it (seed, crop, lambda …) to the same record. */
export interface PhaseSettings {
  readonly steps: number;
  /** Batch size. */
  readonly batch: number;
  /** At its peak. */
  readonly learningRate: number;
  /** Steps of linear rise at the beginning. */
  readonly warmup: number;
  /** `cosine`: down to `lastRate` at the last step. */
  readonly schedule: "constant" | "cosine";
  /** Learning rate at the end of a cosine. Default 0. */
  readonly lastRate?: number;
  /** Largest norm of the gradient; 0: no limit. */
  readonly clip: number;
}

/** The learning rate of a phase. */
export const rateOf = ({
  learningRate,
  warmup: rise,
  schedule,
  steps,
  lastRate,
}: PhaseSettings): LearningRate =>
  warmup(rise, schedule === "cosine" ? cosineDecay(learningRate, steps, lastRate) : learningRate);

type FromTrain<M, B, Raw> = Pick<
  TrainOptions<M, B, Raw>,
  | "model"
  | "loss"
  | "batch"
  | "prepare"
  | "frozen"
  | "ema"
  | "further"
  | "together"
  | "accumulate"
  | "constants"
  | "validate"
  | "signal"
>;

/** What the training of a system is told of the run, beside its model, data and settings. */
export interface TrainingRun<M> extends Pick<Phase<M, never>, "stage" | "folder" | "saveEvery"> {
  /** Steps between looks and measurements on what was held out. */
  readonly lookEvery?: number | undefined;
  /** Shows the model to keep. */
  readonly look?: ((model: M) => Work<void>) | undefined;
  /** Threads of the compiled step. Default: as `sessionThreads` says. */
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A phase of a training: a model, its loss, its batches and settings. */
export interface Phase<M, B, Raw = B> extends FromTrain<M, B, Raw> {
  /** What it is called in bars, curves and the report. */
  readonly stage: string;
  /** Everything that decides the phase, plain data: a run that goes on must have the same. */
  readonly settings: PhaseSettings;
  /** Default: AdamW at the phase's learning rate without weight decay. */
  readonly optimizer?: TrainOptions<M, B>["optimizer"];
  /** Keeps checkpoints, `history.jsonl` and `report.html`; an interrupted phase goes on there, bit for bit. */
  readonly folder?: string | undefined;
  /** Steps between checkpoints. Default 500. */
  readonly saveEvery?: number | undefined;
  /**
   * Shows how far the training is, after each validation: previews, figures, samples in the folder. It keeps nothing of
   * the state, whose memory the next step takes.
   */
  readonly look?: ((state: TrainState<M>, step: number) => Work<void>) | undefined;
  /** Steps between validations (and looks). Default: those between checkpoints. */
  readonly validateEvery?: number | undefined;
  /** Threads of the compiled step. Default: as `sessionThreads` says. */
  readonly threads?: number | undefined;
}

/** What came of a phase. */
export interface PhaseResult<M> {
  readonly model: M;
  readonly ema: M | undefined;
  /** The model to keep: the average, where there is one. */
  readonly final: M;
}

/** Steps between two points of the curves. */
const POINT_EVERY = 20;

/** Settings as JSON keeps them: seeds may be bigints. */
const plain = (settings: object): Readonly<Record<string, unknown>> =>
  JSON.parse(JSON.stringify(settings, (_, value) => (typeof value === "bigint" ? `${value}n` : value)));

type StepEvent<M> = Extract<TrainEvent<M>, { type: "step" }>;

function progressOf<M>(stage: string, total: number, event: StepEvent<M>): WorkEvent {
  const { step, loss, stepsPerSecond, secondsLeft } = event;
  const note = `loss ${loss.toPrecision(4)}  ${stepsPerSecond.toFixed(1)} steps/s`;
  return { type: "progress", stage, done: step, total, note, secondsLeft };
}

const finite = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => Number.isFinite(value)));

const pointOf = (stage: string, { step, ...values }: HistoryEntry): WorkEvent => ({
  type: "metrics",
  stage,
  step,
  values: finite(values as Record<string, number>), // null is not finite
});

/**
 * Trains a phase to its end. Tells progress after every step and a point of each curve (the loss, the gradient's norm, what
 * the losses report, what was validated) every 20 steps; with a folder they are kept, and told again when it goes on.
 *
 * @throws what `train` throws: AbortError after saving, NonFiniteError, ArgumentError for other settings than before
 */
export async function* runPhase<M, B, Raw = B>(phase: Phase<M, B, Raw>): Work<PhaseResult<M>> {
  const { stage, settings, folder, saveEvery = 500, validateEvery = saveEvery, threads } = phase;
  const { steps, clip } = settings;
  if (!(clip >= 0)) throw new ArgumentError(`${stage}: clip must be 0 (no limit) or positive, got ${clip}`);
  if (folder !== undefined) await mkdir(folder, { recursive: true });
  let history: Awaited<ReturnType<typeof openHistory>> | undefined;
  let [final, seen]: (TrainState<M> | undefined)[] = [];
  const kept = plain(settings);
  for await (const event of train<M, B, Raw>({
    ...phase,
    optimizer: phase.optimizer ?? adamW({ learningRate: rateOf(settings), weightDecay: 0 }),
    steps,
    settings: kept,
    saveEvery,
    validateEvery,
    ...((phase.validate || phase.look) && {
      validate: async (state, step) => {
        seen = state;
        return (await phase.validate?.(state, step)) ?? {};
      },
    }),
    ...(clip > 0 && { clipNorm: clip }),
    ...(folder !== undefined && { directory: folder }),
    ...(threads !== undefined && { jit: { threads } }),
  })) {
    if (folder !== undefined && !history) {
      history = await openHistory(folder, event.type === "resumed" ? event.step : 0);
      for (const entry of await readHistory(folder)) yield pointOf(stage, entry);
    }
    if (event.type === "resumed") {
      yield { type: "message", text: `${stage}: goes on after step ${event.step}` };
      for (const text of event.skipped) yield { type: "warning", text: `${stage}: passed over ${text}` };
    } else if (event.type === "step") {
      yield progressOf(stage, steps, event);
      if (event.step % POINT_EVERY !== 0 && event.step !== steps) continue;
      const entry = {
        step: event.step,
        loss: event.loss,
        gradient_norm: event.gradientNorm,
        ...finite(event.metrics),
      };
      await history?.append(entry);
      yield pointOf(stage, entry);
    } else if (event.type === "validated") {
      const entry = { step: event.step, ...finite(event.metrics) };
      if (Object.keys(entry).length > 1) {
        await history?.append(entry);
        yield pointOf(stage, entry);
      }
      if (phase.look) yield* phase.look(seen!, event.step);
    } else if (event.type === "done") final = event.state;
  }
  if (folder !== undefined) await writeRunReport(folder, { title: stage, settings: kept });
  const { model, ema } = final!; // `train` throws when it does not come to its end
  return { model, ema, final: ema ?? model };
}

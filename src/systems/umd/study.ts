/** `tweedie reproduce umd`: the claim in miniature, or the strip of ablations. */
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Labelled, LabelledPictures } from "../../data/index.ts";
import { shapes10 } from "../../data/world/shapes10.ts";
import { ArgumentError } from "../../errors.ts";
import { adamW, initialState, makeTrainStep } from "../../nn/index.ts";
import {
  inTurns,
  judged,
  numberText,
  openStudy,
  publish,
  type Study,
  summaryOf,
  type Times,
  tableOf,
} from "../../study/index.ts";
import { evaluate, flatten } from "../../tensor/index.ts";
import type { Table, Work } from "../../work.ts";
import { commandLine } from "../command-line.ts";
import { listed } from "../options.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { ABLATION, ABLATION_RULES, ablationChart, tokensText } from "./ablation.ts";
import { openPictures, SHAPES, umdBatches } from "./data.ts";
import { type Batch, MIXTURES, type Mixture, mixedLoss } from "./method.ts";
import { initUMD, trainingFlops, type UMD } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { type Found, findingOf, foundIn, RULES, type Runs, tablesOf } from "./results.ts";
import {
  type Bounds,
  boundsOf,
  type Context,
  configOf,
  contextOf,
  type Equal,
  guidancesOf,
  judgesOf,
  type Run,
  runOf,
  VARIANTS,
  type Variant,
} from "./runs.ts";
import { labelled } from "./use.ts";

/** Raised when the same settings give other numbers than before. */
const VERSION = 1;

/** Training and test pictures: a folder's, or shapes10 of any number. */
async function halvesOf({ data: folder, train, test, size, colour }: ReproduceActionOptions) {
  if (folder === undefined) {
    const of = (count: number, { first }: { first: number }): Labelled =>
      labelled(shapes10({ seed: 1, count, size, first }));
    return { title: "shapes10", train: of(train, SHAPES.train), test: of(test, SHAPES.test) };
  }
  const open = (half: "train" | "test", limit: number) =>
    openPictures({ folder, half, size, channels: colour === "gray" ? 1 : 3, limit });
  const [a, b] = [await open("train", train), await open("test", test)];
  return { title: basename(a.title), train: labelled(a.pictures), test: labelled(b.pictures) };
}

/** UMD and what it is compared with, by `--variants`. @throws ArgumentError for unknown names */
function claimVariants({ variants }: ReproduceActionOptions): Readonly<Record<string, Variant>> {
  const names = listed(variants).map((name) => name.toLowerCase());
  const known = Object.entries(VARIANTS);
  const unknown = names.find((name) => !known.some(([one]) => one.toLowerCase() === name));
  if (unknown !== undefined)
    throw new ArgumentError(
      `UMD: unknown variant "${unknown}"; known are ${Object.keys(VARIANTS).join(", ")}`,
    );
  const wanted = new Set(["umd", "dit", ...names]);
  return Object.fromEntries(known.filter(([name]) => wanted.has(name.toLowerCase())));
}

const kindsOf = ({ equal, ablation }: ReproduceActionOptions): readonly Equal[] => {
  if (equal !== "both") return [equal];
  return ablation ? ["images"] : ["images", "flops"];
};

const KINDS: Record<Equal, string> = { images: "equal pictures", flops: "equal arithmetic" };

const noised = (noisedMask: number): Mixture => ({ cleanShare: 0, noisedMask, cleanMask: 0.75 });

/** What is timed: noised pictures at four ratios, clean ones, and the mixture of the method. */
const TIMED: Readonly<Record<string, Mixture>> = {
  "noised, mask 0 (DiT)": noised(0),
  "noised, mask 0.25": noised(0.25),
  "noised, mask 0.5 (MaskDiT)": noised(0.5),
  "noised, mask 0.75": noised(0.75),
  "clean, mask 0.75 (MAE)": MIXTURES.mae,
  UMD: MIXTURES.umd,
};
const ROUNDS = 9;

/** A compiled training step: forward, backward, clipping and AdamW. */
async function timedStep(context: Context, pictures: LabelledPictures, mixture: Mixture) {
  const { batch, threads } = context.options;
  const config = configOf(context, VARIANTS.UMD);
  const model = initUMD(config, 0);
  const optimizer = adamW({ learningRate: 1e-4, weightDecay: 0.05 });
  const loss = mixedLoss(mixture);
  const step = makeTrainStep<UMD, Batch>({
    loss,
    optimizer,
    clipNorm: 1,
    ...(threads && { jit: { threads } }),
  });
  const batches = umdBatches(config, pictures, { mixture, batch, seed: 0, augment: { flip: false } });
  const given = await batches(0);
  let state = initialState(model, optimizer);
  await evaluate(flatten(state).leaves);
  return {
    close: () => step.close(),
    async run(): Promise<void> {
      const result = await step(state, given);
      await result.loss.item();
      ({ state } = result);
    },
  };
}

/** Whether hidden tokens are really dropped: time of a training step against the mask ratio. */
async function* stepTimes(context: Context): Work<Table> {
  const { study, options, train } = context;
  const { batch, threads } = options;
  const config = configOf(context, VARIANTS.UMD);
  const made = yield* study.measure("times of training steps", {
    given: { config, batch, rounds: ROUNDS, mixtures: TIMED, threads },
    async measure(): Promise<Record<string, Times>> {
      const names = Object.keys(TIMED);
      const steps = await Promise.all(names.map((name) => timedStep(context, train, TIMED[name]!)));
      try {
        const cases = Object.fromEntries(names.map((name, k) => [name, steps[k]!.run]));
        return await inTurns(cases, ROUNDS, { warmups: 2 });
      } finally {
        await Promise.all(steps.map((step) => step.close()));
      }
    },
  });
  const [base = ""] = Object.keys(TIMED);
  const arithmetic = (name: string): number => (batch * trainingFlops(config, TIMED[name]!)) / 1e9;
  const rows = new Map(Object.entries(made.value).map(([name, times]) => [name, { name, times }] as const));
  return tableOf("batch", rows, {
    "a step": ({ times }) => times.text,
    "of DiT's time": ({ times }) => numberText(times.median / made.value[base]!.median),
    GFLOP: ({ name }) => numberText(arithmetic(name)),
    "of DiT's GFLOP": ({ name }) => numberText(arithmetic(name) / arithmetic(base)),
  });
}

/** This share's runs of every kind. */
async function* allRuns(
  context: Context,
  variants: Readonly<Record<string, Variant>>,
): Work<{ bounds: Bounds; runs: Readonly<Record<string, Runs>> }> {
  const { study, options } = context;
  const judges = yield* judgesOf(context);
  const bounds = yield* boundsOf(context, judges);
  const kinds = kindsOf(options);
  const jobs = Array.from({ length: options.seeds }, (_, seed) =>
    Object.entries(variants).flatMap(([name, variant]) =>
      kinds.map((equal) => ({ name, variant, seed, equal })),
    ),
  ).flat();
  const runs = Object.fromEntries(kinds.map((equal) => [equal, new Map<string, Record<string, Run>>()]));
  for (const job of study.share(jobs)) {
    const run = yield* runOf(context, judges, job);
    const all = runs[job.equal]!;
    all.set(job.name, { ...all.get(job.name), [job.seed]: run });
    const note = `probe ${(100 * run.probe.all!).toFixed(1)} %`;
    yield { type: "message", text: `${job.name}, seed ${job.seed}, ${KINDS[job.equal]}: ${note}` };
  }
  return { bounds, runs };
}

/** The README beside this file is written when the results go where the repository keeps them. */
function readmeFor(out: string): string | undefined {
  const own = fileURLToPath(new URL("../../../results/umd", import.meta.url));
  return resolve(out) === own ? fileURLToPath(new URL("./README.md", import.meta.url)) : undefined;
}

/** Trains, probes and samples all methods, or the strip of ablations; tables go to the output folder. */
export async function* compare(
  study: Study,
  options: ReproduceActionOptions,
  { signal }: ActionContext = {},
): Work<ActionResult> {
  const { ablation, seeds, out } = options;
  const variants = ablation ? ABLATION : claimVariants(options);
  const context = contextOf({ study, options, signal, ...(await halvesOf(options)) });
  const { bounds, runs } = yield* allRuns(context, variants);
  const guidances = guidancesOf(options);
  const kinds = kindsOf(options).map((equal) => {
    const on = `${context.title}, ${KINDS[equal]}`;
    const found = foundIn(runs[equal]!, bounds, guidances[0]!);
    return {
      on,
      found,
      verdicts: judged<Found>(ablation ? ABLATION_RULES : RULES, on, found),
      runs: runs[equal]!,
    };
  });
  const verdicts = kinds.flatMap((kind) => kind.verdicts);
  const tables = Object.assign({}, ...kinds.map((kind) => tablesOf(kind.runs, bounds, guidances, kind.on)));
  const times = ablation || study.partial ? {} : { "Time of a training step": yield* stepTimes(context) };
  const data = kinds.map(({ on, runs: found }) => ({ on, runs: Object.fromEntries(found) }));
  const [{ found, on }] = kinds as [(typeof kinds)[number]];
  const readme = ablation ? undefined : readmeFor(out);
  const folder = ablation ? join(out, "ablation") : out;
  yield* publish(folder, study, {
    title: ablation ? "UMD, ablations" : "UMD, measured",
    finding: ablation ? tokensText(found) : findingOf(found, on),
    command: commandLine("reproduce umd", reproduceOptions, options),
    verdicts,
    tables: { ...tables, ...times },
    charts: ablation ? ablationChart(found) : [],
    data: { bounds, kinds: data },
    ...(readme !== undefined && { readme }),
  });
  if (study.partial) return { summary: `Share ${options.shard} is done.` };
  const passed = verdicts.filter(({ judged: result }) => result?.holds).length;
  const missing = verdicts.filter(({ judged: result }) => result === undefined).length;
  const count = seeds === 1 ? "1 seed" : `${seeds} seeds`;
  return {
    summary: `${summaryOf(verdicts)} ${count}; tables are in ${folder}.`,
    metrics: { passed, criteria: verdicts.length, missing },
  };
}

/** `compare` in the work folder. */
export async function* reproduceAction(
  options: ReproduceActionOptions,
  context: ActionContext,
): Work<ActionResult> {
  const { work, shard } = options;
  const study = await openStudy(work, { version: VERSION, shard, signal: context.signal });
  return yield* compare(study, options, context);
}

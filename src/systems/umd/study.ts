/** `tweedie reproduce umd`: the claim in miniature, or the strip of ablations. */
import { basename } from "node:path";
import type { Labelled, LabelledPictures } from "../../data/index.ts";
import { shapes10 } from "../../data/world/shapes10.ts";
import { adamW, initialState, makeTrainStep } from "../../nn/index.ts";
import { inTurns, judged, numberText, type Study, type Times, tableOf } from "../../study/index.ts";
import { evaluate, flatten } from "../../tensor/index.ts";
import type { Table, Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import { type Reproduction, reproducing, type StudyPage } from "../reproduce.ts";
import type { ActionContext } from "../system.ts";
import { ABLATION, ABLATION_RULES, ablationChart, tokensText } from "./ablation.ts";
import { openPictures, SHAPES, umdBatches } from "./data.ts";
import { type Batch, MIXTURES, type Mixture, mixedLoss } from "./method.ts";
import { initUMD, trainingFlops, type UMD } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { type Found, findingOf, foundIn, RULES, type Runs, type StudyData, tablesOf } from "./results.ts";
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

/** UMD and what it is compared with, by `--variants`; both halves of the claim are always there. */
function claimVariants({ variants }: ReproduceActionOptions): Readonly<Record<string, Variant>> {
  const known = Object.keys(VARIANTS) as (keyof typeof VARIANTS)[];
  const wanted = new Set([...namesAmong(variants, known, "variant"), "UMD", "DiT"]);
  return Object.fromEntries(known.filter((name) => wanted.has(name)).map((name) => [name, VARIANTS[name]]));
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

interface Measured {
  readonly title: string;
  readonly bounds: Bounds;
  readonly runs: Readonly<Record<string, Runs>>;
  /** Whether hidden tokens are really dropped; absent in the ablation. */
  readonly times?: Table;
}

/** Trains, probes and samples all methods, or the strip of ablations. */
async function* ask(
  study: Study,
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): Work<Measured> {
  const { ablation } = options;
  const context = contextOf({ study, options, signal, ...(await halvesOf(options)) });
  const found = yield* allRuns(context, ablation ? ABLATION : claimVariants(options));
  const times = ablation || study.partial ? {} : { times: yield* stepTimes(context) };
  return { title: context.title, ...found, ...times };
}

function page({ title, bounds, runs, times }: Measured, options: ReproduceActionOptions): StudyPage {
  const { ablation } = options;
  const guidances = guidancesOf(options);
  const kinds = kindsOf(options).map((equal) => {
    const on = `${title}, ${KINDS[equal]}`;
    return { on, runs: runs[equal]!, found: foundIn(runs[equal]!, bounds, guidances[0]!) };
  });
  const [{ found, on }] = kinds as [(typeof kinds)[number]];
  const tables = kinds.map((kind) => tablesOf(kind.runs, bounds, guidances, kind.on));
  return {
    title: ablation ? "UMD, ablations" : "UMD, measured",
    finding: ablation ? tokensText(found) : findingOf(found, on),
    verdicts: kinds.flatMap((kind) => judged<Found>(ablation ? ABLATION_RULES : RULES, kind.on, kind.found)),
    tables: { ...Object.assign({}, ...tables), ...(times && { "Time of a training step": times }) },
    charts: ablation ? ablationChart(found) : [],
    data: {
      bounds,
      kinds: kinds.map((kind) => ({ on: kind.on, runs: Object.fromEntries(kind.runs) })),
    } satisfies StudyData,
    ...(ablation && { below: "ablation" }),
  };
}

/** `tweedie reproduce umd`. */
export const STUDY: Reproduction<ReproduceActionOptions, Measured> = {
  ...{ system: "umd", version: 1, options: reproduceOptions },
  ...{ ask, page },
};
export const reproduceAction = reproducing(STUDY);

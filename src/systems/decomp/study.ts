/** The study: fixed rules, the method beside its ablations and rivals, and the page that says what came of it. */

import { LIT_BALL_FACTORS } from "../../data/world/sprites.ts";
import type { Picture } from "../../io/index.ts";
import {
  all,
  atLeast,
  atMost,
  comparisonTable,
  judged,
  median,
  type Rule,
  type Study,
  tableOf,
  type Values,
} from "../../study/index.ts";
import type { Figure, Table, Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import { type Reproduction, reproducing, type StudyPage } from "../reproduce.ts";
import type { ActionContext } from "../system.ts";
import { ARMS, type Arm, type Context, contextOf } from "./arms.ts";
import { armCell, type Measured, shownCell } from "./cells.ts";
import { dataVariance } from "./data.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { floorsOf } from "./scores.ts";
import { classifierCell } from "./take.ts";

type Maybe = number | undefined;

/** Numbers of every arm by seed. */
export type Runs = ReadonlyMap<Arm, Readonly<Record<string, Measured>>>;

export interface Found {
  /** Median over the seeds of a number of an arm. */
  readonly of: (arm: Arm, pick: (measured: Measured) => Maybe) => Maybe;
  /** mIoU when every component shows all objects. */
  readonly floor: Maybe;
  readonly local: boolean;
}

export function foundIn(runs: Runs, floor: Maybe, local: boolean): Found {
  return {
    floor,
    local,
    of: (arm, pick) => {
      const values = Object.values(runs.get(arm) ?? {}).map(pick);
      return values.length > 0 && values.every((v) => v !== undefined)
        ? median(values as number[])
        : undefined;
    },
  };
}

const error = ({ error: value }: Measured): number => value;
const quotient = (a: Maybe, b: Maybe): Maybe => (a === undefined || b === undefined ? undefined : a / b);

/** a's number is at most `bound` times b's. */
const within = ({ of }: Found, pick: (m: Measured) => Maybe, b: Arm, bound: number) =>
  atMost(quotient(of("x0", pick), of(b, pick)), bound);

const miou = ({ miou: value }: Measured): Maybe => value;

/** Rules of both kinds of sets, medians over the seeds. */
const COMMON: readonly Rule<Found>[] = [
  {
    name: "R1",
    says: "the squared error is at most 0.5 times COMET's and 0.7 times the beta-VAE's",
    judge: (f) => all(within(f, error, "COMET", 0.5), within(f, error, "beta-VAE", 0.7)),
  },
  {
    name: "R2",
    says: "the distance in features is at most 0.5 times COMET's and 0.7 times the beta-VAE's",
    judge: (f) => {
      const pick = ({ perceptual }: Measured) => perceptual;
      return all(within(f, pick, "COMET", 0.5), within(f, pick, "beta-VAE", 0.7));
    },
  },
  {
    name: "R3",
    says: "the Fréchet distance is at most 0.5 times that of COMET and of the beta-VAE",
    judge: (f) => {
      const pick = ({ fid }: Measured) => fid;
      return all(within(f, pick, "COMET", 0.5), within(f, pick, "beta-VAE", 0.5));
    },
  },
];

/** Local factors: objects. */
const LOCAL: readonly Rule<Found>[] = [
  {
    name: "L1",
    says: "components are objects: mIoU at least 1.5 times that of predicting the noise and of COMET",
    judge: ({ of }) =>
      all(
        atLeast(quotient(of("x0", miou), of("eps", miou)), 1.5),
        atLeast(quotient(of("x0", miou), of("COMET", miou)), 1.5),
      ),
  },
  {
    name: "L2",
    says: "mIoU is above that of all objects in every component",
    judge: ({ of, floor }) => (floor === undefined ? undefined : atLeast(of("x0", miou), floor)),
  },
  {
    name: "L3",
    says: "components overlap by at most 0.2, and cover at least 0.75 of the objects",
    judge: ({ of }) =>
      all(
        atMost(
          of("x0", ({ overlap }) => overlap),
          0.2,
        ),
        atLeast(
          of("x0", ({ coverage }) => coverage),
          0.75,
        ),
      ),
  },
  {
    name: "L4",
    says: "mixtures show what their components show: IoU at least 0.6",
    judge: ({ of }) =>
      atLeast(
        of("x0", ({ recombination }) => recombination),
        0.6,
      ),
  },
  {
    name: "A1",
    says: "predicting the clean picture: squared error at most 0.8 times that of predicting the noise",
    judge: (f) => within(f, error, "eps", 0.8),
  },
  {
    name: "A2",
    says: "several components draw no worse than a single one of as many numbers",
    judge: (f) => within(f, error, "single", 1),
  },
  {
    name: "C1",
    says: "the latents are used: with those of another picture the squared error is at least twice as large",
    judge: ({ of }) =>
      atLeast(
        quotient(
          of("x0", ({ shuffledError }) => shuffledError),
          of("x0", error),
        ),
        2,
      ),
  },
  {
    name: "C2",
    says: "the bottleneck matters: latents four times as wide give a lower mIoU",
    judge: ({ of }) => {
      const ratio = quotient(of("wide", miou), of("x0", miou));
      return ratio === undefined ? undefined : atMost(ratio, 1);
    },
  },
];

/** Global factors: what a latent says about the scene. */
const GLOBAL: readonly Rule<Found>[] = [
  {
    name: "G1",
    says: "MIG is at least 1.2 times the beta-VAE's, with the hue and without",
    judge: ({ of }) => {
      const ratio = (pick: (m: Measured) => Maybe) => quotient(of("x0", pick), of("beta-VAE", pick));
      return all(
        atLeast(
          ratio(({ mig }) => mig),
          1.2,
        ),
        atLeast(
          ratio(({ migWithoutHue }) => migWithoutHue),
          1.2,
        ),
      );
    },
  },
];

export const rulesFor = (local: boolean): readonly Rule<Found>[] => [...COMMON, ...(local ? LOCAL : GLOBAL)];

const valuesOf = (runs: Runs, arm: Arm, pick: (m: Measured) => Maybe): Values | undefined => {
  const found = Object.entries(runs.get(arm) ?? {}).flatMap(([seed, measured]) => {
    const value = pick(measured);
    return value === undefined ? [] : [[seed, value] as const];
  });
  return found.length === 0 ? undefined : Object.fromEntries(found);
};

/** What is printed of every run. */
const COLUMNS: Readonly<Record<string, (m: Measured) => Maybe>> = {
  "squared error": error,
  "features' distance": ({ perceptual }) => perceptual,
  "Fréchet distance": ({ fid }) => fid,
  mIoU: miou,
  overlap: ({ overlap }) => overlap,
  coverage: ({ coverage }) => coverage,
  outside: ({ outside }) => outside,
  "mixtures' IoU": ({ recombination }) => recombination,
  MIG: ({ mig }) => mig,
  MCC: ({ mcc }) => mcc,
  "MIG, no hue": ({ migWithoutHue }) => migWithoutHue,
  "MCC, no hue": ({ mccWithoutHue }) => mccWithoutHue,
  "error, others' latents": ({ shuffledError }) => shuffledError,
  "components' difference": ({ collapse }) => collapse?.distance,
  "dead latents": ({ collapse }) => collapse?.dead,
};

/** Every run, seed by seed: nothing is hidden in a mean. */
function everyRun(runs: Runs): Table {
  const rows = new Map(
    [...runs].flatMap(([arm, seeds]) =>
      Object.entries(seeds).map(([seed, measured]) => [`${arm}, seed ${seed}`, measured] as const),
    ),
  );
  const used = Object.entries(COLUMNS).filter(([, of]) =>
    [...rows.values()].some((m) => of(m) !== undefined),
  );
  return tableOf("run", rows, Object.fromEntries(used));
}

function comparisons(runs: Runs, variance: number, floor: Maybe): Record<string, Table> {
  const row = (arm: Arm, pick: (m: Measured) => Maybe) => ({ name: arm, values: valuesOf(runs, arm, pick) });
  const none = { none: "the judge took no part in any training or choice" };
  const errors = comparisonTable({
    judge: { name: "squared error", better: "lower" },
    over: "seeds",
    method: row("x0", error),
    rival: row("COMET", error),
    floor: { name: "mean picture", values: { always: variance } },
    ceiling: { none: "a picture in so few numbers has no known least error" },
    secondJudge: none,
    others: (["eps", "single", "wide", "beta-VAE"] as const).map((arm) => row(arm, error)),
  });
  if (floor === undefined) return { "Squared error": errors };
  const objects = comparisonTable({
    judge: { name: "component mIoU", better: "higher" },
    over: "seeds",
    method: row("x0", miou),
    rival: row("COMET", miou),
    floor: { name: "all objects in every component", values: { always: floor } },
    ceiling: { name: "the true masks", values: { always: 1 } },
    secondJudge: none,
    others: (["eps", "wide"] as const).map((arm) => row(arm, miou)),
  });
  return { "Squared error": errors, "Components and objects": objects };
}

/** Which component knows which factor. */
function factorTable(runs: Runs): Record<string, Table> {
  const first = Object.values(runs.get("x0") ?? {})[0]?.r2;
  if (!first) return {};
  const columns = Object.fromEntries(
    LIT_BALL_FACTORS.map((name, k) => [name, (row: readonly number[]) => Number(row[k]!.toFixed(3))]),
  );
  const rows = new Map(first.map((row, k) => [`component ${k + 1}`, row]));
  return { "R² of each factor by each component's latents, first seed": tableOf("component", rows, columns) };
}

const SHOWN = 8;

/** Pictures of bytes [N, S, S, 3]. */
const picturesOf = (bytes: readonly number[], size: number): Picture[] =>
  Array.from({ length: bytes.length / (3 * size * size) }, (_, i) => ({
    ...{ width: size, height: size, channels: 3 },
    data: Uint8Array.from(bytes.slice(i * 3 * size * size, (i + 1) * 3 * size * size)),
  }));

/** Test pictures taken apart by the first seed's model. */
async function* figureOf(context: Context): Work<Figure> {
  const { size, components: k } = context.base;
  const found = yield* shownCell(context, SHOWN);
  const [given, parts, together, mixtures] = [found.given, found.parts, found.together, found.mixtures].map(
    (bytes) => picturesOf(bytes, size),
  ) as [Picture[], Picture[], Picture[], Picture[]];
  return {
    name: context.options.set,
    caption:
      "Test pictures, what each latent draws alone, all together, and the first half with the next one's others.",
    pictures: given.flatMap((one, i) => [
      ...[one, ...parts.slice(i * k, (i + 1) * k)],
      ...[together[i]!, mixtures[i]!],
    ]),
    columns: ["picture", ...Array.from({ length: k }, (_, j) => `component ${j + 1}`), "together", "mixed"],
    scale: Math.ceil(64 / size),
  };
}

interface Asked {
  readonly runs: Runs;
  readonly variance: number;
  readonly floor: Maybe;
  readonly figure?: Figure;
}

async function* ask(study: Study, options: ReproduceActionOptions, { signal }: ActionContext): Work<Asked> {
  const context = await contextOf(study, options, signal);
  const wanted = new Set<Arm>([...namesAmong(options.arms, ARMS, "arm"), "x0"]);
  const arms = ARMS.filter((arm) => wanted.has(arm));
  const classifier = yield* classifierCell(context);
  const jobs = Array.from({ length: options.seeds }, (_, seed) => arms.map((arm) => ({ arm, seed }))).flat();
  const runs = new Map<Arm, Record<string, Measured>>();
  for (const job of study.share(jobs)) {
    const measured = yield* armCell(context, classifier, job);
    runs.set(job.arm, { ...runs.get(job.arm), [job.seed]: measured });
    const objects = measured.miou === undefined ? "" : `, mIoU ${measured.miou.toFixed(3)}`;
    yield {
      type: "message",
      text: `${job.arm}, seed ${job.seed}: squared error ${measured.error.toFixed(4)}${objects}`,
    };
  }
  const floor = options.set === "litball" ? undefined : floorsOf(context.test).whole;
  const variance = await dataVariance(context.test);
  return { runs, variance, floor, ...(!study.partial && { figure: yield* figureOf(context) }) };
}

/** What a study keeps for programs. */
export interface StudyData {
  readonly set: string;
  readonly variance: number;
  readonly floor: number | null;
  readonly runs: Readonly<Record<string, Readonly<Record<string, Omit<Measured, "errors">>>>>;
}

/** Objects found by the method, and by predicting the noise; or the error, where nothing is known of objects. */
export function headlineOf({ floor, runs }: StudyData): string {
  const middle = (arm: string, pick: (m: Omit<Measured, "errors">) => Maybe): string => {
    const values = Object.values(runs[arm] ?? {}).flatMap((m) => pick(m) ?? []);
    return values.length === 0 ? "not measured" : median(values).toFixed(2);
  };
  if (floor === null) return `squared error ${middle("x0", (m) => m.error)}`;
  const of = (arm: string): string => middle(arm, (m) => m.miou);
  return `component mIoU ${of("x0")}; predicting the noise ${of("eps")}, all objects in every component ${floor.toFixed(2)}`;
}

const number = (value: Maybe): string => (value === undefined ? "not measured" : value.toFixed(3));

function page({ runs, variance, floor, figure }: Asked, options: ReproduceActionOptions): StudyPage {
  const { set, seeds, steps } = options;
  const local = set !== "litball";
  const found = foundIn(runs, floor, local);
  const { of } = found;
  const on = `${set}, ${seeds} ${seeds === 1 ? "seed" : "seeds"}, ${steps} steps`;
  const finding = local
    ? `Components have a median mIoU of ${number(of("x0", miou))} with the true objects, an overlap of ${number(of("x0", (m) => m.overlap))} and a coverage of ${number(of("x0", (m) => m.coverage))}; mIoU when predicting the noise: ${number(of("eps", miou))}; with all objects in every component: ${number(floor)}.`
    : `Squared error ${number(of("x0", error))} (mean picture ${number(variance)}); MIG ${number(of("x0", (m) => m.mig))}, the beta-VAE's ${number(of("beta-VAE", (m) => m.mig))}.`;
  const plain = [...runs].map(([arm, bySeed]) => [
    arm,
    Object.fromEntries(Object.entries(bySeed).map(([seed, { errors: _, ...rest }]) => [seed, rest])),
  ]);
  return {
    title: `Decomp Diffusion in miniature, ${set}`,
    finding,
    verdicts: judged(rulesFor(local), on, found),
    tables: { ...comparisons(runs, variance, floor), "Every run": everyRun(runs), ...factorTable(runs) },
    figures: figure ? [figure] : [],
    data: { set, variance, floor: floor ?? null, runs: Object.fromEntries(plain) } satisfies StudyData,
    ...(set !== "blocks2" && { below: set }),
  };
}

/** `tweedie reproduce decomp`. */
export const STUDY: Reproduction<ReproduceActionOptions, Asked> = {
  ...{ system: "decomp", version: 1, options: reproduceOptions },
  ...{ ask, page },
};
export const reproduceAction = reproducing(STUDY);

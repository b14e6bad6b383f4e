/** What came of the runs: the rules that were fixed beforehand, comparisons with floor, ceiling and rival, further tables. */
import { type Quality, shotsName } from "../../metrics/index.ts";
import {
  atLeast,
  atMost,
  comparisonTable,
  type Judged,
  mean,
  numberText,
  type Row,
  type Rule,
  spread,
  tableOf,
  type Values,
} from "../../study/index.ts";
import type { Table } from "../../work.ts";
import { type Bounds, type Judged as ByJudges, type Run, SHOTS, VARIANTS } from "./runs.ts";
import { readingName } from "./use.ts";

/** Runs by variant, then by seed. */
export type Runs = ReadonlyMap<string, Readonly<Record<string, Run>>>;

/** What a study keeps for programs. */
export interface StudyData {
  readonly bounds: Bounds;
  readonly kinds: readonly {
    readonly on: string;
    readonly runs: Readonly<Record<string, Readonly<Record<string, Run>>>>;
  }[];
}

/** A number of every run of a variant, by seed; undefined where none was measured. */
function valuesOf(runs: Runs, name: string, pick: (run: Run) => number | undefined): Values | undefined {
  const found = Object.entries(runs.get(name) ?? {}).flatMap(([seed, run]) => {
    const value = pick(run);
    return value === undefined ? [] : [[seed, value] as const];
  });
  return found.length === 0 ? undefined : Object.fromEntries(found);
}

type Maybe = number | undefined;

/** Means over the seeds, as rules ask for them. Shares in percent; samples at the first guidance. */
export interface Found {
  readonly probe: (name: string, shots: string) => Maybe;
  readonly pixels: (shots: string) => Maybe;
  readonly distance: (name: string) => Maybe;
  readonly seen: (name: string) => Maybe;
  /** Distance of one mean picture per class. */
  readonly classMeans: Maybe;
  /** Of a pre-training step, in GFLOP. */
  readonly arithmetic: (name: string) => Maybe;
}

const percent = (value: Maybe): Maybe => (value === undefined ? undefined : 100 * value);
const meanOf = (values: Values | undefined): Maybe => values && mean(Object.values(values));

export function foundIn(runs: Runs, bounds: Bounds, guidance: number): Found {
  const of = (name: string, pick: (run: Run) => Maybe): Maybe => meanOf(valuesOf(runs, name, pick));
  return {
    probe: (name, shots) => percent(of(name, ({ probe }) => probe[shots])),
    pixels: (shots) => percent(mean(Object.values(bounds.pixels).map((found) => found.accuracies[shots]!))),
    distance: (name) => of(name, ({ quality }) => quality[guidance]?.[0].fid),
    seen: (name) => percent(of(name, ({ quality }) => quality[guidance]?.[0].agreement)),
    classMeans: bounds.classMeans?.[0].fid,
    arithmetic: (name) => of(name, ({ gigaflops }) => gigaflops),
  };
}

/** a and b in a formula, where both were measured. */
const both = (a: Maybe, b: Maybe, f: (a: number, b: number) => number): Maybe =>
  a === undefined || b === undefined ? undefined : f(a, b);

/** The difference, in points, is `bound` or more. */
const over = (a: Maybe, b: Maybe, bound: number): Judged | undefined =>
  atLeast(
    both(a, b, (x, y) => x - y),
    bound,
  );

/** The ratio is `bound` or less. */
const within = (a: Maybe, b: Maybe, bound: number): Judged | undefined =>
  atMost(
    both(a, b, (x, y) => x / y),
    bound,
  );

const probeRule = (name: string, other: string, shots: string, bound: number): Rule<Found> => ({
  name,
  says: `the probe, ${shots}, is at least ${bound} points over ${other}'s`,
  judge: ({ probe }) => over(probe("UMD", shots), probe(other, shots), bound),
});

const distanceRule = (name: string, other: string, bound: number): Rule<Found> => ({
  name,
  says: `the distance of samples is at most ${bound} times ${other}'s`,
  judge: ({ distance }) => within(distance("UMD"), distance(other), bound),
});

/** The pass rule of the miniature, on means over seeds, with what would make it mean little: floors, and MAE with adaLN. */
export const RULES: readonly Rule<Found>[] = [
  probeRule("A1", "DiT", "all", 3),
  probeRule("A2", "DiT", "100-shot", 2),
  probeRule("A3", "MaskDiT", "all", 1),
  {
    name: "A4",
    says: "the probe, all, is at least that of raw pixels",
    judge: ({ probe, pixels }) => over(probe("UMD", "all"), pixels("all"), 0),
  },
  distanceRule("B1", "DiT", 1.3),
  distanceRule("B2", "MAE", 0.85),
  distanceRule("B3", "MAE-adaLN", 0.85),
  {
    name: "B4",
    says: "the label is seen in samples as often as in DiT's, or at most 5 points less",
    judge: ({ seen }) => over(seen("UMD"), seen("DiT"), -5),
  },
  {
    name: "B5",
    says: "the distance of samples is at most that of one mean picture per class",
    judge: ({ distance, classMeans }) => within(distance("UMD"), classMeans, 1),
  },
  {
    name: "C",
    says: "the arithmetic of a step is at most 0.7 times DiT's",
    judge: ({ arithmetic }) => within(arithmetic("UMD"), arithmetic("DiT"), 0.7),
  },
  probeRule("D1", "MAE", "all", -6),
  probeRule("D2", "MAE-adaLN", "all", -6),
];

/** Values of every seed for what no seed changes. */
const always = (value: number): Values => ({ always: value });

/** Rows of variants beside the method, all but those that have a role. */
const others = (runs: Runs, roles: readonly string[]): string[] =>
  [...new Set([...Object.keys(VARIANTS), ...runs.keys()])].filter((name) => !roles.includes(name));

function probeTable(runs: Runs, { pixels, untrained, supervised, chance }: Bounds, shots: string): Table {
  const row = (name: string): Row => ({
    name,
    values: valuesOf(runs, name, ({ probe }) => percent(probe[shots])),
  });
  const bySeed = <T>(found: Readonly<Record<string, T>>, of: (one: T) => number): Values =>
    Object.fromEntries(Object.entries(found).map(([seed, one]) => [seed, 100 * of(one)]));
  return comparisonTable({
    judge: { name: "ridge probe, %", better: "higher" },
    over: "seeds",
    method: row("UMD"),
    floor: { name: "raw pixels", values: bySeed(pixels, ({ accuracies }) => accuracies[shots]!) },
    ceiling: {
      name: "classifier, supervised by all training labels",
      values: always(100 * supervised[0].agreement!),
    },
    rival: row("MAE-adaLN"),
    secondJudge: {
      none: "nothing was optimised against the probe: its lambda and the reading are chosen on its own training pictures",
    },
    others: [
      ...others(runs, ["UMD", "MAE-adaLN"]).map(row),
      { name: "untrained features", values: bySeed(untrained, (found) => found[shots]!) },
      { name: "chance", values: always(100 * chance) },
    ],
  });
}

interface Aspect {
  readonly name: string;
  readonly better: "higher" | "lower";
  readonly of: (quality: Quality) => number;
}

const DISTANCE: Aspect = { name: "FID-like distance", better: "lower", of: ({ fid }) => fid };
const SEEN: Aspect = { name: "label seen, %", better: "higher", of: ({ agreement }) => 100 * agreement! };

function sampleTable(
  runs: Runs,
  bounds: Bounds,
  guidance: number,
  { name: judge, better, of }: Aspect,
): Table {
  const row = (name: string): Row => ({
    name,
    values: valuesOf(runs, name, ({ quality }) => quality[guidance] && of(quality[guidance][0])),
    second: valuesOf(runs, name, ({ quality }) => quality[guidance] && of(quality[guidance][1])),
  });
  const bound = (name: string, found: ByJudges | undefined): Row => ({
    name,
    ...(found && { values: always(of(found[0])), second: always(of(found[1])) }),
  });
  return comparisonTable({
    judge: { name: judge, better },
    over: "seeds",
    method: row("UMD"),
    floor: bound("one mean picture per class", bounds.classMeans),
    ceiling: bound("test pictures, one half against the other", bounds.testHalves),
    rival: row("DiT"),
    secondJudge: { name: `${judge}, classifier of another seed`, better },
    others: [...others(runs, ["UMD", "DiT"]).map(row), bound("training pictures", bounds.trainingPictures)],
  });
}

const spreadText = (values: Values | undefined): string | undefined =>
  values && spread(Object.values(values), "seeds").text;

/** What no rule judges: pictures filled in, inception scores, lengths and arithmetic. */
function furtherTable(runs: Runs, guidances: readonly number[]): Table {
  const text = (pick: (run: Run) => Maybe) => (name: string) => spreadText(valuesOf(runs, name, pick));
  return tableOf("model", new Map([...runs.keys()].map((name) => [name, name])), {
    "hidden MSE": text(({ hiddenError }) => hiddenError),
    ...Object.fromEntries(
      guidances.map((w) => [`IS-like, guidance ${w}`, text(({ quality }) => quality[w]?.[0].is)]),
    ),
    steps: (name) => meanOf(valuesOf(runs, name, ({ steps }) => steps)),
    "TFLOP of pre-training": (name) => {
      const found = meanOf(valuesOf(runs, name, ({ gigaflops, steps }) => (gigaflops * steps) / 1000));
      return found === undefined ? undefined : numberText(found);
    },
  });
}

/** Every reading of every model: where the best ones come from. */
function readingsTable(runs: Runs): Table {
  const rows = [...runs.keys()].flatMap((name) =>
    (Object.values(runs.get(name)!)[0]?.readings ?? []).map(
      (reading, k) => [`${name}: ${readingName(reading)}`, [name, k] as const] as const,
    ),
  );
  const of =
    (shots: string) =>
    ([name, k]: readonly [string, number]) =>
      spreadText(valuesOf(runs, name, ({ readings }) => percent(readings[k]!.accuracies[shots])));
  return tableOf(
    "features",
    new Map(rows),
    Object.fromEntries(SHOTS.map(shotsName).map((shots) => [`${shots}, %`, of(shots)])),
  );
}

/** All tables of one kind of runs; `kind` ends their titles. */
export function tablesOf(
  runs: Runs,
  bounds: Bounds,
  guidances: readonly number[],
  kind: string,
): Readonly<Record<string, Table>> {
  const probes = [...SHOTS].reverse().map(shotsName);
  const drawn = bounds.classMeans ? guidances : [];
  return {
    ...Object.fromEntries(probes.map((s) => [`Features: ${s}, ${kind}`, probeTable(runs, bounds, s)])),
    ...Object.fromEntries(
      drawn.flatMap((w) =>
        [DISTANCE, SEEN].map((aspect) => [
          `Samples: ${aspect.name}, guidance ${w}, ${kind}`,
          sampleTable(runs, bounds, w, aspect),
        ]),
      ),
    ),
    [`Further numbers, ${kind}`]: furtherTable(runs, drawn),
    [`Every reading, ${kind}`]: readingsTable(runs),
  };
}

/** The finding in a sentence or two, with the floors and the rival first. */
export function findingOf({ probe, pixels, distance, classMeans }: Found, on: string): string {
  const text = (value: Maybe): string => (value === undefined ? "not measured" : numberText(value));
  const features = `${on}: a ridge probe finds ${text(pixels("all"))} % of the labels in raw pixels, ${text(probe("MAE-adaLN", "all"))} % in features of MAE with adaLN, ${text(probe("UMD", "all"))} % in UMD's and ${text(probe("DiT", "all"))} % in DiT's.`;
  const samples = `One mean picture per class is at distance ${text(classMeans)} of test pictures, samples of UMD at ${text(distance("UMD"))}, of DiT at ${text(distance("DiT"))}.`;
  return classMeans === undefined ? features : `${features} ${samples}`;
}

/** The probe of all labels, of the method, of its rival and of the diffusion transformer. */
export function headlineOf({ bounds, kinds }: StudyData): string {
  const [{ runs }] = kinds as [StudyData["kinds"][number]];
  const { probe } = foundIn(new Map(Object.entries(runs)), bounds, 1);
  const text = (name: string): string => `${probe(name, "all")?.toFixed(1) ?? "–"} %`;
  return `ridge probe ${text("UMD")}; MAE with adaLN ${text("MAE-adaLN")}, DiT ${text("DiT")}`;
}

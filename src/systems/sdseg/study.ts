/** What the study of SDSeg compares, how each number is made, and what is expected of them. */
import { ArgumentError } from "../../errors.ts";
import {
  all,
  atLeast,
  atMost,
  falling,
  notBelow,
  type Rule,
  type Study,
  type Times,
} from "../../study/index.ts";
import type { Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import type { ActionContext } from "../system.ts";
import { classCells, floorCells, pixelCells, plainCell, variantCells } from "./cells.ts";
import {
  CEILING,
  CURVE,
  ddimName,
  EXTRAS,
  METHOD,
  ONE_STEP,
  PLAIN,
  type SetFound,
  VARIANTS,
  type Variant,
  wayName,
} from "./compared.ts";
import { type Lab, type LabParts, openLab } from "./lab.ts";
import type { ReproduceActionOptions } from "./options.ts";
import type { Stability } from "./scores.ts";
import { KNOWN_SETS, type Sources, sourcesIn } from "./sets.ts";

/** Differences of Dice below this do not count. */
const SLACK = 0.005;
const LEAST_CEILING = 0.97;

const diceOf = ({ reached }: SetFound, name: string): number | undefined => reached[name]?.dice;
const stabilityIn = ({ reached }: SetFound, name: string): Stability | undefined => reached[name]?.stability;
const helps = (found: SetFound, steps: number) =>
  falling(
    diceOf(found, wayName("lambda-1", ddimName(steps))),
    diceOf(found, wayName("lambda-0", ddimName(steps))),
  );
const ratio = (a: Times | undefined, b: Times | undefined): number | undefined =>
  a && b && a.median / b.median;

/** Fixed before measuring, and judged on every set. */
export const RULES: readonly Rule<SetFound>[] = [
  {
    name: "ceiling",
    says: "the autoencoder keeps masks, without which nothing else means anything",
    judge: (found) => atLeast(diceOf(found, CEILING), LEAST_CEILING),
  },
  {
    name: "a",
    says: "one step is not worse than 50 of DDIM, eta 1",
    judge: (found) =>
      notBelow(diceOf(found, METHOD), [diceOf(found, wayName("lambda-1", ddimName(50)))], SLACK),
  },
  {
    name: "b",
    says: "with the latent loss one step is not worse than without, nor than the best DDIM without",
    judge: (found) =>
      all(
        notBelow(diceOf(found, METHOD), [diceOf(found, wayName("lambda-0", ONE_STEP))]),
        notBelow(
          diceOf(found, METHOD),
          CURVE.map((steps) => diceOf(found, wayName("lambda-0", ddimName(steps)))),
          SLACK,
        ),
      ),
  },
  {
    name: "c",
    says: "the latent loss helps DDIM of 2 and of 4 steps",
    judge: (found) => all(helps(found, 2), helps(found, 4)),
  },
  {
    name: "d",
    says: "one step is 15 times cheaper in the denoiser and 5 times in all",
    judge: ({ times }) =>
      all(
        atLeast(ratio(times?.times.denoiserFifty, times?.times.denoiserOne), 15),
        atLeast(ratio(times?.times.fifty, times?.times.one), 5),
      ),
  },
  {
    name: "e",
    says: "over sampling seeds: deviation of Dice at most 0.005, pairs more alike and pixels steadier than without the latent loss and than 50 steps",
    judge(found) {
      const direct = stabilityIn(found, METHOD);
      const others = [
        stabilityIn(found, wayName("lambda-0", ONE_STEP)),
        stabilityIn(found, wayName("lambda-1", ddimName(50))),
      ];
      return all(
        atMost(direct?.diceDeviation, SLACK),
        ...others.map((other) => falling(direct?.pairDice, other?.pairDice)),
        ...others.map((other) => falling(other?.pixelDeviation, direct?.pixelDeviation)),
      );
    },
  },
  {
    name: "f",
    says: "one sample of one step is not worse than the mean of three samples of 50 of DDIM, eta 1",
    judge: (found) =>
      notBelow(
        diceOf(found, METHOD),
        [found.reached[wayName("lambda-1", ddimName(50))]?.ensemble?.dice],
        SLACK,
      ),
  },
];

/** The sets that are asked for, and those of them that are not there. @throws ArgumentError where none is */
async function setsOf({ data, sets }: ReproduceActionOptions, sources: Sources) {
  const names = namesAmong(sets, ["lesions", ...KNOWN_SETS.map(({ name }) => name)], "data set");
  const has = await Promise.all(names.map((name) => sources.has(name)));
  const [there, missing] = [names.filter((_, i) => has[i]), names.filter((_, i) => !has[i])];
  if (there.length === 0)
    throw new ArgumentError(
      `reproduce sdseg: none of ${missing.join(", ")} is in ${data ?? "a folder (--data)"}`,
    );
  return { names, there, missing };
}

/** One part of the work that shards share out: all that is measured of one model, or without any, on one set. */
interface Job {
  readonly set: string;
  run(lab: Lab): Work<SetFound>;
}

function jobsOf({ variants, extras, shapes }: ReproduceActionOptions, sets: readonly string[]): Job[] {
  const known = Object.keys(VARIANTS) as Variant[];
  const names = new Set([...namesAmong(variants, [...known, PLAIN], "variant"), "lambda-1"]);
  const job = (set: string, run: (lab: Lab, set: string) => Work<SetFound>): Job => ({
    set,
    run: (lab) => run(lab, set),
  });
  const variantJob = (set: string, variant: Variant): Job =>
    job(set, (lab) => variantCells(lab, set, variant));
  return [
    ...sets.flatMap((set) => [
      ...known.filter((name) => names.has(name)).map((variant) => variantJob(set, variant)),
      ...(names.has(PLAIN) ? [job(set, plainCell)] : []),
      job(set, floorCells),
    ]),
    ...(extras && sets.includes("lesions")
      ? [
          ...EXTRAS.filter((name) => !names.has(name)).map((variant) => variantJob("lesions", variant)),
          job("lesions", pixelCells),
        ]
      : []),
    ...(shapes ? [job("shapes", classCells)] : []),
  ];
}

/** What was found on every set by name, also on those that are not there: nothing. */
export interface Findings {
  readonly lab: Lab;
  readonly sets: ReadonlyMap<string, SetFound>;
}

/** Trains and measures everything that is asked for. What the study holds already is not done again. */
export async function* findings(
  study: Study,
  options: ReproduceActionOptions,
  { signal, sources = sourcesIn(options.data), open }: Partial<LabParts> & Pick<ActionContext, "signal"> = {},
): Work<Findings> {
  const { names, there, missing } = await setsOf(options, sources);
  const jobs = jobsOf(options, there);
  if (missing.length > 0)
    yield { type: "warning", text: `not measured, because --data has no such folder: ${missing.join(", ")}` };
  const lab = await openLab({ study, options, sources, signal, ...(open && { open }) });
  const sets = new Map<string, SetFound>(names.map((name) => [name, { reached: {} }]));
  for (const { set, run } of study.share(jobs)) {
    const found = yield* run(lab);
    const before = sets.get(set);
    sets.set(set, { ...before, ...found, reached: { ...before?.reached, ...found.reached } });
  }
  return { lab, sets };
}

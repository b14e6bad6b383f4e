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
import { listed } from "../options.ts";
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

/** Raised by hand when the same settings give other numbers than before. */
export const VERSION = 1;

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

/** The sets that are asked for, and those of them that are not there. @throws ArgumentError for unknown names */
async function setsOf({ data, sets }: ReproduceActionOptions, sources: Sources) {
  const known = ["lesions", ...KNOWN_SETS.map(({ name }) => name)];
  const names = listed(sets);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ArgumentError(`reproduce sdseg: unknown data set "${unknown}"; known are ${known.join(", ")}`);
  const there = await Promise.all(names.map((name) => sources.has(name)));
  const missing = names.filter((_, i) => !there[i]);
  if (missing.length === names.length)
    throw new ArgumentError(
      `reproduce sdseg: none of ${missing.join(", ")} is in ${data ?? "a folder (--data)"}`,
    );
  return { names, missing };
}

/** What is compared. @throws ArgumentError for unknown names */
function variantsOf({ variants }: ReproduceActionOptions): { latent: Variant[]; plain: boolean } {
  const names = listed(variants);
  const known: string[] = [...Object.keys(VARIANTS), PLAIN];
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ArgumentError(`reproduce sdseg: unknown variant "${unknown}"; known are ${known.join(", ")}`);
  const chosen = (Object.keys(VARIANTS) as Variant[]).filter(
    (name) => name === "lambda-1" || names.includes(name),
  );
  return { latent: chosen, plain: names.includes(PLAIN) };
}

/** One part of the work that shards share out: all that is measured of one model, or without any, on one set. */
interface Job {
  readonly set: string;
  readonly part: Variant | typeof PLAIN | "floors" | "pixels" | "classes";
}

function jobsOf(o: ReproduceActionOptions, sets: readonly string[]): Job[] {
  const { latent, plain } = variantsOf(o);
  const jobs = sets.flatMap((set): Job[] => [
    ...latent.map((part) => ({ set, part })),
    ...(plain ? [{ set, part: PLAIN } as const] : []),
    { set, part: "floors" },
  ]);
  const extras = EXTRAS.filter((part) => !latent.includes(part)).map((part) => ({ set: "lesions", part }));
  return [
    ...jobs,
    ...(o.extras && sets.includes("lesions") ? [...extras, { set: "lesions", part: "pixels" } as const] : []),
    ...(o.shapes ? [{ set: "shapes", part: "classes" } as const] : []),
  ];
}

function runJob(lab: Lab, { set, part }: Job): Work<SetFound> {
  switch (part) {
    case "plain":
      return plainCell(lab, set);
    case "floors":
      return floorCells(lab, set);
    case "pixels":
      return pixelCells(lab, set);
    case "classes":
      return classCells(lab);
    default:
      return variantCells(lab, set, part);
  }
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
  const { names, missing } = await setsOf(options, sources);
  const there = names.filter((name) => !missing.includes(name));
  const jobs = jobsOf(options, there);
  if (missing.length > 0)
    yield { type: "warning", text: `not measured, because --data has no such folder: ${missing.join(", ")}` };
  const lab = await openLab({ study, options, sources, signal, ...(open && { open }) });
  const sets = new Map<string, SetFound>(names.map((name) => [name, { reached: {} }]));
  for (const job of study.share(jobs)) {
    const found = yield* runJob(lab, job);
    const before = sets.get(job.set);
    sets.set(job.set, { ...before, ...found, reached: { ...before?.reached, ...found.reached } });
  }
  return { lab, sets };
}

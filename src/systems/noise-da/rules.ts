/** What the study expects, from the specification, written before measuring. Arms are compared in pairs of test pictures. */
import {
  all,
  atLeast,
  atMost,
  exceeds,
  type Judged,
  judged,
  mean,
  notBelow,
  type Rule,
  type Verdict,
} from "../../study/index.ts";
import { type ArmName, TUNED } from "./arms.ts";
import type { Plan, SetScores } from "./lab.ts";
import type { SetName } from "./worlds.ts";

/** An arm, the degraded pictures as they are, or the network that all begin with. */
export type Row = ArmName | "input" | "start";

/** What was measured of a domain in one world. */
export interface DomainFound {
  readonly sets: Readonly<Partial<Record<SetName, Readonly<Partial<Record<Row, SetScores>>>>>>;
  /** On photographs with real damage. */
  readonly transfer: Readonly<Partial<Record<Row, SetScores>>>;
}

/** By "domain, pictures". */
export type Found = Readonly<Record<string, DomainFound>>;

export interface Asked {
  readonly found: Found;
  readonly plan: Plan;
}

export const psnrOf = (
  found: DomainFound,
  row: Row | undefined,
  set: SetName = "test",
): readonly number[] | undefined => row && found.sets[set]?.[row]?.psnr;
const meanOf = (values: readonly number[] | undefined): number | undefined => values && mean(values);
const less = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? undefined : a - b;

/** By how many decibels the oracle is above vanilla. */
export const gapOf = (found: DomainFound, set: SetName = "test"): number | undefined =>
  less(meanOf(psnrOf(found, "oracle", set)), meanOf(psnrOf(found, "vanilla", set)));

/** rho = (arm - vanilla) / (oracle - vanilla), of means on the test pictures. */
export function recovered(found: DomainFound, row: Row | undefined): number | undefined {
  const gained = less(meanOf(psnrOf(found, row)), meanOf(psnrOf(found, "vanilla")));
  const gap = gapOf(found);
  return gained === undefined || gap === undefined ? undefined : gained / gap;
}

/** The weight of a way that is best on the labelled validation pictures; of those that were measured. */
export function tuned(found: DomainFound, way: keyof typeof TUNED): ArmName | undefined {
  const there = TUNED[way].filter((name) => psnrOf(found, name, "validation"));
  const score = (name: ArmName): number => mean(psnrOf(found, name, "validation")!);
  return there.reduce<ArmName | undefined>(
    (best, name) => (best === undefined || score(name) > score(best) ? name : best),
    undefined,
  );
}

/** Decibels that the real pictures' gap has at least, for a domain to say anything. */
export const ADMITTED = 3;
const SHARE = 0.25;
const LOSS = 0.5;

/** Both ways are above, in pairs. */
const above = (found: DomainFound, a: Row | undefined, b: Row | undefined): Judged | undefined =>
  exceeds(psnrOf(found, a), psnrOf(found, b));

/** The rules of a domain. */
export const RULES: readonly Rule<DomainFound>[] = [
  {
    name: "there is a gap",
    says: `supervision on real pairs is ${ADMITTED} dB or more above vanilla on validation; elsewhere nothing can be told`,
    judge: (f) => atLeast(gapOf(f, "validation"), ADMITTED),
  },
  {
    name: "P1 adaptation",
    says: `Noise-DA (alpha 0.2) recovers ${SHARE * 100} % or more of the gap, and loses at most ${LOSS} dB on synthetic pictures`,
    judge: (f) =>
      all(
        exceeds(psnrOf(f, "noise-da"), psnrOf(f, "vanilla"), { atLeast: SHARE * (gapOf(f) ?? 0) }),
        atLeast(
          less(meanOf(psnrOf(f, "noise-da", "synthetic")), meanOf(psnrOf(f, "vanilla", "synthetic"))),
          -LOSS,
        ),
      ),
  },
  {
    name: "P2 more than a regulariser",
    says: "Noise-DA at its best weight is above total variation at its best weight",
    judge: (f) => above(f, tuned(f, "noise-da"), tuned(f, "tv")),
  },
  {
    name: "P3 both conditions",
    says: "Noise-DA that sees the synthetic picture alone recovers less than a tenth of the gap, either way",
    judge: (f) => atMost(absolute(recovered(f, "only synthetic")), 0.1),
  },
  {
    name: "P3 high noise",
    says: "noise of t from 1 to 100 alone is worse than of all t",
    judge: (f) => above(f, "noise-da", "low noise"),
  },
  {
    name: "P3 parts",
    says: "swapped residuals and coins each help or do no harm",
    judge: (f) =>
      all(
        notBelow(meanOf(psnrOf(f, "noise-da")), [meanOf(psnrOf(f, "no swap"))]),
        notBelow(meanOf(psnrOf(f, "no swap")), [meanOf(psnrOf(f, "no swap, no shuffle"))]),
      ),
  },
  {
    name: "P3 a learned model",
    says: "a random diffusion model that never learns recovers less than half of what Noise-DA does",
    judge: (f) => {
      const own = recovered(f, "noise-da");
      return own === undefined
        ? undefined
        : atMost(recovered(f, "frozen D"), Number((own / 2).toPrecision(3)));
    },
  },
  {
    name: "P4 adversaries",
    says: "Noise-DA at its best weight is above an adversary of pictures and DANN at theirs",
    judge: (f) =>
      all(above(f, tuned(f, "noise-da"), tuned(f, "gan")), above(f, tuned(f, "noise-da"), tuned(f, "dann"))),
  },
];

const absolute = (value: number | undefined): number | undefined => value && Math.abs(value);

/** Every rule on every domain; what was not measured is printed as such. */
export const verdictsOf = (found: Found): Verdict[] =>
  Object.entries(found).flatMap(([on, own]) => judged(RULES, on, own));

/** The sentence that follows from P1 and P2. */
function sentenceOf(on: string, verdicts: readonly Verdict[]): string | undefined {
  const holds = (name: string) => verdicts.find((v) => v.on === on && v.name.startsWith(name))?.judged?.holds;
  const [gap, adapts, more] = ["there is a gap", "P1", "P2"].map(holds);
  if (gap === undefined) return undefined;
  if (!gap) return `${on}: the gap is under ${ADMITTED} dB, so that it decides nothing.`;
  if (adapts === undefined) return `${on}: there is a gap; adaptation was not measured.`;
  if (!adapts) return `${on}: Noise-DA does not adapt as claimed.`;
  if (more === undefined) return `${on}: Noise-DA adapts.`;
  return more
    ? `${on}: Noise-DA adapts, and more than a tuned total variation penalty.`
    : `${on}: Noise-DA adapts, but no more than a tuned total variation penalty.`;
}

/** What was found, domain by domain. */
export const findingOf = (found: Found, verdicts: readonly Verdict[]): string =>
  Object.keys(found)
    .flatMap((on) => sentenceOf(on, verdicts) ?? [])
    .join(" ");

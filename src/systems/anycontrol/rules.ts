/** What the study expects, from the specification, written before measuring. Rows are compared in pairs of test scenes. */
import {
  all,
  atLeast,
  atMost,
  exceeds,
  type Judged,
  mean,
  numberText,
  type Rule,
} from "../../study/index.ts";
import type { ArmName } from "./arms.ts";
import type { Asking, Scores } from "./measure.ts";

/** What is compared: arms, four single ControlNets together, no condition at all, real pictures. */
export type Row =
  | Exclude<ArmName, "edge" | "depth" | "seg" | "pose">
  | "summed"
  | "averaged"
  | "none"
  | "real";

/** Everything that was measured, averaged over seeds. */
export interface Found {
  readonly scores: Readonly<Partial<Record<Row, Readonly<Partial<Record<Asking, Scores>>>>>>;
  /** Largest change of a picture in [-1, 1] when its conditions change places. */
  readonly permutation?: number | undefined;
  /** Milliseconds of a step of the base alone, and with the adapter. */
  readonly cost?: { readonly base: number; readonly steered: number } | undefined;
}

const at = (found: Found, row: Row, asking: Asking = "unaligned"): Scores | undefined =>
  found.scores[row]?.[asking];

/** The better of the two ways to combine single ControlNets. */
export const bestMulti = (found: Found): Scores | undefined => {
  const both = [at(found, "summed"), at(found, "averaged")].filter((one) => one !== undefined);
  return both.length < 2 ? undefined : both.toSorted((a, b) => mean(b.foreground) - mean(a.foreground))[0];
};

/** Either of two findings is enough. */
const either = (a: Judged | undefined, b: Judged | undefined): Judged | undefined =>
  a && b ? { measured: `${a.measured}; ${b.measured}`, holds: a.holds || b.holds } : undefined;

const less = (value: number | undefined, other: number | undefined, factor = 1): Judged | undefined =>
  value === undefined || other === undefined
    ? undefined
    : { measured: `${numberText(value)} against ${numberText(other)}`, holds: value < factor * other };

const better =
  (row: Row) =>
  (found: Found): Judged | undefined =>
    exceeds(at(found, "full")?.foreground, at(found, row)?.foreground);

const part = (row: Row, name: string): Rule<Found> => ({
  name,
  says: `without it (${row}) the overlap with the near thing is lower`,
  judge: better(row),
});

/** All rules. */
export const RULES: readonly Rule<Found>[] = [
  {
    name: "(i) against Multi-ControlNet",
    says: "the overlap with the near thing is 10 % above that of the better Multi-ControlNet, the Fréchet distance at most 0.9 times its, the background's mIoU at least 0.97 times",
    judge: (found) => {
      const [own, other] = [at(found, "full"), bestMulti(found)];
      return all(
        exceeds(own?.foreground, other?.foreground, { atLeast: other ? 0.1 * mean(other.foreground) : 0 }),
        less(own?.frechet, other?.frechet, 0.9),
        own && other
          ? atLeast(mean(own.background), Number((0.97 * mean(other.background)).toPrecision(4)))
          : undefined,
      );
    },
  },
  {
    name: "(ii) unaligned pairs",
    says: "without them the overlap with the near thing is lower, or the Fréchet distance larger",
    judge: (found) => {
      const [own, other] = [at(found, "full"), at(found, "-unaligned")];
      return either(exceeds(own?.foreground, other?.foreground), less(own?.frechet, other?.frechet));
    },
  },
  {
    name: "(iii) one model for 1 to 4 conditions",
    says: "with one condition the background's mIoU is at least 0.9 times that of a ControlNet of its own; with 2, 3 and 4 it is above that of no condition",
    judge: (found) => {
      const [own, single, none] = [
        at(found, "full", "background"),
        at(found, "summed", "background"),
        at(found, "none", "none"),
      ];
      const more = (["two", "three", "four"] as const).map((asking) => at(found, "full", asking));
      return all(
        own && single
          ? atLeast(mean(own.background), Number((0.9 * mean(single.background)).toPrecision(4)))
          : undefined,
        ...more.map((one) => exceeds(one?.background, none?.background)),
      );
    },
  },
  {
    name: "(iv) a set",
    says: "the order of the conditions changes no value of a picture by 1e-4",
    judge: ({ permutation }) => atMost(permutation, 1e-4),
  },
  {
    name: "it follows",
    says: "the overlap with the near thing is 0.1 or more above that of no condition",
    judge: (found) =>
      exceeds(at(found, "full")?.foreground, at(found, "none", "none")?.foreground, { atLeast: 0.1 }),
  },
  {
    name: "the architecture, not the data",
    says: "the overlap with the near thing is above that of four ControlNets trained jointly on the same unaligned pairs",
    judge: better("joint"),
  },
  {
    name: "the architecture, not the data, again",
    says: "it is above that of Uni-ControlNet on the same unaligned pairs",
    judge: better("uni, unaligned"),
  },
  part("-alignment", "alignment"),
  part("-fusion", "fusion"),
  part("one level", "levels"),
  part("-shared P", "shared positions"),
  {
    name: "cost",
    says: "the adapter adds at most half to the time of a sampling step",
    judge: ({ cost }) => atMost(cost && cost.steered / cost.base - 1, 0.5),
  },
];

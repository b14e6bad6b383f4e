/** What the study expects, from the specification, written before measuring. Arms are compared in pairs of test pictures. */
import { all, atLeast, atMost, exceeds, type Judged, mean, type Rule } from "../../study/index.ts";
import type { ArmName } from "./arms.ts";
import { BANDS, bandName } from "./train.ts";

/** Scores of every test picture, averaged over seeds, by arm; "input" is the degraded picture, "start" the network all begin with. */
export interface SetScores {
  readonly psnr: readonly number[];
  readonly ssim: readonly number[];
  readonly detail: readonly number[];
  readonly lpips?: readonly number[];
}

/** How rooms are recognised: divergence of a classifier's answers from those of the clean room, and whether they are the same. */
export interface Recognition {
  readonly divergence: readonly number[];
  readonly agreement: readonly number[];
}

export type Row = ArmName | "input" | "start";
export type SetName = "our own pictures" | "photographs";

/** What was measured of a task. */
export interface TaskFound {
  readonly scores: Readonly<Partial<Record<SetName, Readonly<Partial<Record<Row, SetScores>>>>>>;
  readonly recognition: Readonly<Partial<Record<Row, Recognition>>>;
  /** Largest difference of a weight between the arms "detached" and "pixels", over seeds. */
  readonly detachedGap?: number;
  /** Milliseconds of a training step. */
  readonly stepTimes: Readonly<Partial<Record<ArmName, number>>>;
}

export interface Found {
  /** Error of the prior's noise on rooms, by band. */
  readonly gate: Readonly<Record<string, number>> | undefined;
  readonly tasks: Readonly<Record<string, TaskFound>>;
}

/** Errors that a sufficient prior has on rooms, and how much larger they may be. */
export const GATE = [0.2, 0.065, 0.018, 0.003] as const;
export const GATE_SLACK = 1.5;

const scoresOf = (found: TaskFound, set: SetName, row: Row): SetScores | undefined =>
  found.scores[set]?.[row];

/** a's LPIPS is below b's, in pairs, by at least this share of b's. */
function closer(found: TaskFound, set: SetName, a: Row, b: Row, share = 0): Judged | undefined {
  const [own, other] = [scoresOf(found, set, a)?.lpips, scoresOf(found, set, b)?.lpips];
  return exceeds(other, own, { atLeast: other ? share * mean(other) : 0 });
}

/** PSNR of a is at most so many decibels below that of b: the whole interval. */
function notWorse(found: TaskFound, set: SetName, a: Row, b: Row, slack: number): Judged | undefined {
  return exceeds(scoresOf(found, set, a)?.psnr, scoresOf(found, set, b)?.psnr, { atLeast: -slack });
}

/** Rules of one task on one set. */
export const taskRules = (set: SetName): readonly Rule<TaskFound>[] => [
  {
    name: "naturalness",
    says: "DiffLoss lowers LPIPS by 1 % or more against L1 alone, and costs at most 0.1 dB",
    judge: (f) => all(closer(f, set, "full", "pixels", 0.01), notWorse(f, set, "full", "pixels", 0.1)),
  },
  {
    name: "the learned prior matters",
    says: "DiffLoss has a lower LPIPS than the gradient loss without a network, and than an untrained prior",
    judge: (f) => all(closer(f, set, "full", "gradient"), closer(f, set, "full", "random prior")),
  },
  {
    name: "equal arithmetic",
    says: "DiffLoss has a lower LPIPS than L1 alone for as much arithmetic",
    judge: (f) => closer(f, set, "full", "longer"),
  },
  {
    name: "perceptual rival",
    says: "DiffLoss has a lower LPIPS than the features of a classifier as a loss",
    judge: (f) => closer(f, set, "full", "perceptual"),
  },
];

/** Rules of one task, whatever the set. */
export const OWN_RULES: readonly Rule<TaskFound>[] = [
  {
    name: "semantics",
    says: "rooms restored with DiffLoss are recognised as the clean ones are more often than with L1 alone, by a point or more, and their divergence is lower",
    judge: ({ recognition: r }) =>
      all(
        exceeds(r.full?.agreement, r.pixels?.agreement, { atLeast: 0.01 }),
        exceeds(r.pixels?.divergence, r.full?.divergence),
      ),
  },
  {
    name: "no gradient, no effect",
    says: "without its gradient the training is that of L1 alone, to the last bit",
    judge: ({ detachedGap }) => atMost(detachedGap, 0),
  },
  {
    name: "it restores",
    says: "L1 alone is 3 dB or more better than the degraded picture",
    judge: (f) => {
      const [own, input] = (["pixels", "input"] as const).map(
        (row) => scoresOf(f, "our own pictures", row)?.psnr,
      );
      return own && input ? atLeast(mean(own) - mean(input), 3) : undefined;
    },
  },
];

export const GATE_RULES: readonly Rule<Found>[] = [
  {
    name: "gate of the prior",
    says: `the errors of its noise on rooms are at most ${GATE_SLACK} times ${GATE.join(", ")} in the four bands of t`,
    judge: ({ gate }) =>
      all(
        ...BANDS.map((band, i) =>
          atMost(gate?.[bandName(band)], Number((GATE_SLACK * GATE[i]!).toPrecision(6))),
        ),
      ),
  },
];

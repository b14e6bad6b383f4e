/**
 * The strip of ablations: how much of a batch stays clean, how much of the noised pictures is hidden, and whether class
 * tokens begin at random or at zero.
 */
import { lineChart } from "../../report/index.ts";
import { type Judged, NOT_MEASURED, numberText, type Rule } from "../../study/index.ts";
import type { Chart } from "../../work.ts";
import { MIXTURES, type Mixture } from "./method.ts";
import type { Found } from "./results.ts";
import { VARIANTS, type Variant } from "./runs.ts";

/** Shares of clean pictures. */
const CLEAN_SHARES = [0, 0.25, 0.5, 0.75, 1] as const;
/** Hidden shares of noised pictures. */
const NOISED_MASKS = [0, 0.375, 0.5] as const;

/** Without noised pictures it does not matter how much of them is hidden. */
const same = (a: Mixture, b: Mixture): boolean =>
  a.cleanShare === b.cleanShare && (a.cleanShare === 1 || a.noisedMask === b.noisedMask);

/** A point of the grid: the method of that mixture where there is one, so that it is not trained again. */
function variantAt(cleanShare: number, noisedMask: number): readonly [name: string, Variant] {
  const mixture: Mixture = { cleanShare, noisedMask, cleanMask: 0.75 };
  const known = Object.entries(VARIANTS).find(
    ([, variant]) => variant.conditioning === "adaLN" && same(variant.mixture, mixture),
  );
  return known ?? [`r${cleanShare}-m${noisedMask}`, { mixture, conditioning: "adaLN" }];
}

const nameAt = (cleanShare: number, noisedMask: number): string => variantAt(cleanShare, noisedMask)[0];

/** UMD with class tokens as released. */
const ZERO_TOKENS = "UMD-zero-class-tokens";

/** Thirteen mixtures, then class tokens from zero. */
export const ABLATION: Readonly<Record<string, Variant>> = {
  ...Object.fromEntries(CLEAN_SHARES.flatMap((r) => NOISED_MASKS.map((m) => variantAt(r, m)))),
  [ZERO_TOKENS]: { ...VARIANTS.UMD, zeroClassTokens: true },
};

/** At least a share of all pairs of the sequence rises. */
function trend(values: readonly (number | undefined)[], least: number): Judged | undefined {
  if (!values.every((value) => value !== undefined)) return undefined;
  const steps = values.flatMap((a, i) => values.slice(i + 1).map((b) => b - a));
  const rising = steps.filter((step) => step > 0).length;
  const listed = values.map((value) => numberText(value)).join(", ");
  return {
    measured: `${listed}: ${rising} of ${steps.length} pairs rise`,
    holds: rising >= least * steps.length,
  };
}

const late = CLEAN_SHARES.filter((r) => r >= MIXTURES.umd.cleanShare);

/** Expected for every m_n: the probe rises with r, and from the method's r on the samples become worse. */
export const ABLATION_RULES: readonly Rule<Found>[] = [
  ...NOISED_MASKS.map((m) => ({
    name: `probe, m_n ${m}`,
    says: "the probe on all labels rises with r in at least 8 of 10 pairs",
    judge: (f: Found) =>
      trend(
        CLEAN_SHARES.map((r) => f.probe(nameAt(r, m), "all")),
        0.8,
      ),
  })),
  ...NOISED_MASKS.map((m) => ({
    name: `samples, m_n ${m}`,
    says: `the distance grows from r ${late[0]} to 1 in all pairs`,
    judge: (f: Found) =>
      trend(
        late.map((r) => f.distance(nameAt(r, m))),
        1,
      ),
  })),
];

/** What class tokens from random are worth; nothing was expected of them. */
export function tokensText({ probe, distance }: Found): string {
  const [a, b] = [probe("UMD", "all"), probe(ZERO_TOKENS, "all")];
  const [c, d] = [distance("UMD"), distance(ZERO_TOKENS)];
  const points =
    a === undefined || b === undefined ? NOT_MEASURED : `${numberText(a - b)} points in the probe`;
  const ratio = c === undefined || d === undefined ? NOT_MEASURED : `${numberText(c / d)} times the distance`;
  return `Class tokens that begin at random instead of at zero: ${points}, ${ratio}.`;
}

/** Accuracy of the probe by the clean share, a line for every hidden share of noised pictures. */
export function ablationChart({ probe }: Found): readonly Chart[] {
  const series = NOISED_MASKS.map((m) => ({
    name: `m_n ${m}`,
    x: CLEAN_SHARES,
    y: CLEAN_SHARES.map((r) => probe(nameAt(r, m), "all") ?? Number.NaN),
  }));
  if (!series.some(({ y }) => y.some(Number.isFinite))) return [];
  const caption = "Ridge probe on all labels, %, by the share r of clean pictures.";
  const svg = lineChart(series, { title: caption, xLabel: "r", yLabel: "accuracy, %" });
  return [{ name: "probe-by-clean-share", caption, svg }];
}

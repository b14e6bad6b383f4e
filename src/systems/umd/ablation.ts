/**
 * The strip of ablations: how much of a batch stays clean, how much of the noised pictures is hidden, and whether class
 * tokens begin at random or at zero.
 */
import type { Table } from "../../report/index.ts";
import { type ExperimentResult, type RunResult, VARIANTS, type Variant } from "./experiment.ts";
import { MIXTURES, type Mixture } from "./objective.ts";
import { mean, resultTable, type Verdict } from "./tables.ts";

/** Shares of clean pictures. */
export const CLEAN_SHARES = [0, 0.25, 0.5, 0.75, 1] as const;
/** Hidden shares of noised pictures. */
export const NOISED_MASKS = [0, 0.375, 0.5] as const;

/** Without noised pictures it does not matter how much of them is hidden. */
const same = (a: Mixture, b: Mixture): boolean =>
  a.cleanShare === b.cleanShare && (a.cleanShare === 1 || a.noisedMask === b.noisedMask);

/** A point of the grid: the method of that mixture where there is one, so that it is not trained again. */
export function variantAt(cleanShare: number, noisedMask: number): Variant {
  const mixture: Mixture = { cleanShare, noisedMask, cleanMask: 0.75 };
  const named = VARIANTS.find((known) => known.conditioning === "adaLN" && same(known.mixture, mixture));
  return named ?? { name: `r${cleanShare}-m${noisedMask}`, mixture, conditioning: "adaLN" };
}

/** UMD with class tokens as released. */
const ZERO_TOKENS: Variant = {
  name: "UMD-zero-class-tokens",
  mixture: MIXTURES.umd,
  conditioning: "adaLN",
  zeroClassTokens: true,
};

/** Thirteen mixtures, then class tokens from zero. */
export const ABLATION: readonly Variant[] = [
  ...new Set(CLEAN_SHARES.flatMap((r) => NOISED_MASKS.map((m) => variantAt(r, m)))),
  ZERO_TOKENS,
];

/** Every mixture with its probes, generation, arithmetic and time; floors and ceiling below. */
export const ablationTable = (result: ExperimentResult, pixels: Readonly<Record<string, number>>): Table =>
  resultTable(["model", "clean, r", "hidden of noised, m_n"], result, pixels, (name) => {
    const { cleanShare, noisedMask } = ABLATION.find((variant) => variant.name === name)!.mixture;
    return [name, String(cleanShare), cleanShare === 1 ? "" : String(noisedMask)];
  });

type Reading = (run: RunResult) => number | undefined;
const probe: Reading = ({ best }) => best.all;
const distance: Reading = ({ quality }) => Object.values(quality)[0]?.fid;

/** How many pairs of a sequence rise, of how many. */
function risingPairs(values: readonly number[]): { rising: number; pairs: number } {
  const steps = values.flatMap((a, i) => values.slice(i + 1).map((b) => b - a));
  return { rising: steps.filter((step) => step > 0).length, pairs: steps.length };
}

/** Whether at least a share of the pairs along r rises; the values are means over seeds. */
function trend(criterion: string, values: readonly number[], digits: number, least: number): Verdict {
  if (!values.every(Number.isFinite)) return { criterion, measured: "not measured", passed: undefined };
  const { rising, pairs } = risingPairs(values);
  const measured = `${values.map((v) => v.toFixed(digits)).join(", ")}: ${rising} of ${pairs}`;
  return { criterion, measured, passed: rising >= least * pairs };
}

/**
 * What was expected, for every m_n: the probe rises with r (one pair in five may be out of order, as seeds differ), and
 * from the method's r on the samples become worse. Of class tokens nothing was expected.
 */
export function ablationVerdicts({ runs }: ExperimentResult): Verdict[] {
  const of = ({ name }: Variant, reading: Reading): number =>
    mean(runs.filter((run) => run.variant === name).map((run) => reading(run) ?? Number.NaN));
  const along = (shares: readonly number[], m: number, reading: Reading): number[] =>
    shares.map((r) => of(variantAt(r, m), reading));
  const late = CLEAN_SHARES.filter((r) => r >= MIXTURES.umd.cleanShare);
  const umd = variantAt(MIXTURES.umd.cleanShare, MIXTURES.umd.noisedMask);
  const tokens = (criterion: string, value: number, digits: number): Verdict => ({
    criterion,
    measured: Number.isFinite(value) ? value.toFixed(digits) : "not measured",
    passed: undefined,
  });
  return [
    ...NOISED_MASKS.map((m) =>
      trend(
        `probe rises with r at m_n ${m}, all labels, %: at least 8 of 10 pairs in order`,
        along(CLEAN_SHARES, m, probe).map((v) => 100 * v),
        1,
        0.8,
      ),
    ),
    ...NOISED_MASKS.map((m) =>
      trend(
        `FID-like worsens from r ${late[0]} to 1 at m_n ${m}: all pairs in order`,
        along(late, m, distance),
        1,
        1,
      ),
    ),
    tokens(
      "class tokens from random over from zero, probe, all labels, points",
      100 * (of(umd, probe) - of(ZERO_TOKENS, probe)),
      1,
    ),
    tokens(
      "class tokens from random over from zero, FID-like, ratio",
      of(umd, distance) / of(ZERO_TOKENS, distance),
      2,
    ),
  ];
}

/** The tables of the claim, and what those of the ablations share with them. */
import type { Table } from "../../report/index.ts";
import type { ExperimentResult, RunResult } from "./experiment.ts";
import type { StepTime } from "./speed.ts";

/** Arithmetic mean; NaN of nothing. */
export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean, and half the spread where there are several seeds. */
function cell(values: readonly number[], digits: number): string {
  if (values.length === 0 || values.some((v) => !Number.isFinite(v))) return "–";
  const centre = mean(values).toFixed(digits);
  if (values.length === 1) return centre;
  const m = mean(values);
  const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - m) ** 2, 0) / (values.length - 1));
  return `${centre} ± ${deviation.toFixed(digits)}`;
}

const byVariant = (runs: readonly RunResult[]): Map<string, RunResult[]> => {
  const groups = new Map<string, RunResult[]>();
  for (const run of runs) groups.set(run.variant, [...(groups.get(run.variant) ?? []), run]);
  return groups;
};

const percent = (values: readonly number[]): string =>
  cell(
    values.map((v) => 100 * v),
    1,
  );

/** Probes, generation, arithmetic and time, a row for every variant under `heads`; floors and ceiling below. */
export function resultTable(
  heads: readonly string[],
  result: ExperimentResult,
  pixels: Readonly<Record<string, number>>,
  headed: (variant: string) => readonly string[],
): Table {
  const guidances = [...new Set(result.runs.flatMap((run) => Object.keys(run.quality)))];
  const columns = [
    ...heads,
    "10-shot %",
    "100-shot %",
    "all labels %",
    "hidden MSE",
    ...guidances.flatMap((w) => [`FID-like, w ${w}`, `IS-like, w ${w}`, `label seen %, w ${w}`]),
    "steps",
    "TFLOP",
    "seconds",
  ];
  const blank = columns.length - heads.length - 3;
  const titled = (name: string): string[] => [name, ...Array(heads.length - 1).fill("")];
  const floor = (name: string, found: Readonly<Record<string, number>>): string[] => [
    ...titled(name),
    ...["10-shot", "100-shot", "all"].map((shots) => percent([found[shots] ?? Number.NaN])),
    ...Array(blank).fill(""),
  ];
  const rows = [...byVariant(result.runs)].map(([name, runs]) => [
    ...headed(name),
    ...["10-shot", "100-shot", "all"].map((shots) => percent(runs.map((run) => run.best[shots]!))),
    cell(
      runs.map((run) => run.hiddenError),
      4,
    ),
    ...guidances.flatMap((w) => {
      const quality = runs.flatMap((run) => run.quality[w] ?? []);
      return [
        cell(
          quality.map((q) => q.fid),
          2,
        ),
        cell(
          quality.map((q) => q.is),
          2,
        ),
        percent(quality.map((q) => q.agreement ?? Number.NaN)),
      ];
    }),
    String(Math.round(mean(runs.map((run) => run.steps)))),
    cell(
      runs.map((run) => run.gigaflops / 1000),
      1,
    ),
    cell(
      runs.map((run) => run.seconds),
      0,
    ),
  ]);
  const real = guidances.flatMap(() => [result.realFid.toFixed(2), "", ""]);
  return {
    columns,
    rows: [
      ...rows,
      floor("untrained features", result.untrained),
      floor("raw pixels", pixels),
      [...titled("training pictures"), "", "", "", "", ...real, "", "", ""],
      [
        ...titled("supervised classifier"),
        "",
        "",
        percent([result.classifierAccuracy]),
        ...Array(blank).fill(""),
      ],
    ],
  };
}

/** Every method. */
export const claimTable = (result: ExperimentResult, pixels: Readonly<Record<string, number>>): Table =>
  resultTable(["model"], result, pixels, (name) => [name]);

/** Every reading of every model: where the best ones come from. */
export function readingsTable({ runs }: ExperimentResult): Table {
  const rows = [...byVariant(runs)].flatMap(([name, of]) =>
    of[0]!.probes.map(({ at, pooling }, k) => [
      name,
      at === "clean" ? "t = 0" : "index 50",
      pooling === "representation" ? "class tokens" : "mean of tokens",
      ...["10-shot", "100-shot", "all"].map((shots) =>
        percent(of.map((run) => run.probes[k]!.accuracies[shots]!)),
      ),
    ]),
  );
  return { columns: ["model", "pictures", "features", "10-shot %", "100-shot %", "all labels %"], rows };
}

export interface Verdict {
  readonly criterion: string;
  readonly measured: string;
  readonly passed: boolean | undefined;
}

/** The pass rule of the miniature, on means over seeds. */
export function verdicts({ runs }: ExperimentResult): Verdict[] {
  const groups = byVariant(runs);
  const of = (name: string, f: (run: RunResult) => number | undefined): number =>
    mean((groups.get(name) ?? []).map((run) => f(run) ?? Number.NaN));
  const gap = (other: string, shots: string): number =>
    100 * (of("UMD", (run) => run.best[shots]) - of(other, (run) => run.best[shots]));
  const quality = (name: string, key: "fid" | "agreement"): number =>
    of(name, (run) => Object.values(run.quality)[0]?.[key]);
  const ratio = (other: string): number => quality("UMD", "fid") / quality(other, "fid");
  const flops = of("UMD", (run) => run.gigaflops / run.steps) / of("DiT", (run) => run.gigaflops / run.steps);
  const agreement = 100 * (quality("UMD", "agreement") - quality("DiT", "agreement"));
  const rule = (
    criterion: string,
    value: number,
    digits: number,
    holds: (v: number) => boolean,
  ): Verdict => ({
    criterion,
    measured: Number.isFinite(value) ? value.toFixed(digits) : "not measured",
    passed: Number.isFinite(value) ? holds(value) : undefined,
  });
  return [
    rule("A: probe over DiT, all labels, at least 3 points", gap("DiT", "all"), 1, (v) => v >= 3),
    rule("A: probe over DiT, 100 shots, at least 2 points", gap("DiT", "100-shot"), 1, (v) => v >= 2),
    rule("A: probe over MaskDiT, all labels, at least 1 point", gap("MaskDiT", "all"), 1, (v) => v >= 1),
    rule("B: FID-like over DiT's, at most 1.3", ratio("DiT"), 2, (v) => v <= 1.3),
    rule("B: FID-like over MAE's, at most 0.85", ratio("MAE"), 2, (v) => v <= 0.85),
    rule("B: labels seen, within 5 points of DiT's", agreement, 1, (v) => v >= -5),
    rule("C: arithmetic of a step over DiT's, at most 0.7", flops, 2, (v) => v <= 0.7),
    rule("D: probe over MAE, all labels, at least -6 points", gap("MAE", "all"), 1, (v) => v >= -6),
  ];
}

/** Criteria with what was measured. */
export const verdictTable = (all: readonly Verdict[]): Table => ({
  columns: ["criterion", "measured", "holds"],
  rows: all.map(({ criterion, measured, passed }) => [
    criterion,
    measured,
    passed === undefined ? "–" : passed ? "yes" : "no",
  ]),
});

export function speedTable(times: readonly StepTime[]): Table {
  const base = times[0]!;
  return {
    columns: ["batch", "ms per step", "of DiT's time", "GFLOP", "of DiT's GFLOP"],
    rows: times.map(({ name, milliseconds, gigaflops }) => [
      name,
      milliseconds.toFixed(1),
      (milliseconds / base.milliseconds).toFixed(2),
      gigaflops.toFixed(1),
      (gigaflops / base.gigaflops).toFixed(2),
    ]),
  };
}

/** Tables of a study, and what they say of the claim. */
import type { Table } from "../../report/index.ts";
import { type Condition, cellName, searchName, searchOf } from "./cells.ts";
import type { Deployed } from "./deploy.ts";
import type { CellResult, SearchResult } from "./experiment.ts";
import type { LayerTime } from "./layer-speed.ts";

const fixed = (x: number | null | undefined, digits = 2): string =>
  x === null || x === undefined || !Number.isFinite(x) ? "–" : x.toFixed(digits);
const bitsOf = ({ method, weights, activations }: CellResult): string =>
  method === "fp32" ? "fp32" : `W${weights}A${activations}`;
const groupsOf = ({ groups }: CellResult): string => (groups === "none" ? "–" : String(groups));

/** Errors of single predictions for one condition: a row for each method, a column for each bits. */
export function errorTable(results: readonly CellResult[], condition: Condition): Table {
  const own = results.filter(
    (r) =>
      r.condition === condition &&
      r.steps === undefined &&
      r.method !== "fp32" &&
      (typeof r.groups === "number" || r.groups === "none"),
  );
  const bits = [...new Set(own.map(bitsOf))];
  const rows = [...new Set(own.map((r) => `${r.method}|${groupsOf(r)}`))];
  return {
    columns: ["method", "group", ...bits],
    rows: rows.map((row) => {
      const [method, group] = row.split("|") as [string, string];
      const at = (b: string) => own.find((r) => `${r.method}|${groupsOf(r)}` === row && bitsOf(r) === b);
      return [method, group, ...bits.map((b) => fixed(at(b)?.predictionRatio))];
    }),
  };
}

/** The same over slices of the steps, at W4A8. */
export function sliceTable(results: readonly CellResult[], condition: Condition): Table {
  const own = results.filter(
    (r) => r.condition === condition && r.steps === undefined && r.weights === 4 && r.activations === 8,
  );
  return {
    columns: ["method", "group", "noisiest third", "middle third", "cleanest third"],
    rows: own.map((r) => [r.method, groupsOf(r), ...r.slices.map((s) => fixed(s))]),
  };
}

/** Quality of pictures for one condition. */
export function qualityTable(results: readonly CellResult[], condition: Condition): Table {
  const own = results.filter((r) => r.condition === condition && r.quality && r.steps === undefined);
  return {
    columns: [
      "method",
      "bits",
      "group",
      "FD, mean of seeds",
      "95 % interval",
      "by seed",
      "label agreement",
      "PSNR to fp32 / dB",
      "prediction SQNR / dB",
    ],
    rows: own.map((r) => [
      r.method,
      bitsOf(r),
      groupsOf(r),
      fixed(r.quality!.mean),
      r.quality!.interval.map((v) => fixed(v)).join(" to "),
      r.quality!.distances.map((v) => fixed(v)).join(", "),
      fixed(r.quality!.agreement, 3),
      fixed(r.quality!.ratio, 1),
      fixed(r.predictionRatio),
    ]),
  };
}

/** Quality of pictures against the number of DDIM steps: a row for each method. */
export function stepsTable(results: readonly CellResult[]): Table {
  const own = results.filter((r) => r.condition === "natural" && r.quality && r.steps !== undefined);
  const counts = [...new Set(own.map((r) => r.settings.steps))].sort((a, b) => a - b);
  const key = (r: CellResult): string => `${r.method}|${bitsOf(r)}|${groupsOf(r)}`;
  const rows = [...new Set(own.map(key))];
  const at = (row: string, steps: number) => own.find((r) => key(r) === row && r.settings.steps === steps);
  return {
    columns: ["method", "bits", "group", ...counts.map((n) => `${n} steps: FD, label agreement, PSNR / dB`)],
    rows: rows.map((row) => [
      ...row.split("|"),
      ...counts.map((n) => {
        const quality = at(row, n)?.quality;
        return quality
          ? `${fixed(quality.mean)}, ${fixed(quality.agreement, 3)}, ${fixed(quality.ratio, 1)}`
          : "–";
      }),
    ]),
  };
}

export const deployTable = (models: readonly Deployed[]): Table => ({
  columns: [
    "model",
    "file / bytes",
    "of f32",
    "tensors / bytes",
    "peak of a process / MiB",
    "ONNX / bytes",
    "ms per step",
    "real against simulated / dB",
    "against fp32 / dB",
  ],
  rows: models.map((m) => [
    m.name,
    String(m.fileBytes),
    fixed(m.share, 3),
    String(m.memoryBytes),
    fixed(m.peakBytes / 2 ** 20, 0),
    String(m.onnxBytes),
    fixed(m.milliseconds, 1),
    fixed(m.agreement, 1),
    fixed(m.ratio, 1),
  ]),
});

export const speedTable = (times: readonly LayerTime[]): Table => ({
  columns: ["layer", "median / ms", "quartiles / ms", "speed-up", "ONNX / bytes", "of f32"],
  rows: times.map((t) => [
    t.name,
    fixed(t.median),
    t.quartiles.map((q) => fixed(q)).join(" to "),
    fixed(t.speedup),
    String(t.bytes),
    fixed(t.bytes / times[0]!.bytes, 3),
  ]),
});

export const searchTable = ({ history }: SearchResult): Table => ({
  columns: ["generation", "best distance", "evaluated in all"],
  rows: history.map(({ generation, best, evaluated }) => [
    String(generation),
    fixed(best),
    String(evaluated),
  ]),
});

/** Results of searches by `searchName`. */
export type Searches = ReadonlyMap<string, SearchResult>;

/** One statement of the claim and whether the numbers bear it out. */
export interface Verdict {
  readonly statement: string;
  readonly measured: string;
  readonly holds: boolean;
}

/** Ties of predictions within this many decibels count as equal. */
const TIE = 0.3;

/** Where searched sizes stand against uniform ones. */
const JUDGED = [
  { cell: "natural-group-dynamic-w4a8-gsearched", about: "natural, to nearest, searched to nearest" },
  { cell: "natural-q-dit-w4a8-gsearched", about: "natural, GPTQ, searched to nearest" },
  { cell: "natural-q-dit-w4a8-gsearched-gptq", about: "natural, GPTQ, searched with GPTQ" },
  { cell: "stress-q-dit-w4a8-gsearched-gptq", about: "stress, GPTQ, searched with GPTQ" },
] as const;

/** The pass rules of the specification, as far as what was measured decides them. */
export function verdicts(results: readonly CellResult[], searches: Searches): Verdict[] {
  const named = new Map(results.map((r) => [cellName(r), r]));
  const found: Verdict[] = [];
  const natural = named.get("natural-fp32");
  const halfWidth = (r: CellResult): number => (r.quality!.interval[1] - r.quality!.interval[0]) / 2;
  for (const bits of ["w8a8", "w6a8", "w4a8"]) {
    const cell = named.get(`natural-q-dit-${bits}-g64`);
    if (!cell?.quality || !natural?.quality) continue;
    const margin = Math.max(0.05 * natural.quality.mean, halfWidth(natural));
    found.push({
      statement: `Q-DiT at ${bits.toUpperCase()}: distance at most that of fp32 + max(5 %, interval)`,
      measured: `${fixed(cell.quality.mean)} against ${fixed(natural.quality.mean)} + ${fixed(margin)}`,
      holds: cell.quality.mean <= natural.quality.mean + margin,
    });
  }
  for (const condition of ["natural", "stress"]) {
    const [naive, full] = [
      named.get(`${condition}-tensor-static-w4a8-gnone`),
      named.get(`${condition}-fp32`),
    ];
    if (naive?.quality && full?.quality)
      found.push({
        statement: `${condition}: naive W4A8 (one scale for a tensor, static) visibly fails: the intervals are apart`,
        measured: `${fixed(naive.quality.mean)} against ${fixed(full.quality.mean)}`,
        holds: naive.quality.interval[0] > full.quality.interval[1],
      });
  }
  for (const condition of ["natural", "stress"]) {
    const chain = [
      "tensor-static-w4a8-gnone",
      "channel-static-w4a8-gnone",
      "group-static-w4a8-g64",
      "group-dynamic-w4a8-g64",
    ];
    const cells = chain.map((name) => named.get(`${condition}-${name}`));
    if (cells.every((c) => c !== undefined)) {
      const ratios = cells.map((c) => c.predictionRatio ?? Number.NaN);
      found.push({
        statement: `${condition}, W4A8 predictions: tensor, channel, group static, group dynamic in rising order (ties within ${TIE} dB)`,
        measured: ratios.map((r) => fixed(r)).join(", "),
        holds: ratios.every((r, i) => i === 0 || r >= ratios[i - 1]! - TIE),
      });
    }
    const gap = condition === "natural" ? 3 : 8;
    for (const [order, about] of [
      ["", ""],
      ["-in-order", ", columns in their order, as released"],
    ] as const) {
      const [gptq, ours] = [
        named.get(`${condition}-gptq-static${order}-w4a8-gnone`),
        named.get(`${condition}-q-dit${order}-w4a8-g32`),
      ];
      if (!gptq || !ours) continue;
      found.push({
        statement: `${condition}, W4A8: GPTQ with groups of 32, dynamic, at least ${gap} dB over GPTQ by channel, static${about}`,
        measured: `${fixed(ours.predictionRatio)} and ${fixed(gptq.predictionRatio)}`,
        holds: (ours.predictionRatio ?? 0) >= (gptq.predictionRatio ?? 0) + gap,
      });
    }
    for (const bits of ["w4a8", "w3a8"]) {
      const [nearest, adapted] = [
        named.get(`${condition}-group-dynamic-${bits}-g64`),
        named.get(`${condition}-q-dit-${bits}-g64`),
      ];
      if (nearest && adapted)
        found.push({
          statement: `${condition}, ${bits.toUpperCase()}: GPTQ at least rounding to nearest`,
          measured: `${fixed(adapted.predictionRatio)} and ${fixed(nearest.predictionRatio)}`,
          holds: (adapted.predictionRatio ?? 0) >= (nearest.predictionRatio ?? 0),
        });
    }
  }
  for (const { cell: name, about } of JUDGED) {
    const searched = named.get(name);
    const uniform = searched && named.get(cellName({ ...searched, groups: 64 }));
    const search = searched && searches.get(searchName(searchOf(searched)));
    if (!search || !searched.quality || !uniform?.quality) continue;
    found.push({
      statement: `${about}: searched group sizes at most the distance of uniform ones at equal bit operations, on other seeds`,
      measured: `${fixed(searched.quality.mean)} and ${fixed(uniform.quality.mean)} (in the search ${fixed(search.fitness)} and ${fixed(search.uniformFitness)})`,
      holds: searched.quality.mean <= uniform.quality.mean,
    });
  }
  return found;
}

export const verdictTable = (all: readonly Verdict[]): Table => ({
  columns: ["statement", "measured", "holds"],
  rows: all.map(({ statement, measured, holds }) => [statement, measured, holds ? "yes" : "no"]),
});

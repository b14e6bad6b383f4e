/** What a reproduction leaves behind: tables, figures, one page. */
import { join } from "node:path";
import type { Dataset } from "../../data/index.ts";
import { type Picture, writeFileAtomic } from "../../io/index.ts";
import {
  grid,
  lineChart,
  overlay,
  reportHtml,
  type Section,
  type Table,
  tableMarkdown,
} from "../../report/index.ts";
import {
  honestSentence,
  scoreTable,
  stabilityTable,
  timeTable,
  type Verdict,
  verdictTable,
} from "./claims.ts";
import { predictWith } from "./evaluate.ts";
import { openSegmenter, type Segmenter } from "./infer.ts";
import { CURVE_STEPS, type SetResults, type Times } from "./measure.ts";
import type { SDSeg } from "./model.ts";
import type { Sample } from "./samples.ts";

/** Dice against steps, for both weights of the latent loss and both spacings. */
export function stepsChart(set: string, { scores }: SetResults): string {
  const curve = (variant: string, spacing: string) => {
    const steps = CURVE_STEPS.filter((s) => scores[`${variant} ddim-${s} ${spacing}`]);
    return {
      name: `${variant.replace("lambda-", "λ ")}, ${spacing}`,
      x: [1, ...steps],
      y: [
        scores[`${variant} direct`]!.dice,
        ...steps.map((s) => scores[`${variant} ddim-${s} ${spacing}`]!.dice),
      ],
    };
  };
  const measured = ["lambda-1", "lambda-0"].filter((v) => scores[`${v} direct`]);
  const series = measured.flatMap((v) => ["leading", "trailing"].map((s) => curve(v, s)));
  return lineChart(series, {
    title: set,
    width: 720,
    xLabel: "steps (1: direct)",
    yLabel: "Dice",
    logX: true,
    dots: true,
  });
}

/** The first channel of a sample as a gray picture. */
const grayOf = ({ width, height, image }: Sample): Picture => ({
  width,
  height,
  channels: 1,
  data: Uint8Array.from(image.subarray(0, width * height), (v) => Math.round((v + 1) * 127.5)),
});

/** Picture, truth, one step, fifty steps: the first four of the test split that have foreground. */
export async function examples(model: SDSeg, test: Dataset<Sample>): Promise<Picture> {
  const segmenter = openSegmenter(model);
  const rows: Picture[] = [];
  try {
    for (let i = 0; i < test.length && rows.length < 16; i++) {
      const sample = await test.get(i);
      if (!sample.labels.some((label) => label > 0)) continue;
      const picture = grayOf(sample);
      const [direct] = await predictWith(segmenter)([sample]);
      const [ddim] = await predictWith(segmenter, { mode: "ddim", steps: 50 })([sample]);
      rows.push(
        picture,
        ...[sample.labels, direct!.mask, ddim!.mask].map((labels) => overlay(picture, labels)),
      );
    }
  } finally {
    await segmenter.close();
  }
  return grid(rows, { columns: 4, scale: rows[0]!.width < 128 ? 2 : 1 });
}

/** Shapes of several classes: picture, truth, what one step for each class finds. */
export async function classExamples(segmenter: Segmenter, samples: readonly Sample[]): Promise<Picture> {
  const rows: Picture[] = [];
  for (const sample of samples) {
    const [found] = await predictWith(segmenter)([sample]);
    const picture = grayOf(sample);
    rows.push(picture, overlay(picture, sample.labels), overlay(picture, Int32Array.from(found!.mask)));
  }
  return grid(rows, { columns: 3, scale: 2 });
}

/** A demonstration of several classes. */
export interface ClassResults {
  readonly pictures: number;
  readonly names: readonly string[];
  /** Dice of each class. */
  readonly perClass: readonly number[];
  readonly dice: number;
}

/** Everything that was found, by set. */
export interface Findings {
  readonly results: ReadonlyMap<string, SetResults>;
  readonly times: ReadonlyMap<string, Times>;
  readonly found: ReadonlyMap<string, readonly Verdict[]>;
  readonly classes?: ClassResults;
  /** Figures for the page. */
  readonly sections: readonly Section[];
  /** Seeds, steps, date, command: one or two sentences. */
  readonly how: string;
}

/** The tables by title. */
export const tablesOf = ({ results, times, found, classes }: Findings): Readonly<Record<string, Table>> => ({
  "Pass rules": verdictTable(found),
  "Dice and IoU on the test splits": scoreTable(results),
  "Spread over seeds": stabilityTable(results),
  "Times of one picture": timeTable(times),
  ...(classes && {
    [`Three classes, one step each, on ${classes.pictures} pictures of shapes`]: {
      columns: ["class", "Dice"],
      rows: [...classes.names, "mean"].map((name, k) => [
        name,
        (classes.perClass[k] ?? classes.dice).toFixed(4),
      ]),
    },
  }),
});

/** Writes `results.md`, `results.json` and `report.html`; returns their names. */
export async function writeFindings(out: string, findings: Findings): Promise<readonly string[]> {
  const { results, times, found, classes, sections, how } = findings;
  const tables = Object.entries(tablesOf(findings));
  const sentence = honestSentence(results);
  const write = (name: string, text: string): Promise<void> =>
    writeFileAtomic(join(out, name), Buffer.from(text));
  const texts = tables.map(([title, table]) => `## ${title}\n\n${tableMarkdown(table)}\n`);
  await write("results.md", `# SDSeg, measured\n\n${how}\n\n${sentence}\n\n${texts.join("\n")}`);
  const json = {
    how,
    results: Object.fromEntries(results),
    times: Object.fromEntries(times),
    verdicts: Object.fromEntries(found),
    ...(classes && { classes }),
  };
  await write("results.json", `${JSON.stringify(json, null, 1)}\n`);
  const page: Section[] = [
    { text: how },
    { text: sentence },
    ...tables.flatMap(([heading, table]): Section[] => [{ heading }, { table }]),
    { heading: "Figures" },
    ...sections,
  ];
  await write("report.html", await reportHtml({ title: "SDSeg, measured", sections: page }));
  return ["results.md", "results.json", "report.html"];
}

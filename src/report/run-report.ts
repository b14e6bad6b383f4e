/** The history of a training run and its `report.html`: curves and samples, also of a run that was killed. */
import { appendFile, basename, join, readdir, readFile } from "#node";
import { FormatError } from "../errors.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import { decodePicture } from "../io/picture-codec.ts";
import { lineChart } from "./chart.ts";
import { reportHtml, type Section, type Table } from "./html.ts";

/** What was measured after a step: any finite or missing numbers by name. */
export type HistoryEntry = { readonly step: number } & Readonly<Record<string, number | null>>;

/** File of a training's history in its run folder. */
export const HISTORY_NAME = "history.jsonl";

/** Entries of a run in the order of their steps. A last line cut off by a kill is left out. */
export async function readHistory(run: string): Promise<HistoryEntry[]> {
  const text = await readFile(join(run, HISTORY_NAME), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  const lines = text.split("\n");
  const entries: HistoryEntry[] = [];
  for (const [i, line] of lines.entries()) {
    if (line === "") continue;
    try {
      entries.push(JSON.parse(line));
    } catch (cause) {
      if (i === lines.length - 1) break;
      throw new FormatError(`${join(run, HISTORY_NAME)}: line ${i + 1} is not JSON`, { cause });
    }
  }
  return entries;
}

/**
 * Appends to a run's history. `from` is the step that the run goes on from: later entries, of work that was lost, are
 * removed first.
 */
export async function openHistory(
  run: string,
  from = 0,
): Promise<{ append(entry: HistoryEntry): Promise<void> }> {
  const path = join(run, HISTORY_NAME);
  const kept = (await readHistory(run)).filter((entry) => entry.step <= from);
  await writeFileAtomic(
    path,
    Buffer.from(
      kept
        .map(
          (entry) => `${JSON.stringify(entry)}
`,
        )
        .join(""),
    ),
  );
  return { append: (entry) => appendFile(path, `${JSON.stringify(entry)}\n`) };
}

/** A smoothed copy: exponential mean with a half-life of 1/40 of the entries, so that noise does not hide the course. */
export function smoothed(values: readonly number[]): number[] {
  const keep = 0.5 ** (1 / Math.max(1, values.length / 40));
  let [mean, weight] = [0, 0];
  return values.map((value) => {
    mean = keep * mean + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
}

function curves(history: readonly HistoryEntry[]): Section[] {
  const names = [...new Set(history.flatMap((entry) => Object.keys(entry)))].filter(
    (name) => name !== "step",
  );
  return names.flatMap((name) => {
    const measured = history.filter((entry) => Number.isFinite(entry[name] ?? Number.NaN));
    if (measured.length === 0) return [];
    const steps = measured.map((entry) => entry.step);
    const values = measured.map((entry) => entry[name]!);
    const least = values.reduce((a, b) => Math.min(a, b));
    const most = values.reduce((a, b) => Math.max(a, b));
    const logY = least > 0 && most > 20 * least;
    const chart = lineChart(
      [
        { name: "each step", x: steps, y: values },
        ...(values.length > 40 ? [{ name: "smoothed", x: steps, y: smoothed(values) }] : []),
      ],
      { title: name, xLabel: "step", logY },
    );
    return [{ chart }];
  });
}

/** The last of the pictures in `samples/`, by name, newest first. */
async function samples(run: string, most: number): Promise<Section[]> {
  const names = await readdir(join(run, "samples")).catch(() => [] as string[]);
  const newest = names
    .filter((name) => name.endsWith(".png"))
    .sort()
    .reverse()
    .slice(0, most);
  return Promise.all(
    newest.map(async (name) => ({
      picture: await decodePicture(await readFile(join(run, "samples", name)), { name }),
      caption: name.replace(/\.png$/, ""),
    })),
  );
}

/** Writes `report.html` of a run directory: its settings, curves of its history, and its newest samples. */
export async function writeRunReport(
  run: string,
  {
    title = basename(run),
    settings,
    most = 8,
  }: { title?: string; settings?: Readonly<Record<string, unknown>>; most?: number } = {},
): Promise<string> {
  const history = await readHistory(run);
  const table: Table = {
    columns: ["setting", "value"],
    rows: Object.entries(settings ?? {}).map(([name, value]) => [
      name,
      typeof value === "string" ? value : JSON.stringify(value),
    ]),
  };
  const pictures = await samples(run, most);
  const path = join(run, "report.html");
  const sections: Section[] = [
    { text: history.length > 0 ? `${history.at(-1)!.step} steps` : "No steps yet" },
    ...(settings ? [{ table }] : []),
    ...(history.length > 0 ? [{ heading: "Curves" }, ...curves(history)] : []),
    ...(pictures.length > 0 ? [{ heading: "Samples" }, ...pictures] : []),
  ];
  await writeFileAtomic(path, Buffer.from(await reportHtml({ title, sections })));
  return path;
}

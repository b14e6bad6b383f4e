/** The tour: every system that can show something, one after the other. */
import { stat } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { AbortError, NonFiniteError, TweedieError } from "../errors.ts";
import { encodePicture } from "../io/index.ts";
import { shippedFile } from "../systems/shipped.ts";
import type { Paper, System } from "../systems/system.ts";
import type { Quality, Tour, TourResult } from "../systems/tour.ts";
import { sessionThreads } from "../tensor/index.ts";
import type { Figure, WorkEvent } from "../work.ts";
import { sheet } from "./sheet.ts";
import { type SystemRow, type TourSummary, tourSummary } from "./summary.ts";
import { trainingTour } from "./training/tour.ts";

/** A system's place in the tour: its tour, and what is said of it. */
export interface Stop {
  readonly name: string;
  readonly title: string;
  /** What it is, in a sentence. */
  readonly about: string;
  readonly origin?: string;
  readonly claim?: string;
  readonly tour: Tour;
}

/** What a stop shows, ready for files and pages. */
export type Exhibit =
  | {
      readonly type: "figure";
      readonly file: string;
      readonly png: Uint8Array;
      readonly figure: Figure;
      readonly width: number;
      readonly height: number;
    }
  | { readonly type: "chart"; readonly file: string; readonly svg: string; readonly caption: string }
  | Extract<WorkEvent, { type: "table" }>;

/** What is kept of what a tour tells. */
type Shown = Extract<WorkEvent, { type: "figure" | "chart" | "table" }>;

export interface Visit {
  readonly stop: Stop;
  readonly row: SystemRow;
  readonly exhibits: readonly Exhibit[];
}

export interface TourReport {
  readonly summary: TourSummary;
  readonly visits: readonly Visit[];
}

export type TourUpdate =
  | { readonly type: "begin"; readonly stop: Stop }
  | {
      readonly type: "progress";
      readonly stop: Stop;
      readonly stage: string;
      readonly done: number;
      readonly total: number;
    }
  | { readonly type: "end"; readonly stop: Stop; readonly row: SystemRow };

export interface TourOptions {
  readonly stops: readonly Stop[];
  readonly seed: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  /** Folder that the files of tours are looked for in. Default: where this package's lie. */
  readonly root?: string;
}

const sentence = (text: string): string => `${text[0]!.toUpperCase()}${text.slice(1)}.`;

function originText({ authors, title, venue, year, arxiv }: Paper): string {
  const number = arxiv && `arXiv ${arxiv}`;
  const where =
    venue === "arXiv" && number
      ? `${number} (${year})`
      : [`${venue} ${year}`, number].filter(Boolean).join(", ");
  return `${authors}: ${title}. ${where}.`;
}

/** All systems that have a tour, and at the end a training from nothing of so many steps. */
export function tourStops(systems: readonly System[], trainingSteps: number): Stop[] {
  const stops = systems.flatMap(({ name, title, about, paper, claim, tour }): Stop[] => {
    if (!tour) return [];
    return [{ name, title, about: sentence(about), origin: originText(paper), claim, tour }];
  });
  const training: Stop = {
    name: "training",
    title: "Training from nothing",
    about:
      "A small U-Net learns to remove noise from coloured shapes: every step is one run of one compiled graph, forward, backward and update together.",
    tour: trainingTour(trainingSteps),
  };
  return [...stops, training];
}

async function missingFiles(files: readonly string[], root: string | undefined): Promise<string[]> {
  const find = (file: string): Promise<unknown> =>
    root === undefined ? shippedFile(file) : stat(join(root, file));
  const there = await Promise.all(
    files.map((file) =>
      find(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  return files.filter((_, i) => !there[i]);
}

function reason(error: unknown): string {
  if (error instanceof TweedieError) return error.message;
  return error instanceof Error ? `${error.name}: ${error.message.split("\n")[0]}` : String(error);
}

async function exhibitOf({ name }: Stop, event: Shown): Promise<Exhibit> {
  if (event.type === "table") return event;
  const file = `${name}-${event.name}`;
  if (event.type === "chart")
    return { type: "chart", file: `${file}.svg`, svg: event.svg, caption: event.caption };
  const picture = sheet(event);
  const { width, height } = picture;
  const png = await encodePicture(picture);
  return { type: "figure", file: `${file}.png`, png, figure: event, width, height };
}

function checkQuality(quality: readonly Quality[]): void {
  const bad = quality.find((q) => !Number.isFinite(q.value) || !Number.isFinite(q.baseline?.value ?? 0));
  if (bad) throw new NonFiniteError(`${bad.name} is ${bad.value}, expected a finite number`);
}

/** One stop. A failure becomes its row, except that an `AbortError` goes through. */
async function* visit(
  stop: Stop,
  { seed, threads, signal, root }: TourOptions,
): AsyncGenerator<TourUpdate, Visit> {
  const { name, title, tour } = stop;
  const startedAt = performance.now();
  const said = () => ({
    name,
    title,
    about: tour.about,
    next: [...tour.next],
    seconds: (performance.now() - startedAt) / 1000,
  });
  const missing = await missingFiles(tour.files, root);
  if (missing.length > 0) return { stop, row: { ...said(), status: "skipped", missing }, exhibits: [] };
  const exhibits: Exhibit[] = [];
  const warnings: string[] = [];
  const run = tour.run({ seed, ...(threads && { threads }), ...(signal && { signal }) });
  try {
    let result: TourResult | undefined;
    while (!result) {
      if (signal?.aborted) throw new AbortError();
      const { done, value } = await run.next();
      if (done) result = value;
      else if (value.type === "progress") yield { ...value, stop };
      else if (value.type === "warning") warnings.push(value.text);
      else if (value.type === "figure" || value.type === "chart" || value.type === "table")
        exhibits.push(await exhibitOf(stop, value));
    }
    checkQuality(result.quality);
    const files = exhibits.flatMap((exhibit) => ("file" in exhibit ? [exhibit.file] : []));
    const quality = result.quality.map((q) => ({ ...q }));
    const row = { ...said(), status: "done" as const, did: result.did, quality, warnings, files };
    return { stop, row, exhibits };
  } catch (error) {
    if (error instanceof AbortError || signal?.aborted) throw new AbortError();
    return { stop, row: { ...said(), status: "failed", error: reason(error) }, exhibits };
  } finally {
    await run.return({ did: "", quality: [] }); // frees what it holds when it was left in the middle
  }
}

/** Visits all stops and says what came of each; one that fails does not stop the others. @throws AbortError when stopped */
export async function* runTour(options: TourOptions): AsyncGenerator<TourUpdate, TourReport> {
  const startedAt = performance.now();
  const visits: Visit[] = [];
  for (const stop of options.stops) {
    yield { type: "begin", stop };
    const one = yield* visit(stop, options);
    visits.push(one);
    yield { type: "end", stop, row: one.row };
  }
  const summary = tourSummary.parse({
    version: 1,
    tweedie: manifest.version,
    date: new Date().toISOString(),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    threads: options.threads ?? (await sessionThreads()).threads,
    seed: options.seed,
    seconds: (performance.now() - startedAt) / 1000,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    systems: visits.map(({ row }) => row),
  } satisfies TourSummary);
  return { summary, visits };
}

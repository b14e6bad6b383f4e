/** Shows on a terminal what an action reports: bars on standard error, tables and files on standard output. */
import type { ActionResult } from "../../systems/system.ts";
import { drained, type Table, type Work, type WorkEvent } from "../../work.ts";
import { formatSeconds, type ProgressBar, progressBar } from "../progress.ts";
import { resultKeeper } from "./keep.ts";

const cellText = (value: string | number | null): string =>
  value === null ? "–" : typeof value === "number" ? String(Number(value.toPrecision(4))) : value;

/** A table in columns, numbers to the right. */
export function tableText({ columns, rows }: Table): string {
  const texts = [columns, ...rows.map((row) => row.map(cellText))];
  const widths = columns.map((_, c) => Math.max(...texts.map((row) => row[c]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((text, c) => (c === 0 ? text.padEnd(widths[c]!) : text.padStart(widths[c]!)))
      .join("  ")
      .trimEnd();
  return texts.map(line).join("\n");
}

/** Where shown text goes, and pictures that an action reports. */
export interface Output {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  /** Folder for pictures, charts, tables and curves; absent: they are not kept. */
  readonly results?: string;
  /** One line of JSON per event, for programs. */
  readonly json?: boolean;
}

export const CONSOLE: Output = { out: (text) => console.log(text), error: (text) => console.error(text) };

/** An event as a line of JSON. Of pictures their names and sizes: where they are, a file event says. */
function eventLine(event: WorkEvent): string {
  if (event.type === "table") return JSON.stringify({ type: "table", title: event.title, ...event.table });
  if (event.type === "figure") return JSON.stringify({ ...event, pictures: event.pictures.length });
  if (event.type === "album")
    return JSON.stringify({ ...event, parts: event.parts.map(({ label, weight }) => ({ label, weight })) });
  if (event.type !== "picture") return JSON.stringify(event);
  const { width, height } = event.picture;
  return JSON.stringify({ type: "picture", name: event.name, width, height });
}

/** Runs an action to its end and shows it. */
export async function show(run: Work<ActionResult>, output: Output = CONSOLE): Promise<ActionResult> {
  let bar: { stage: string; total: number; shown: ProgressBar } | undefined;
  const endBar = (): void => {
    bar?.shown.finish();
    bar = undefined;
  };
  const keeper = output.results === undefined ? undefined : resultKeeper(output.results);
  const tellFiles = (files: readonly { path: string; about: string }[]): void => {
    if (files.length === 0) return;
    endBar();
    for (const { path, about } of files)
      output.out(output.json ? JSON.stringify({ type: "file", path, about }) : `${path}: ${about}`);
  };
  try {
    const result = await drained(run, async (event) => {
      if (event.type === "preview") return; // for those who look at pictures
      if (output.json) output.out(eventLine(event));
      else if (event.type === "progress") {
        const { stage, total, done, secondsLeft } = event;
        const left = secondsLeft === undefined ? undefined : `${formatSeconds(secondsLeft)} left`;
        const note = [event.note, left].filter((text) => text !== undefined).join("  ");
        if (bar && (bar.stage !== stage || bar.total !== total)) endBar();
        bar ??= { stage, total, shown: progressBar(stage, total) };
        bar.shown.update(done, note);
      } else if (event.type !== "metrics") {
        endBar(); // curves are for those who draw them
        showOne(event, output);
      }
      tellFiles((await keeper?.keep(event)) ?? []);
    });
    endBar();
    tellFiles((await keeper?.end()) ?? []);
    output.out(output.json ? JSON.stringify({ type: "result", ...result }) : result.summary);
    return result;
  } finally {
    endBar();
  }
}

function showOne(event: WorkEvent, output: Output): void {
  if (event.type === "message") output.out(event.text);
  else if (event.type === "warning") output.error(`warning: ${event.text}`);
  else if (event.type === "table") output.out(`\n${event.title}\n${tableText(event.table)}\n`);
  else if (event.type === "file") output.out(`${event.path}: ${event.about}`);
}

/** Shows on a terminal what an action reports: bars on standard error, tables and files on standard output. */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { encodePicture, writeFileAtomic } from "../../io/index.ts";
import { grid } from "../../report/index.ts";
import type { ActionResult } from "../../systems/system.ts";
import type { Table, Work, WorkEvent } from "../../work.ts";
import { type ProgressBar, progressBar } from "../progress.ts";

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
  /** Folder for pictures and charts; absent: they are not kept. */
  readonly pictures?: string;
  /** One line of JSON per event, for programs. */
  readonly json?: boolean;
}

export const CONSOLE: Output = { out: (text) => console.log(text), error: (text) => console.error(text) };

/** An event as a line of JSON. Of pictures their names and sizes: where they are, a file event says. */
function eventLine(event: WorkEvent): string {
  if (event.type === "table") return JSON.stringify({ type: "table", title: event.title, ...event.table });
  if (event.type === "figure") return JSON.stringify({ ...event, pictures: event.pictures.length });
  if (event.type !== "picture") return JSON.stringify(event);
  const { width, height } = event.picture;
  return JSON.stringify({ type: "picture", name: event.name, width, height });
}

/** Writes a file that an event holds, where results are kept. */
async function keep({ pictures: folder }: Output, file: string, content: Uint8Array | string): Promise<void> {
  if (folder === undefined) return;
  const path = join(folder, file);
  await mkdir(dirname(path), { recursive: true });
  await writeFileAtomic(path, Buffer.from(content));
}

/** Runs an action to its end and shows it. */
export async function show(run: Work<ActionResult>, output: Output = CONSOLE): Promise<ActionResult> {
  let bar: { stage: string; total: number; shown: ProgressBar } | undefined;
  const endBar = (): void => {
    bar?.shown.finish();
    bar = undefined;
  };
  try {
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        endBar();
        output.out(output.json ? JSON.stringify({ type: "result", ...value }) : value.summary);
        return value;
      }
      if (value.type === "preview") continue; // for those who look at pictures
      if (output.json) {
        output.out(eventLine(value));
        if (!["picture", "figure", "chart"].includes(value.type)) continue;
      }
      if (value.type === "metrics") continue; // for those who draw curves
      if (value.type === "progress") {
        const { stage, total } = value;
        if (bar && (bar.stage !== stage || bar.total !== total)) endBar();
        bar ??= { stage, total, shown: progressBar(stage, total) };
        bar.shown.update(value.done, value.note ?? "");
        continue;
      }
      endBar();
      await showOne(value, output);
    }
  } finally {
    bar?.shown.finish();
  }
}

async function showOne(event: Exclude<WorkEvent, { type: "progress" }>, output: Output): Promise<void> {
  switch (event.type) {
    case "message":
      return output.out(event.text);
    case "warning":
      return output.error(`warning: ${event.text}`);
    case "table":
      return output.out(`\n${event.title}\n${tableText(event.table)}\n`);
    case "file":
      return output.out(`${event.path}: ${event.about}`);
    case "picture":
      return keep(output, `${event.name}.png`, await encodePicture(event.picture));
    case "figure": {
      const columns = typeof event.columns === "number" ? event.columns : event.columns.length;
      const sheet = grid(event.pictures, { columns, scale: event.scale ?? 1 });
      return keep(output, `${event.name}.png`, await encodePicture(sheet));
    }
    case "chart":
      return keep(output, `${event.name}.svg`, event.svg);
  }
}

/** Shows on a terminal what an action reports: bars on standard error, tables and files on standard output. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { encodePicture } from "../../io/index.ts";
import type { Table } from "../../report/index.ts";
import type { ActionEvent, ActionResult } from "../../systems/system.ts";
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
  /** Folder for pictures; absent: they are not kept. */
  readonly pictures?: string;
  /** One line of JSON per event, for programs. */
  readonly json?: boolean;
}

export const CONSOLE: Output = { out: (text) => console.log(text), error: (text) => console.error(text) };

/** An event as a line of JSON. Of a picture its name and size: where it is, a file event says. */
function eventLine(event: ActionEvent): string {
  if (event.type === "table") return JSON.stringify({ type: "table", title: event.title, ...event.table });
  if (event.type !== "picture") return JSON.stringify(event);
  const { width, height } = event.picture;
  return JSON.stringify({ type: "picture", name: event.name, width, height });
}

/** Runs an action to its end and shows it. */
export async function show(
  run: AsyncGenerator<ActionEvent, ActionResult>,
  output: Output = CONSOLE,
): Promise<ActionResult> {
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
        if (value.type !== "picture") continue;
      }
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

async function showOne(event: Exclude<ActionEvent, { type: "progress" }>, output: Output): Promise<void> {
  switch (event.type) {
    case "message":
      return output.out(event.text);
    case "warning":
      return output.error(`warning: ${event.text}`);
    case "table":
      return output.out(`\n${event.title}\n${tableText(event.table)}\n`);
    case "file":
      return output.out(`${event.path}: ${event.about}`);
    case "picture": {
      if (!output.pictures) return;
      const path = join(output.pictures, `${event.name}.png`);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, await encodePicture(event.picture));
    }
  }
}

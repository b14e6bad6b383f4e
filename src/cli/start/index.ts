/** `npm start`, from arguments to an exit code. */
import { readdirSync, rmSync } from "node:fs";
import { access, constants, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { HOW_TO_GET_SHIPPED } from "../../systems/shipped.ts";
import { runTour, type Stop, type TourOptions, type TourReport, writeTour } from "../../tour/index.ts";
import { EXIT, explain } from "../errors.ts";
import { helpText } from "../help.ts";
import { type ProgressBar, progressBar } from "../progress.ts";
import { stopOnSignals } from "../signals.ts";
import { type StartSettings, startCommand, startSettings } from "./options.ts";
import { serveStudio } from "./studio.ts";
import { summaryText } from "./table.ts";

/** What surrounds `npm start`. */
export interface Surroundings {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly columns?: number;
  /** Whether a person sits at a terminal: then the studio follows. */
  readonly terminal: boolean;
  /** Makes the tour from the number of training steps. */
  readonly stops?: (steps: number) => readonly Stop[];
  readonly serve?: (say: (text: string) => void) => Promise<void>;
}

const SURROUNDINGS: Surroundings = {
  out: console.log,
  error: console.error,
  columns: process.stdout.columns,
  terminal: process.stdin.isTTY === true && process.stdout.isTTY === true,
};

/** Removes what a write left behind that a second Ctrl-C ended. */
function removeTemporary(folder: string): void {
  for (const name of readdirSync(folder))
    if (name.startsWith(`.tweedie-${process.pid}-`)) rmSync(join(folder, name), { force: true });
}

/** Takes the tour with one bar for each stop. */
async function takeTour(options: TourOptions, say: (text: string) => void): Promise<TourReport> {
  const run = runTour(options);
  const width = Math.max(...options.stops.map(({ name }) => name.length));
  let bar: { total: number; shown: ProgressBar } | undefined;
  const endBar = (): void => {
    bar?.shown.finish();
    bar = undefined;
  };
  try {
    for (;;) {
      const { done, value } = await run.next();
      if (done) return value;
      if (value.type === "progress") {
        bar ??= { total: value.total, shown: progressBar(value.stop.name.padEnd(width), value.total) };
        bar.shown.update(value.done, value.stage);
        continue;
      }
      endBar();
      const { name, tour } = value.stop;
      if (value.type === "begin") say(`${name.padEnd(width)} ${tour.about}`);
      else if (value.row.status === "failed") say(`${name.padEnd(width)} failed: ${value.row.error}`);
      else if (value.row.status === "skipped")
        say(
          `${name.padEnd(width)} is left out: ${value.row.missing.join(", ")} is not there; ${HOW_TO_GET_SHIPPED}`,
        );
      else for (const warning of value.row.warnings) say(`${name.padEnd(width)} warning: ${warning}`);
    }
  } finally {
    endBar();
  }
}

async function perform(settings: StartSettings, around: Surroundings): Promise<number> {
  const { out } = settings;
  await mkdir(out, { recursive: true });
  await access(out, constants.W_OK);
  const stop = stopOnSignals(() => removeTemporary(out));
  let report: TourReport;
  let page: string;
  try {
    report = await takeTour({ ...settings, signal: stop.signal }, around.error);
    page = await writeTour(out, report);
  } finally {
    stop.release();
  }
  around.out(`\n${summaryText(report.summary, around.columns)}`);
  around.out(`${page}: the page with all pictures; ${join(out, "summary.json")}: the numbers.`);
  if (around.terminal && settings.studio) await (around.serve ?? serveStudio)(around.out);
  return report.summary.systems.some(({ status }) => status === "failed") ? EXIT.defect : EXIT.ok;
}

/** Runs `npm start` and returns its exit code; nothing is thrown. */
export async function start(args: readonly string[], around: Surroundings = SURROUNDINGS): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    around.out(await helpText(startCommand, ["npm", "start", "--"], around.columns));
    return EXIT.ok;
  }
  try {
    return await perform(startSettings(args, around.stops), around);
  } catch (error) {
    const { message, code } = explain(error);
    around.error(`npm start: ${message}`);
    if (process.env.TWEEDIE_DEBUG && error instanceof Error) around.error(error.stack ?? "");
    return code;
  }
}

/** What `npm start` takes. */
import { SYSTEMS } from "../../systems/index.ts";
import { type Stop, tourStops } from "../../tour/index.ts";
import { EXIT, UsageError } from "../errors.ts";
import type { HelpfulCommand } from "../help.ts";
import { suggestion } from "../nearest.ts";
import { type Options, readOptions } from "../options.ts";
import { integerValue } from "../values.ts";

/** Training steps: enough for recognisable shapes. */
const STEPS = 250;

const HOW = "How";
const AFTER = "What comes of it";

export const START_OPTIONS = {
  only: {
    type: "string",
    multiple: true,
    group: HOW,
    valueHint: "NAME",
    description: "only this system, or `training`; may come several times",
  },
  seed: {
    type: "string",
    group: HOW,
    valueHint: "N",
    description: "seed of everything (default 0)",
  },
  threads: {
    type: "string",
    group: HOW,
    valueHint: "N",
    description: "processor threads of the networks (default: what doctor says)",
  },
  steps: {
    type: "string",
    group: HOW,
    valueHint: "N",
    description: `steps of the training at the end (default ${STEPS})`,
  },
  out: {
    type: "string",
    group: AFTER,
    valueHint: "DIR",
    description: "folder for pictures, index.html and summary.json (default out/tour)",
  },
  studio: {
    type: "boolean",
    default: true,
    group: AFTER,
    description: "ends after the tour; without it, on a terminal, the studio is served",
  },
} as const satisfies Options;

/** For the help text. */
export const startCommand: HelpfulCommand = {
  meta: {
    name: "start",
    description:
      "The tour: runs every system that has a shipped model on inputs made on the spot, trains a small model from nothing, measures all of it against the known truth, and writes a page with pictures. Nothing is downloaded. On a terminal the studio follows.",
  },
  args: START_OPTIONS,
  examples: [
    "npm start",
    "npm start -- --only sdseg --only umd --seed 7",
    "npm start -- --no-studio --steps 1000",
  ],
  sections: [
    [
      "Exit codes",
      [
        [String(EXIT.ok), "all went well; a system whose model is not there is left out"],
        [String(EXIT.defect), "a system failed; the others were run, its row says why"],
        [String(EXIT.badInput), "something is wrong with the command line or the folder"],
        [String(EXIT.stopped), "stopped by Ctrl-C or SIGTERM; nothing was written"],
      ],
    ],
  ],
};

export interface StartSettings {
  readonly stops: readonly Stop[];
  readonly seed: number;
  readonly threads?: number;
  readonly out: string;
  readonly studio: boolean;
}

function chosen(stops: readonly Stop[], only: readonly string[]): readonly Stop[] {
  const names = stops.map(({ name }) => name);
  const unknown = only.find((name) => !names.includes(name));
  if (unknown !== undefined) {
    const meant = suggestion(unknown, names) || `; the tour has ${names.join(", ")}`;
    throw new UsageError(`--only does not know "${unknown}"${meant}`);
  }
  return only.length === 0 ? stops : stops.filter(({ name }) => only.includes(name));
}

/** Arguments as settings; `stops` makes the tour from the number of training steps. @throws UsageError */
export function startSettings(
  args: readonly string[],
  stops: (steps: number) => readonly Stop[] = (steps) => tourStops(SYSTEMS, steps),
): StartSettings {
  const { values } = readOptions(args, START_OPTIONS);
  const texts = (name: string): readonly string[] =>
    (values.get(name) as readonly string[] | undefined) ?? [];
  const integer = (name: string, min: number, max: number): number | undefined => {
    const [text] = texts(name);
    return text === undefined ? undefined : integerValue(name, text, { min, max });
  };
  const threads = integer("threads", 1, 256);
  const out = texts("out")[0] ?? "out/tour";
  if (out.trim() === "") throw new UsageError("--out needs the name of a folder");
  return {
    stops: chosen(stops(integer("steps", 1, 1_000_000) ?? STEPS), texts("only")),
    seed: integer("seed", 0, Number.MAX_SAFE_INTEGER) ?? 0,
    ...(threads && { threads }),
    out,
    studio: values.get("studio") !== false,
  };
}

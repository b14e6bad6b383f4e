/** `reproduce` of every system: its study is opened, asked, judged and published in one way. */
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { z } from "zod";
import { openStudy, type Page, publish, type Study, summaryOf } from "../study/index.ts";
import type { Work } from "../work.ts";
import { commandLine } from "./command-line.ts";
import type { ActionContext, ActionResult } from "./system.ts";

/** Options that every `reproduce` has. */
interface Places extends Readonly<Record<string, unknown>> {
  readonly work: string;
  readonly out: string;
  readonly shard?: string | undefined;
}

/** What a study says; the frame adds the command and where it goes. */
export interface StudyPage extends Omit<Page, "command" | "readme"> {
  /** Folder below that of the results, of a page that is not the system's own. */
  readonly below?: string;
}

export interface Reproduction<Options extends Places, Found> {
  /** Name of the system. */
  readonly system: string;
  /** Raised by hand when the same settings give other numbers than before. */
  readonly version: number;
  readonly options: z.ZodObject;
  /** Options that say nothing of the numbers, as the command for the same again has them. */
  readonly again?: Partial<Options>;
  /** Asks for everything. What the study holds already is not made again. */
  ask(study: Study, options: Options, context: ActionContext): Work<Found>;
  /** What came of it; not asked of a share, which has seen a part of the results only. */
  page(found: Found, options: Options, command: string): StudyPage | Work<StudyPage>;
}

/** The system's README, where the page goes where the repository keeps it. */
async function readmeFor(system: string, out: string): Promise<{ readme?: string }> {
  const readme = join("src", "systems", system, "README.md");
  const isKept = resolve(out) === resolve("results", system) && (await stat(readme).catch(() => undefined));
  return isKept ? { readme } : {};
}

/** Asks, judges and publishes with a study that is open. */
export async function* reproduceIn<Options extends Places, Found>(
  study: Study,
  { system, options: schema, again, ask, page }: Reproduction<Options, Found>,
  options: Options,
  context: ActionContext = {},
): Work<ActionResult> {
  const { out, shard } = options;
  const found = yield* ask(study, options, context);
  if (study.partial)
    return { summary: `Share ${shard} is done. When all are, run it again without --shard for the page.` };
  const command = commandLine(`reproduce ${system}`, schema, { ...options, ...again });
  const made = page(found, options, command);
  const { below, ...said } = Symbol.asyncIterator in made ? yield* made : made;
  const folder = below === undefined ? out : join(out, below);
  yield* publish(folder, study, {
    ...said,
    command,
    ...(below === undefined && (await readmeFor(system, out))),
  });
  const { verdicts, finding } = said;
  const held = verdicts.map((verdict) => verdict.judged?.holds);
  return {
    summary: [summaryOf(verdicts), finding, `Tables are in ${folder}.`].filter(Boolean).join(" "),
    metrics: {
      rules: verdicts.length,
      holding: held.filter((holds) => holds === true).length,
      missing: held.filter((holds) => holds === undefined).length,
    },
  };
}

/** The action of a study. */
export const reproducing = <Options extends Places, Found>(study: Reproduction<Options, Found>) =>
  async function* reproduceAction(options: Options, context: ActionContext): Work<ActionResult> {
    const { work, shard } = options;
    const opened = await openStudy(work, { version: study.version, shard, signal: context.signal });
    return yield* reproduceIn(opened, study, options, context);
  };

/** Commands made of declarations: `tweedie train sdseg …` and its like. */
import { AbortError } from "../../errors.ts";
import { shellLine } from "../../io/shell-line.ts";
import { type Action, type ActionName, SYSTEMS, type System } from "../../systems/index.ts";
import { optionSchemas } from "../../systems/system.ts";
import { EXIT, explain, Unsuccessful } from "../errors.ts";
import type { HelpfulCommand } from "../help.ts";
import { type Options, readOptions } from "../options.ts";
import { stopOnSignals } from "../signals.ts";
import { actionOptions, flagsOf } from "./options.ts";
import { CONSOLE, show } from "./show.ts";

/** Options besides those that actions declare. */
const OUTPUT_OPTIONS = {
  json: { type: "boolean", group: "Output", description: "prints everything as lines of JSON" },
} as const satisfies Options;

const argsOf = (action: Action): Options => ({ ...flagsOf(action), ...OUTPUT_OPTIONS });

/** Whether the same command, called again, goes on where it was stopped. */
const goesOn = (name: ActionName, action: Action): boolean =>
  name === "train" || name === "reproduce" || "shard" in action.options.shape;

/** Runs an action until it is done or a signal stops it. `words` call it; `resumes`: called again, it goes on. */
async function runAction(
  words: readonly string[],
  action: Action,
  resumes: boolean,
  args: readonly string[],
): Promise<void> {
  const options = actionOptions(action, args, OUTPUT_OPTIONS);
  const json = readOptions(args, argsOf(action)).values.get("json") === true;
  const stop = stopOnSignals(() => undefined);
  try {
    const kept = optionSchemas(action).find(({ role }) => role === "results");
    const results = kept && { results: String(options[kept.name]) };
    const result = await show(action.run(options, { signal: stop.signal }), { ...CONSOLE, json, ...results });
    if (result.incomplete) throw new Unsuccessful(EXIT.incomplete);
  } catch (error) {
    if (!(error instanceof AbortError) || !resumes) throw error;
    const again = shellLine(["tweedie", ...words, ...args]);
    const told = explain(error).message.replace(/; run again to resume$/, "");
    throw new AbortError(`${told}. To go on, run the same again:\n  ${again}`);
  } finally {
    stop.release();
  }
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** The command of an action that is called by some words, of which the last is its name. */
export const declaredCommand = (
  words: readonly string[],
  action: Action,
  resumes = false,
): HelpfulCommand => ({
  meta: { name: words.at(-1)!, description: sentence(action.about) },
  args: argsOf(action),
  run: ({ rawArgs }) => runAction(words, action, resumes, rawArgs),
  ...(action.examples && { examples: action.examples }),
});

function systemCommand(system: System, name: ActionName): HelpfulCommand {
  const action = system.actions[name]!;
  return declaredCommand([name, system.name], action, goesOn(name, action));
}

/** One action over all systems that have it, and `further` commands by name. */
export function actionCommand(
  name: ActionName,
  description: string,
  systems: readonly System[] = SYSTEMS,
  further: Readonly<Record<string, () => HelpfulCommand>> = {},
): HelpfulCommand {
  const able = systems.filter((system) => system.actions[name]);
  return {
    meta: { name, description },
    subCommands: {
      ...Object.fromEntries(able.map((system) => [system.name, () => systemCommand(system, name)])),
      ...further,
    },
    examples: able.flatMap((system) => system.actions[name]!.examples?.slice(0, 1) ?? []),
  };
}

/** Runs a command line: finds the command, answers --help and --version, turns errors into one line and an exit code. */
import { type CommandDef, runCommand } from "citty";
import { EXIT, explain, Unsuccessful, UsageError } from "./errors.ts";
import { helpText, resolved } from "./help.ts";
import { suggestion } from "./nearest.ts";
import { type Options, readOptions } from "./options.ts";
import { hasColours, styled } from "./terminal.ts";

/** Where a command line writes to. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly columns?: number;
}

interface Found {
  readonly command: CommandDef;
  readonly path: readonly string[];
  readonly rest: readonly string[];
}

/** Follows the words of a command line down the tree of commands. */
async function findCommand(root: CommandDef, name: string, args: readonly string[]): Promise<Found> {
  let command = root;
  const path = [name];
  let rest = args;
  for (;;) {
    const subCommands = await resolved(command.subCommands ?? {});
    const word = rest[0];
    if (Object.keys(subCommands).length === 0 || word === undefined || word.startsWith("-"))
      return { command, path, rest };
    if (!Object.hasOwn(subCommands, word)) {
      const meant = suggestion(word, Object.keys(subCommands), `${path.join(" ")} `);
      throw new UsageError(`unknown command "${word}"${meant || `; ${path.join(" ")} --help lists them`}`);
    }
    command = (await resolved<CommandDef>(subCommands[word]!)) as CommandDef;
    path.push(word);
    rest = rest.slice(1);
  }
}

const isHelp = (word: string): boolean => word === "--help" || word === "-h";

/** `tool help work` is `tool work --help`. */
const withoutHelpWord = (args: readonly string[]): readonly string[] =>
  args[0] === "help" ? [...args.slice(1), "--help"] : args;

/** The words before `--`: what follows it is no option. */
const beforeDashes = (words: readonly string[]): readonly string[] => {
  const end = words.indexOf("--");
  return end < 0 ? words : words.slice(0, end);
};

async function run(
  root: CommandDef,
  name: string,
  args: readonly string[],
  terminal: Terminal,
): Promise<void> {
  const { command, path, rest } = await findCommand(root, name, withoutHelpWord(args));
  const isRoot = path.length === 1;
  const { version } = await resolved(root.meta ?? {});
  if (beforeDashes(rest).some(isHelp) || (!command.run && rest.length === 0)) {
    terminal.out(await helpText(command, path, terminal.columns));
  } else if (isRoot && (rest[0] === "--version" || rest[0] === "-v")) terminal.out(version ?? "");
  else {
    readOptions(rest, (await resolved(command.args ?? {})) as Options);
    if (!command.run) throw new UsageError(`${path.join(" ")}: no command given; --help lists them`);
    await runCommand(command, { rawArgs: [...rest] });
  }
}

/** Runs a command line and returns its exit code; nothing is thrown. */
export async function runCli(
  root: CommandDef,
  args: readonly string[],
  terminal: Terminal = { out: console.log, error: console.error, columns: process.stdout.columns },
): Promise<number> {
  const { name = "tweedie" } = await resolved(root.meta ?? {});
  try {
    await run(root, name, args, terminal);
    return EXIT.ok;
  } catch (error) {
    const say = (message: string): void =>
      terminal.error(`${styled(`${name}:`, "red", hasColours(process.stderr))} ${message}`);
    if (error instanceof Unsuccessful) {
      if (error.message) say(error.message);
      return error.code;
    }
    const { message, code } = explain(error);
    say(message);
    if (beforeDashes(args).includes("--json"))
      terminal.out(JSON.stringify({ type: "error", message, exitCode: code }));
    if (process.env.TWEEDIE_DEBUG && error instanceof Error) terminal.error(error.stack ?? "");
    return code;
  }
}

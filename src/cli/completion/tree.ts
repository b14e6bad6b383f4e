/** The tree of commands, options and values as plain data, for completion. */
import type { CommandDef } from "citty";
import { resolved } from "../help.ts";
import { aliasesOf, isSwitch, type Option, type Options } from "../options.ts";

/** Completions of one position: known words, and paths. */
export interface Value {
  readonly words: readonly string[];
  /** Which paths fit, beside the words. */
  readonly paths: "none" | "folders" | "files";
}

export interface CompletionOption {
  /** With their dashes, the long one first. */
  readonly spellings: readonly string[];
  readonly about: string;
  /** Absent for switches. */
  readonly value?: Value;
}

/** A command and what it takes. */
export interface CompletionNode {
  /** Words that lead there, `tweedie` left out. */
  readonly path: readonly string[];
  readonly commands: readonly { readonly word: string; readonly about: string }[];
  readonly options: readonly CompletionOption[];
  /** What stands in the place of words without dashes. */
  readonly words: Value;
}

/** The beginning of a description: shells show one line. */
const short = (text: string): string => text.replace(/\s*(?:[.;]\s|[.;]$|\(default).*$/s, "").slice(0, 80);

const spelled = (name: string): string => (name.length === 1 ? `-${name}` : `--${name}`);

async function placeOf({ values = [], path }: Option): Promise<Value> {
  const words = typeof values === "function" ? await values() : values;
  return { words, paths: path === undefined ? "none" : path === "folder" ? "folders" : "files" };
}

async function optionOf(name: string, option: Option): Promise<CompletionOption> {
  const about = short(option.description ?? "");
  if (isSwitch(option) && option.default === true) return { spellings: [`--no-${name}`], about };
  const spellings = [name, ...aliasesOf(option)].map(spelled);
  return isSwitch(option) ? { spellings, about } : { spellings, about, value: await placeOf(option) };
}

const HELP: CompletionOption = { spellings: ["--help", "-h"], about: "says what the command takes" };

/** All values that words without dashes can have. */
async function wordsOf(options: readonly Option[]): Promise<Value> {
  const values = await Promise.all(options.filter((o) => o.type === "positional").map(placeOf));
  const paths = values.map((v) => v.paths);
  return {
    words: values.flatMap((v) => v.words),
    paths: paths.includes("files") ? "files" : paths.includes("folders") ? "folders" : "none",
  };
}

/** A command and all commands below it. */
export async function completionTree(
  command: CommandDef,
  path: readonly string[] = [],
): Promise<CompletionNode[]> {
  const options = Object.entries((await resolved(command.args ?? {})) as Options);
  const named = options.filter(([, option]) => option.type !== "positional");
  const below: CompletionNode[] = [];
  const commands: { word: string; about: string }[] = [];
  for (const [word, given] of Object.entries(await resolved(command.subCommands ?? {}))) {
    const found = await resolved<CommandDef>(given);
    commands.push({ word, about: short((await resolved(found.meta ?? {})).description ?? "") });
    below.push(...(await completionTree(found, [...path, word])));
  }
  const node: CompletionNode = {
    path,
    commands,
    options: [...(await Promise.all(named.map(([name, option]) => optionOf(name, option)))), HELP],
    words: await wordsOf(options.map(([, option]) => option)),
  };
  return [node, ...below];
}

/** What leads from one command to the next: `"" → "run"`, `"run" → "run sdseg"`, as `COMMAND WORD` with one space. */
export const steps = (nodes: readonly CompletionNode[]): string[] =>
  nodes.flatMap(({ path, commands }) => commands.map(({ word }) => `${path.join(" ")} ${word}`));

/** Help texts, made from the declarations of commands. */
import type { CommandDef, CommandMeta, SubCommandsDef } from "citty";
import { hintOf, type Option, type Options } from "./options.ts";

/** Terminals are wider; lines of text should not be. */
const MAX_WIDTH = 110;
const MIN_WIDTH = 60;
/** Options longer than this have their description on the next line. */
const MAX_LABEL = 30;

/** citty allows values, promises and functions that give either. */
export const resolved = async <T>(value: T | Promise<T> | (() => T | Promise<T>)): Promise<T> =>
  typeof value === "function" ? (value as () => T | Promise<T>)() : value;

/** Breaks a text between words. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line];
}

export type Row = readonly [label: string, text: string];

/** Where descriptions begin. */
const columnOf = (rows: readonly Row[]): number =>
  Math.min(MAX_LABEL, Math.max(0, ...rows.map(([label]) => label.length))) + 2;

/** Rows of a label and a description, the descriptions aligned and wrapped. */
export function table(rows: readonly Row[], width: number, column = columnOf(rows)): string {
  return rows
    .flatMap(([label, text]) => {
      const [first = "", ...rest] = wrap(text, width - column - 2);
      const indent = " ".repeat(column);
      const head =
        label.length > MAX_LABEL ? [label, `${indent}${first}`] : [`${label.padEnd(column)}${first}`];
      return [...head, ...rest.map((line) => `${indent}${line}`)];
    })
    .map((line) => `  ${line}`.trimEnd())
    .join("\n");
}

function describe(option: Option): string {
  const { description = "" } = option;
  const shown = option.default !== undefined && typeof option.default !== "boolean";
  return shown ? `${description} (default ${option.default})` : description;
}

function label(name: string, option: Option): string {
  const aliases = "alias" in option && option.alias ? [option.alias].flat() : [];
  const short = aliases.filter((a) => a.length === 1).map((a) => `-${a}, `);
  return `${short.join("")}${hintOf(name, option)}`;
}

/** Options under the headings of their groups, in the order of their first appearance. */
function optionSections(options: Options, width: number): string[] {
  const groups = new Map<string, Row[]>();
  for (const [name, option] of Object.entries(options)) {
    const positional = option.type === "positional";
    const heading = option.group ?? (positional ? "Arguments" : "Options");
    const rows = groups.get(heading) ?? [];
    rows.push([positional ? name.toUpperCase() : label(name, option), describe(option)]);
    groups.set(heading, rows);
  }
  const column = columnOf([...groups.values()].flat());
  return [...groups].map(([heading, rows]) => `${heading}\n${table(rows, width, column)}`);
}

/** Names of a command's sub-commands with their descriptions. */
async function commandRows(subCommands: SubCommandsDef): Promise<[string, string][]> {
  const rows: [string, string][] = [];
  for (const [name, command] of Object.entries(subCommands)) {
    const meta: CommandMeta = await resolved((await resolved<CommandDef>(command)).meta ?? {});
    if (!meta.hidden) rows.push([name, meta.description ?? ""]);
  }
  return rows;
}

/** Commands may bring examples and further sections for their help text. */
export type HelpfulCommand = CommandDef & {
  readonly examples?: readonly string[];
  readonly sections?: readonly (readonly [heading: string, rows: readonly Row[]])[];
};

/** The whole help text of a command; `path` is how it is called, such as `["tweedie", "generate"]`. */
export async function helpText(command: CommandDef, path: readonly string[], columns = 80): Promise<string> {
  const width = Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, columns));
  const meta = await resolved(command.meta ?? {});
  const options = (await resolved(command.args ?? {})) as Options;
  const rows = await commandRows(await resolved(command.subCommands ?? {}));
  const words = Object.entries(options)
    .filter(([, option]) => option.type === "positional")
    .map(([name, option]) => (option.required === false ? `[${name.toUpperCase()}]` : name.toUpperCase()));
  const usage = [...path, ...(rows.length > 0 ? ["COMMAND"] : []), ...words, "[options]"].join(" ");
  const { examples = [], sections: further = [] } = command as HelpfulCommand;
  const sections = [
    wrap(meta.description ?? "", width).join("\n"),
    `Usage\n  ${usage}`,
    ...(rows.length > 0 ? [`Commands\n${table(rows, width)}`] : []),
    ...optionSections(options, width),
    ...(examples.length > 0 ? [`Examples\n${examples.map((e) => `  ${e}`).join("\n")}`] : []),
    ...further.map(([heading, lines]) => `${heading}\n${table(lines, width)}`),
    ...(rows.length > 0 ? [`${path.join(" ")} COMMAND --help says more about a command.`] : []),
  ];
  return sections.filter((s) => s !== "").join("\n\n");
}

/** Options of a command line: read strictly, so that a mistyped one is an error and not a surprise. */
import { parseArgs } from "node:util";
import type { ArgDef } from "citty";
import type { PathKind } from "../systems/system.ts";
import { UsageError } from "./errors.ts";
import { nearest, suggestion } from "./nearest.ts";

/** An option as citty declares it, with what citty lacks. */
export type Option = ArgDef & {
  /** Heading in the help text. */
  readonly group?: string;
  /** May be given several times. */
  readonly multiple?: boolean;
  /** It is a path of this kind. */
  readonly path?: PathKind;
  /** Words that it takes, or that mean something beside what is typed freely; for shells to complete. */
  readonly values?: readonly string[] | (() => Promise<readonly string[]>);
};

export type Options = Readonly<Record<string, Option>>;

/** What was given: texts in their order by option, true or false for switches, and the rest. */
export interface GivenOptions {
  readonly values: ReadonlyMap<string, readonly string[] | boolean>;
  readonly positionals: readonly string[];
}

/** Whether an option takes no value. */
export const isSwitch = (option: Option): boolean => option.type === "boolean";

/** Other spellings, without dashes. */
export const aliasesOf = (option: Option): readonly string[] =>
  "alias" in option && option.alias ? [option.alias].flat() : [];

/** Every spelling of every option without its dashes, `no-…` for switches that are on by default. */
function spellings(options: Options): Map<string, { name: string; on: boolean }> {
  const known = new Map<string, { name: string; on: boolean }>();
  for (const [name, option] of Object.entries(options)) {
    if (option.type === "positional") continue;
    for (const spelling of [name, ...aliasesOf(option)]) known.set(spelling, { name, on: true });
    if (isSwitch(option)) known.set(`no-${name}`, { name, on: false });
  }
  return known;
}

/**
 * Reads arguments against a declaration.
 *
 * @throws {UsageError} for an unknown option (with the nearest known one), a missing or unwanted value, an option given
 * twice that may come once, and words that no positional argument takes
 */
export function readOptions(args: readonly string[], options: Options): GivenOptions {
  const known = spellings(options);
  const config: Record<string, { type: "string" | "boolean"; short?: string }> = {};
  for (const [spelling, { name }] of known) {
    config[spelling] = { type: isSwitch(options[name]!) ? "boolean" : "string" };
    if (spelling.length === 1) config[spelling].short = spelling;
  }
  const { tokens } = parseArgs({ args: [...args], options: config, strict: false, tokens: true });
  const values = new Map<string, string[] | boolean>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const found = known.get(token.name);
    if (!found) throw unknownOption(token.rawName, known.keys());
    const option = options[found.name]!;
    if (isSwitch(option)) {
      if (token.value !== undefined)
        throw new UsageError(`${token.rawName} takes no value, got "${token.value}"`);
      values.set(found.name, found.on);
      continue;
    }
    if (token.value === undefined)
      throw new UsageError(`${token.rawName} needs a value: ${hintOf(found.name, option)}`);
    if (!token.inlineValue) rejectSwallowedOption(token.rawName, token.value, known, found.name, option);
    const before = values.get(found.name);
    if (before && !option.multiple) throw new UsageError(`${token.rawName} was given twice`);
    values.set(found.name, [...((before as string[] | undefined) ?? []), token.value]);
  }
  rejectExtraWords(positionals, options);
  rejectMissingWords(positionals, options);
  return { values, positionals };
}

/** `--prompt --steps 20`: the value was forgotten. A value that begins with a dash, such as `-1`, is fine. */
function rejectSwallowedOption(
  rawName: string,
  value: string,
  known: ReadonlyMap<string, unknown>,
  name: string,
  option: Option,
): void {
  if (value.startsWith("--") && known.has(value.slice(2).replace(/=.*$/s, "")))
    throw new UsageError(`${rawName} needs a value: ${hintOf(name, option)}; got the option ${value}`);
}

function rejectMissingWords(positionals: readonly string[], options: Options): void {
  const places = Object.entries(options).filter(([, o]) => o.type === "positional" && o.required !== false);
  const missing = places[positionals.length];
  if (!missing) return;
  const [name, { description }] = missing;
  throw new UsageError(`expected ${name.toUpperCase()}${description ? `: ${description}` : ""}`);
}

function rejectExtraWords(positionals: readonly string[], options: Options): void {
  const places = Object.values(options).filter((o) => o.type === "positional").length;
  const extra = positionals[places];
  if (extra === undefined) return;
  const asOption = nearest(extra, Object.keys(options));
  const meant = asOption && asOption === extra ? `; did you mean "--${asOption}"?` : "";
  throw new UsageError(`unexpected "${extra}"${meant || ". Texts with spaces need quotes"}`);
}

function unknownOption(rawName: string, known: Iterable<string>): UsageError {
  const word = rawName.replace(/^-+/, "");
  return new UsageError(`unknown option ${rawName}${suggestion(word, known, "--")}`);
}

/** `--size WxH`, as the help text shows it. */
export function hintOf(name: string, option: Option): string {
  if (isSwitch(option)) return option.default === true ? `--no-${name}` : `--${name}`;
  const choices = "options" in option ? option.options?.join("|") : undefined;
  return `--${name} ${option.valueHint ?? choices ?? "VALUE"}`;
}

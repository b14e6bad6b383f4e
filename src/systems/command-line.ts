/** The command that repeats a result, from the declaration of the options, so that none can be left out. */
import { isAbsolute, relative, resolve, sep } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import { shellLine } from "../io/shell-line.ts";
import { flagOf, type OptionSchema, optionSchemas } from "./system.ts";

/** A path below the folder that `tweedie` is run in, from there; a placeholder for any other, which is of this machine alone. */
function pathText(value: string, { hint, path, names }: OptionSchema, root: string): string {
  if (names?.includes(value)) return value;
  const inside = relative(root, resolve(root, value)).split(sep).join("/");
  if (inside !== ".." && !inside.startsWith("../") && !isAbsolute(inside)) return inside || ".";
  return hint?.split("|").at(-1) ?? (path === "file" ? "FILE" : "DIR");
}

function wordsOf(schema: OptionSchema, value: unknown, root: string): string[] {
  const flag = flagOf(schema.name);
  if (value === undefined || isDeepStrictEqual(value, schema.default)) return [];
  if (typeof value === "boolean") {
    if (value === (schema.default ?? false)) return [];
    return [value ? `--${flag}` : `--no-${flag}`];
  }
  return (Array.isArray(value) ? value : [value]).flatMap((one) => {
    const text = schema.path ? pathText(String(one), schema, root) : String(one);
    // A value that begins with a dash, or an empty one, is tied to its option, so that it is not taken for another.
    return text === "" || text.startsWith("-") ? [`--${flag}=${text}`] : [`--${flag}`, text];
  });
}

/**
 * The command line of an action with these options: `words`, such as "reproduce sdseg", then every option that is not at its
 * default, in the order of the declaration, quoted for a shell.
 */
export function commandLine(
  words: string,
  schema: z.ZodObject,
  options: Readonly<Record<string, unknown>>,
  root = process.cwd(),
): string {
  const given = optionSchemas({ options: schema }).flatMap((option) =>
    wordsOf(option, options[option.name], root),
  );
  return shellLine(["tweedie", ...words.split(" "), ...given]);
}

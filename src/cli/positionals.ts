/** Options by name and kind, for commands that are not made of a declaration of a system. */
import { type Options, readOptions } from "./options.ts";

/** What was given, by kind. */
export interface ParsedArguments {
  readonly text: (name: string) => string | undefined;
  readonly flag: (name: string) => boolean;
  /** The positional argument of that place; only for those that are required. */
  readonly positional: (index: number) => string;
}

/** Reads a command line. @throws {UsageError} for what the options do not take */
export function parseArguments(args: readonly string[], options: Options): ParsedArguments {
  const { values, positionals } = readOptions(args, options);
  return {
    text: (name) => (values.get(name) as readonly string[] | undefined)?.[0],
    flag: (name) => values.get(name) === true,
    positional: (index) => positionals[index]!, // reading the options has seen to it
  };
}

/** Prints one line of JSON. */
export const printJson = (value: unknown): void => console.log(JSON.stringify(value));

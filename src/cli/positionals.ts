/** Parses the options and positional arguments of commands that no system declares. */
import { type Options, readOptions } from "./options.ts";

/** A parsed command line. */
export interface ParsedArguments {
  readonly text: (name: string) => string | undefined;
  readonly flag: (name: string) => boolean;
  /** The positional argument at an index; for required ones only. */
  readonly positional: (index: number) => string;
}

/** Parses a command line. @throws {UsageError} for arguments that the options do not allow */
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

/** Options of `tweedie models`, as its commands read them. */
import type { OpenOptions } from "../../pipelines/index.ts";
import { type Options, readOptions } from "../options.ts";
import { choiceValue } from "../values.ts";

const PREDICTIONS = ["epsilon", "v_prediction", "sample"] as const;
const FAMILIES = ["sd1", "sd2", "sdxl"] as const;

/** What was given, by kind. */
export interface Given {
  readonly text: (name: string) => string | undefined;
  readonly flag: (name: string) => boolean;
  /** The positional argument of that place. */
  readonly word: (index: number) => string;
}

/** Reads a command line of this command. */
export function given(args: readonly string[], options: Options): Given {
  const { values, positionals } = readOptions(args, options);
  return {
    text: (name) => (values.get(name) as readonly string[] | undefined)?.[0],
    flag: (name) => values.get(name) === true,
    word: (index) => positionals[index]!, // all of them are required: reading the options has seen to it
  };
}

/** Options that say which files are meant. */
export function openOptions({ text, flag }: Given): OpenOptions {
  const [family, prediction] = [text("family"), text("prediction")];
  return {
    download: flag("hub"),
    variant: text("variant"),
    base: text("base"),
    tokenizer: text("tokenizer"),
    family: family === undefined ? undefined : choiceValue("family", family, FAMILIES),
    predictionType: prediction === undefined ? undefined : choiceValue("prediction", prediction, PREDICTIONS),
    onFile: (path, i, count) => console.error(`downloading ${i + 1}/${count}: ${path}`),
  };
}

export const printJson = (value: unknown): void => console.log(JSON.stringify(value, undefined, 2));

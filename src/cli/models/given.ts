/** Options of `tweedie models`, as its commands read them. */
import { GUIDED_PRESETS, type OpenOptions } from "../../pipelines/index.ts";
import { readConfig } from "../../pipelines/model-files.ts";
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

const PRESETS: Readonly<Record<string, OpenOptions["config"]>> = Object.assign(
  {},
  ...Object.values(GUIDED_PRESETS),
);

/** A published configuration by its name, or one in a file. */
const configOf = async (text: string): Promise<OpenOptions["config"]> =>
  (Object.hasOwn(PRESETS, text) && PRESETS[text]) || readConfig(text);

/** Options that say which files are meant. */
export async function openOptions({ text, flag }: Given): Promise<OpenOptions> {
  const config = text("config");
  const [family, prediction] = [text("family"), text("prediction")];
  return {
    download: flag("hub"),
    variant: text("variant"),
    base: text("base"),
    tokenizer: text("tokenizer"),
    config: config === undefined ? undefined : await configOf(config),
    family: family === undefined ? undefined : choiceValue("family", family, FAMILIES),
    predictionType: prediction === undefined ? undefined : choiceValue("prediction", prediction, PREDICTIONS),
    onFile: (path, i, count) => console.error(`downloading ${i + 1}/${count}: ${path}`),
  };
}

export const printJson = (value: unknown): void => console.log(JSON.stringify(value, undefined, 2));

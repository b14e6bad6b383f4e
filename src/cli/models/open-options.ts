/** Options that choose the files of a model. */
import { GUIDED_PRESETS, type OpenOptions } from "../../pipelines/index.ts";
import { readConfig } from "../../pipelines/model-files.ts";
import type { ParsedArguments } from "../positionals.ts";
import { choiceValue } from "../values.ts";

const PREDICTIONS = ["epsilon", "v_prediction", "sample"] as const;
const FAMILIES = ["sd1", "sd2", "sdxl"] as const;

const PRESETS: Readonly<Record<string, OpenOptions["config"]>> = Object.assign(
  {},
  ...Object.values(GUIDED_PRESETS),
);

/** A published configuration by its name, or one in a file. */
const configOf = async (text: string): Promise<OpenOptions["config"]> =>
  (Object.hasOwn(PRESETS, text) && PRESETS[text]) || readConfig(text);

/** The same as the pipelines take them. */
export async function openOptions({ text, flag }: ParsedArguments): Promise<OpenOptions> {
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

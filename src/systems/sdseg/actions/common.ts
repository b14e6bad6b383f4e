/** What the actions share: models by name, data by folder, broken files. */
import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Dataset, fromArray } from "../../../data/index.ts";
import type { Split } from "../../../data/picture-set.ts";
import { lesions } from "../../../data/world/lesions.ts";
import { ArgumentError, FormatError } from "../../../errors.ts";
import { modelPath } from "../../shipped.ts";
import type { ActionEvent } from "../../system.ts";
import { type Loaded, loadSDSeg } from "../checkpoint.ts";
import type { SDSegConfig } from "../config.ts";
import { CHECKPOINTS } from "../options.ts";
import { type LabelledPicture, type Sample, toSample } from "../samples.ts";
import { knownSet, openFolder, openKnown } from "../sets.ts";

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** File of a model by name or path. @throws ArgumentError when there is none */
export const modelFile = (name: string): Promise<string> => modelPath("SDSeg", CHECKPOINTS, name);

/** A model by name or file. @throws ArgumentError when there is none */
export const openModel = async (name: string): Promise<Loaded> => loadSDSeg(await modelFile(name));

/** Data from a folder: a known set by its folder's name, or `images/` and `masks/`; without a folder, lesions. */
export async function openData(
  folder: string | undefined,
  { classes, imageChannels }: Pick<SDSegConfig, "classes" | "imageChannels">,
  split: Split | "all",
): Promise<{ title: string; source: Dataset<LabelledPicture>; scale: number }> {
  if (folder === undefined)
    return { title: "procedural lesions", source: lesions(split === "all" ? "train" : split), scale: 1 };
  const set = knownSet(basename(folder));
  if (set && split !== "all" && (await exists(join(folder, set.images))))
    return { title: set.title, source: await openKnown(dirname(folder), set, split), scale: set.scale };
  const colour = imageChannels === 3 ? "rgb" : "gray";
  return { title: folder, source: await openFolder(folder, { classes, colour }), scale: 1 };
}

/** A file that cannot be decoded, as opposed to one that says what it must not. */
const isBroken = (error: unknown): error is FormatError =>
  error instanceof FormatError && error.cause !== undefined;

/**
 * All samples of a dataset in memory. A file that cannot be decoded is left out with a warning; a mask with values that
 * were not declared ends the work. @throws FormatError when nothing is left
 */
export async function* readSamples(
  source: Dataset<LabelledPicture>,
  options: { readonly config: SDSegConfig; readonly scale: number; readonly limit?: number },
): AsyncGenerator<ActionEvent, Dataset<Sample>> {
  const total = Math.min(source.length, options.limit ?? source.length);
  const samples: Sample[] = [];
  let first: FormatError | undefined;
  for (let i = 0; i < total; i++) {
    try {
      samples.push(toSample(await source.get(i), options));
    } catch (error) {
      if (!isBroken(error)) throw error;
      first ??= error;
      yield { type: "warning", text: `left out: ${error.message}` };
    }
    yield { type: "progress", stage: "read", done: i + 1, total };
  }
  if (samples.length === 0) throw first ?? new ArgumentError("SDSeg: the data has no pictures");
  return fromArray(samples);
}

export { isBroken };

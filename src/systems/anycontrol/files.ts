/** Conditions from files, the model and the base by their names. */
import { stat } from "node:fs/promises";
import { canny, readPictureFile, sketchMap } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { loadPipelineComponents } from "../../pipelines/index.ts";
import { readControls } from "../inputs.ts";
import { modelPath, shippedFile } from "../shipped.ts";
import { type Base, openBase } from "./base.ts";
import { type Condition, within } from "./data.ts";
import { type SteeringModel, steeringFile } from "./model.ts";
import { BASES, CHECKPOINTS } from "./options.ts";
import { isDrawn, TYPES } from "./types.ts";

/** A base by the name of one that ships, or by its folder. */
export async function baseOf(
  name: string,
  options: { readonly threads?: number | undefined } = {},
): Promise<Base> {
  const shipped = BASES.find((one) => one.name === name);
  return openBase(await loadPipelineComponents(shipped ? await shippedFile(shipped.file) : name), options);
}

/** A model by its name or file, checked against a base. @throws ArgumentError for one of another U-Net */
export async function modelOf(name: string, base: Base): Promise<SteeringModel> {
  const { model } = await steeringFile.load(await modelPath("AnyControl", CHECKPOINTS, name));
  const { config } = model;
  const same = (key: string): boolean =>
    JSON.stringify(config.unet[key]) === JSON.stringify(base.unetConfig[key]);
  const other = ["block_out_channels", "in_channels", "cross_attention_dim", "sample_size"].find(
    (key) => !same(key),
  );
  if (other !== undefined || (!config.published && config.vocabulary !== base.vocabulary))
    throw new ArgumentError(
      `${name}: was trained for another base than ${base.components.path}: ${other ?? "tokenizer"} differs (${JSON.stringify(config.unet[other ?? ""] ?? config.vocabulary)}, ${JSON.stringify(base.unetConfig[other ?? ""] ?? base.vocabulary)})`,
    );
  return model;
}

/** A picture squashed to a square. Drawn maps keep the values of their pixels, and lines that a smaller map would lose. */
export function squashed(
  { width, height, channels, data }: Picture,
  size: number,
  drawn: boolean,
): Float32Array {
  const top = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65_535 : 1;
  const out = new Float32Array(3 * size * size);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const rows = [
        Math.floor((y * height) / size),
        Math.max(Math.floor((y * height) / size) + 1, Math.floor(((y + 1) * height) / size)),
      ];
      const columns = [
        Math.floor((x * width) / size),
        Math.max(Math.floor((x * width) / size) + 1, Math.floor(((x + 1) * width) / size)),
      ];
      for (let c = 0; c < 3; c++) {
        let [sum, most, count] = [0, 0, 0];
        for (let v = rows[0]!; v < rows[1]!; v++)
          for (let u = columns[0]!; u < columns[1]!; u++, count++) {
            const value = data[(v * width + u) * channels + (channels < 3 ? 0 : c)]! / top;
            [sum, most] = [sum + value, Math.max(most, value)];
          }
        const middle =
          data[
            (Math.floor(((y + 0.5) * height) / size) * width + Math.floor(((x + 0.5) * width) / size)) *
              channels +
              (channels < 3 ? 0 : c)
          ]! / top;
        out[(y * size + x) * 3 + c] = !drawn ? sum / count : middle === 0 ? most : middle;
      }
    }
  return out;
}

/** What was found about a condition's file that its owner should know. */
export interface ReadCondition extends Condition {
  readonly notes: readonly string[];
}

/** Splits FILE:MASK where there is no file of the whole name. */
async function parted(path: string): Promise<readonly [file: string, mask: string | undefined]> {
  const whole = await stat(path).then(
    () => true,
    () => false,
  );
  const at = path.lastIndexOf(":");
  return whole || at < 2 ? [path, undefined] : [path.slice(0, at), path.slice(at + 1)];
}

/** Reads TYPE=FILE and TYPE=FILE:MASK. @throws ArgumentError for unknown types, FormatError for files that are no pictures */
export async function readConditions(
  given: readonly string[],
  size: number,
  extract: "none" | "canny" | "sketch" = "none",
): Promise<ReadCondition[]> {
  return Promise.all(
    readControls(given, TYPES).map(async ({ type, path }) => {
      const [file, mask] = await parted(path);
      const picture = await readPictureFile(file);
      const taken =
        type === "edge" && extract !== "none"
          ? extract === "canny"
            ? canny(picture)
            : sketchMap(picture)
          : picture;
      const map = squashed(taken, size, isDrawn(type));
      const notes: string[] = [];
      const first = map[0];
      if (picture.width !== picture.height)
        notes.push(
          `${file}: ${picture.width} x ${picture.height} pixels, squashed to ${size} x ${size}, not cropped`,
        );
      if (map.every((v) => v === first))
        notes.push(`${file}: all pixels are alike: this ${type} map says nothing of any place`);
      if (mask === undefined) return { type, map, notes };
      const region = squashed(await readPictureFile(mask), size, true).filter((_, i) => i % 3 === 0);
      if (region.every((v) => v < 0.5))
        notes.push(`${mask}: the region is empty: nothing is left of the ${type} map`);
      return {
        type,
        map: within(
          map,
          region.map((v) => (v >= 0.5 ? 1 : 0)),
        ),
        notes,
      };
    }),
  );
}

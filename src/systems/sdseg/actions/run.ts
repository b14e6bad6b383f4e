/** `tweedie run sdseg`: pictures to masks, probability maps and overlays. */
import { mkdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join, relative } from "node:path";
import {
  type FloatPicture,
  listPictures,
  readPictureFile,
  resizeLabels,
  resizePicture,
  toFloatPicture,
} from "../../../data/index.ts";
import { AbortError } from "../../../errors.ts";
import { encodePicture, type Picture, writeFileAtomic } from "../../../io/index.ts";
import { overlay } from "../../../report/index.ts";
import { fromHost } from "../../../tensor/index.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import type { SDSegConfig } from "../config.ts";
import { openSegmenter, type Segmenter } from "../infer.ts";
import type { RunActionOptions } from "../options.ts";
import { imageValues } from "../samples.ts";
import { isBroken, openModel } from "./common.ts";

/** A picture for people and the same for the model, which keeps 16 bits where the file has them. */
async function readBoth(
  path: string,
  config: SDSegConfig,
  maxPixels: number,
): Promise<{ shown: Picture; seen: Picture }> {
  const colour = config.imageChannels === 3 ? "rgb" : "gray";
  const shown = await readPictureFile(path, { colour, maxPixels });
  const raw = await readPictureFile(path, { colour: "as-is", maxPixels });
  const upright = raw.width === shown.width && raw.height === shown.height;
  return {
    shown: raw.data instanceof Uint16Array ? stretched(raw) : shown,
    seen: upright && !(raw.data instanceof Uint8Array) ? raw : shown,
  };
}

/** A 16-bit or float picture in 8 bits, from its darkest to its brightest value: often only a part of the range is used. */
function stretched(picture: Picture): Picture {
  const { width, height, channels, data } = picture;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of data) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const scale = high > low ? 255 / (high - low) : 0;
  return { width, height, channels, data: Uint8Array.from(data, (v) => Math.round((v - low) * scale)) };
}

/** What goes into the files, at the size of the picture. */
interface Result {
  readonly labels: Int32Array;
  readonly probability: FloatPicture;
}

async function* segmentPicture(
  segmenter: Segmenter,
  seen: Picture,
  scale: number,
  options: RunActionOptions & { signal?: AbortSignal },
): AsyncGenerator<{ done: number; total: number }, Result> {
  const { width, height } = seen;
  const { config } = segmenter.model;
  const [w, h] = [width, height].map((size) => Math.max(1, Math.round(size * scale))) as [number, number];
  const resized = w === width && h === height ? seen : resizePicture(toFloatPicture(seen), w, h);
  const image = fromHost("f32", [1, config.imageChannels, h, w], imageValues(resized, config));
  const { mask, probability } = yield* segmenter.segmentTiled(image, options);
  const map = { width: w, height: h, channels: 1, data: probability };
  if (w === width && h === height) return { labels: Int32Array.from(mask), probability: map };
  const full = resizePicture(map, width, height);
  const labels =
    config.classes > 2
      ? resizeLabels(Int32Array.from(mask), { width: w, height: h }, width, height)
      : Int32Array.from(full.data, (p) => (p > 0.5 ? 1 : 0));
  return { labels, probability: full };
}

/** Names of the results: the file's, with its ending where two differ in nothing else. */
function resultNames(paths: readonly string[], folder: string): string[] {
  const stems = paths.map((path) => relative(folder, path).slice(0, -extname(path).length || undefined));
  return stems.map((stem, i) =>
    stems.filter((other) => other === stem).length > 1 ? `${stem}-${extname(paths[i]!).slice(1)}` : stem,
  );
}

async function save(
  out: string,
  name: string,
  shown: Picture,
  { labels, probability }: Result,
  classes: number,
) {
  const { width, height } = shown;
  const gray = (data: Uint8Array): Picture => ({ width, height, channels: 1, data });
  const files = {
    mask: gray(Uint8Array.from(labels, (label) => (classes > 2 ? label : label * 255))),
    probability: gray(Uint8Array.from(probability.data, (p) => Math.round(p * 255))),
    overlay: overlay(shown, labels),
  };
  await mkdir(dirname(join(out, name)), { recursive: true });
  for (const [kind, picture] of Object.entries(files))
    await writeFileAtomic(join(out, `${name}-${kind}.png`), await encodePicture(picture));
}

/** Segments a picture or a folder. A broken file is reported and passed over, unless it is the only one. */
export async function* runAction(
  options: RunActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { image, out, maxPixels } = options;
  const isFolder = (await stat(image)).isDirectory();
  const paths = isFolder ? await listPictures(image) : [image];
  const names = isFolder ? resultNames(paths, image) : [basename(image, extname(image))];
  const { model, origin } = await openModel(options.model);
  const segmenter = openSegmenter(model);
  const broken: string[] = [];
  const startedAt = performance.now();
  try {
    for (const [i, path] of paths.entries()) {
      if (signal?.aborted) throw new AbortError();
      try {
        const { shown, seen } = await readBoth(path, model.config, maxPixels);
        const run = segmentPicture(segmenter, seen, origin.scale ?? 1, { ...options, signal });
        for (;;) {
          const { done, value } = await run.next();
          if (done) {
            await save(out, names[i]!, shown, value, model.config.classes);
            break;
          }
          if (value.total > 1)
            yield {
              type: "progress",
              stage: `tiles of ${basename(path)}`,
              done: value.done,
              total: value.total,
            };
        }
      } catch (error) {
        if (!isFolder || !isBroken(error)) throw error;
        broken.push(path);
        yield { type: "warning", text: error.message };
      }
      yield { type: "progress", stage: "segment", done: i + 1, total: paths.length, note: basename(path) };
    }
  } finally {
    await segmenter.close();
  }
  const done = paths.length - broken.length;
  const seconds = (performance.now() - startedAt) / 1000;
  const passed = broken.length > 0 ? ` ${broken.length} could not be read.` : "";
  return {
    summary: `${done} picture${done === 1 ? "" : "s"} segmented in ${seconds.toFixed(1)} s: masks, probabilities and overlays are in ${out}.${passed}`,
    metrics: { pictures: done, broken: broken.length, seconds },
  };
}

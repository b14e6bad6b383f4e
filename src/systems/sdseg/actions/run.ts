/** `tweedie run sdseg`: pictures to masks, probability maps and overlays. */
import {
  type FloatPicture,
  readPictureFile,
  resizeLabels,
  resizePicture,
  toFloatPicture,
} from "../../../data/index.ts";
import { hashFile, type Picture } from "../../../io/index.ts";
import { overlay } from "../../../report/index.ts";
import { fromHost } from "../../../tensor/index.ts";
import { type BatchItem, batchSummary, runBatch } from "../../batch.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import type { SDSegConfig } from "../config.ts";
import { openSegmenter, type Segmenter } from "../infer.ts";
import type { RunActionOptions } from "../options.ts";
import { imageValues } from "../samples.ts";
import { modelFile, openModel } from "./common.ts";

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

const KINDS = ["mask", "probability", "overlay"];

/** The results as pictures for files. */
function picturesOf(
  shown: Picture,
  { labels, probability }: Result,
  classes: number,
): Record<string, Picture> {
  const { width, height } = shown;
  const gray = (data: Uint8Array): Picture => ({ width, height, channels: 1, data });
  return {
    mask: gray(Uint8Array.from(labels, (label) => (classes > 2 ? label : label * 255))),
    probability: gray(Uint8Array.from(probability.data, (p) => Math.round(p * 255))),
    overlay: overlay(shown, labels),
  };
}

/** What decides a result beside the picture. */
async function settingsOf(options: RunActionOptions): Promise<Record<string, unknown>> {
  const { mode, steps, spacing, eta, ensemble, seed, tile, overlap } = options;
  const model = await hashFile(await modelFile(options.model));
  return { system: "sdseg", model, mode, steps, spacing, eta, ensemble, seed, tile, overlap };
}

/** Segments a picture or a folder. */
export async function* runAction(
  options: RunActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { maxPixels, out } = options;
  const { model, origin } = await openModel(options.model);
  const { config } = model;
  const segmenter = openSegmenter(model);
  const startedAt = performance.now();
  async function* segment({ path, source }: BatchItem): AsyncGenerator<ActionEvent, Record<string, Picture>> {
    const { shown, seen } = await readBoth(path, config, maxPixels);
    const run = segmentPicture(segmenter, seen, origin.scale ?? 1, { ...options, signal });
    for (;;) {
      const { done, value } = await run.next();
      if (done) return picturesOf(shown, value, config.classes);
      if (value.total > 1) yield { type: "progress", stage: `tiles of ${source}`, ...value };
    }
  }
  try {
    const settings = await settingsOf(options);
    const result = yield* runBatch({ ...options, settings, kinds: KINDS }, { signal }, segment);
    const seconds = (performance.now() - startedAt) / 1000;
    const { done, kept, failed } = result;
    return {
      summary: `${batchSummary(result, "segmented")}. ${seconds.toFixed(1)} s; masks, probabilities and overlays are in ${out}.`,
      metrics: { pictures: done, kept, broken: failed.length, seconds },
      ...(failed.length > 0 && { incomplete: true }),
    };
  } finally {
    await segmenter.close();
  }
}

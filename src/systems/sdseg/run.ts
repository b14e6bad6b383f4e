/** `tweedie run sdseg`: pictures, pages of files with several, and volumes slice by slice. */
import {
  countObjects,
  intensityRange,
  inUnits,
  isNiftiName,
  pictureStatistics,
  ROBUST_RANGE,
  readPictureFile,
  readVolume,
  resizePicture,
  type SetStatistics,
  toFloatPicture,
  type UnitOptions,
  unlike,
  type WrittenSlice,
} from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { hashFile, type Picture } from "../../io/index.ts";
import { overlay } from "../../report/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { type BatchItem, batchSummary, type Result, runBatch } from "../batch.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { volumeFormat } from "../volume-results.ts";
import { fileOf, openModel, stepWarnings } from "./actions.ts";
import { toImage } from "./data.ts";
import type { RunActionOptions } from "./options.ts";
import {
  type Guess,
  openSegmenter,
  type SegmentedResult,
  type Segmenter,
  type StepsDone,
  segmentPicture,
} from "./use.ts";

const KINDS = ["mask", "probability", "overlay"];
/** Volumes have no overlay: viewers lay a mask over its volume. */
const VOLUME_KINDS = ["mask", "probability"];

/** First and last page of "3" or "3-7". @throws ArgumentError for anything else */
export function pagesOf(text: string): readonly [first: number, last: number] {
  const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  const pages = [Number(first), Number(last)] as const;
  if (first !== undefined && pages[0] <= pages[1]) return pages;
  throw new ArgumentError(`page: expected N or FIRST-LAST, counted from 0, got ${JSON.stringify(text)}`);
}

/** The picture in 8 bits for people; of 16-bit and float pictures from the darkest to the brightest value. */
function shownFrom(deep: Picture): Picture {
  const { data, ...size } = deep;
  if (data instanceof Uint8Array) return deep;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of data) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const scale = high > low ? 255 / (high - low) : 0;
  return { ...size, data: Uint8Array.from(data, (v) => Math.round((v - low) * scale)) };
}

/** What masks are laid over: the file's own picture where it has colours in 8 bits, else what the model saw. */
async function underMask({ path, page }: BatchItem, seen: Picture, maxPixels: number): Promise<Picture> {
  const shown = shownFrom(seen);
  if (isNiftiName(path)) return shown;
  const chosen = page === undefined ? {} : { page };
  const own = await readPictureFile(path, { colour: "as-is", depth: "file", maxPixels, ...chosen });
  return own.channels >= 3 && own.data instanceof Uint8Array
    ? readPictureFile(path, { colour: "rgb", maxPixels, ...chosen })
    : shown;
}

/** The results as pictures for files. */
function picturesOf(
  seen: Picture,
  under: Picture,
  { labels, probability }: SegmentedResult,
  classes: number,
): Record<string, Picture> {
  const { width, height } = seen;
  const gray = (data: Uint8Array): Picture => ({ width, height, channels: 1, data });
  return {
    mask: gray(Uint8Array.from(labels, (label) => (classes > 2 ? label : label * 255))),
    probability: gray(Uint8Array.from(probability.data, (p) => Math.round(p * 255))),
    overlay: overlay(under, labels),
  };
}

/** How pictures are prepared and segmented, the same for all of a job. */
interface Job {
  readonly segmenter: Segmenter;
  /** What the model was trained on, where its file says it. */
  readonly trainedOn?: SetStatistics | undefined;
  readonly options: RunActionOptions & { readonly scale?: number | undefined; readonly signal?: AbortSignal };
  readonly units: UnitOptions;
}

/** Steps of a part of `parts`. Of a whole that is one step nothing is shown: it is over at once. */
const stepsShown =
  (stage: string, part = 0, parts = 1) =>
  ({ done, total, guess }: StepsDone): WorkEvent[] => [
    ...(total * parts > 1
      ? [{ type: "progress", stage, done: part * total + done, total: parts * total } as const]
      : []),
    ...(guess ? [{ type: "preview", picture: shownGuess(guess) } as const] : []),
  ];

/** A map in the making as a picture: white is foreground. */
const shownGuess = ({ width, height, data }: Guess): Picture => ({
  ...{ width, height, channels: 1 },
  data: Uint8Array.from(data, (v) => Math.round(255 * Math.min(1, Math.max(0, v)))),
});

/** Says when a picture is unlike those that the model was trained on: of such it makes confident, wrong masks. */
function* unlikeTrained(picture: Picture, source: string, { segmenter, trainedOn, options }: Job) {
  if (!trainedOn) return;
  const { scale = 1 } = options;
  const [width, height] = [picture.width, picture.height].map((side) =>
    Math.max(1, Math.round(side * scale)),
  );
  const sized = scale === 1 ? picture : resizePicture(toFloatPicture(picture), width!, height!);
  const how = unlike(pictureStatistics(toImage(sized, segmenter.model.config, source)), trainedOn);
  if (how.length === 0) return;
  const text = `${source}: unlike what this model was trained on (${how.join(", ")}); look at its mask before you use it`;
  yield { type: "warning", text } as const;
}

/** How much is marked, in words. */
function marked({ labels }: SegmentedResult, { width }: Picture, source: string): WorkEvent {
  let pixels = 0;
  for (const label of labels) if (label > 0) pixels++;
  const share = ((100 * pixels) / labels.length).toFixed(1);
  const objects = countObjects(labels, width);
  const text = `${source}: ${share} % of the pixels are marked, in ${objects} ${objects === 1 ? "piece" : "pieces"}`;
  return { type: "message", text };
}

const tooLarge = ({ width, height }: { width: number; height: number }, maxPixels: number): boolean =>
  width * height > maxPixels;

/** A picture, or one page: of a volume its brightness is that of the whole. */
async function readSeen(
  { path, source, page }: BatchItem,
  { segmenter, options, units }: Job,
): Promise<Picture> {
  if (page !== undefined && isNiftiName(path)) {
    const { slices } = await readVolume(path);
    if (page >= slices.length)
      throw new ArgumentError(`${path}: page ${page} of a volume of ${slices.length} slices`);
    return inUnits(slices, source, units)[page]!;
  }
  const colour = segmenter.model.config.imageChannels === 3 ? "rgb" : "gray";
  const { maxPixels } = options;
  const chosen = page === undefined ? {} : { page };
  const file = await readPictureFile(path, { colour, depth: "file", maxPixels, ...chosen });
  return inUnits([file], source, units)[0]!;
}

async function* segmentOne(item: BatchItem, job: Job): Work<Record<string, Picture>> {
  const seen = await readSeen(item, job);
  yield* unlikeTrained(seen, item.source, job);
  const run = segmentPicture(job.segmenter, seen, job.options);
  const result = yield* told(run, stepsShown(`steps of ${item.source}`));
  if (item.path === job.options.image) yield marked(result, seen, item.source); // of a folder it would be a flood
  const under = await underMask(item, seen, job.options.maxPixels);
  return picturesOf(seen, under, result, job.segmenter.model.config.classes);
}

/** Slice by slice; labels are 0 and 1, or class numbers, in TIFF of two classes 0 and 255 as in pictures. */
async function* segmentVolume({ path, source }: BatchItem, job: Job): Work<Record<string, Result>> {
  const { segmenter, options, units } = job;
  const volume = await readVolume(path);
  const first = volume.slices[0]!;
  if (tooLarge(first, options.maxPixels))
    throw new ArgumentError(
      `${path}: slices of ${first.width}x${first.height} are more than --max-pixels ${options.maxPixels}`,
    );
  const white = segmenter.model.config.classes > 2 || isNiftiName(path) ? 1 : 255;
  const seen = inUnits(volume.slices, source, { otherwise: ROBUST_RANGE, ...units });
  yield* unlikeTrained(seen[Math.floor(seen.length / 2)]!, source, job);
  const [mask, probability]: [WrittenSlice[], WrittenSlice[]] = [[], []];
  for (const [z, slice] of seen.entries()) {
    const { width, height } = slice;
    const run = segmentPicture(segmenter, slice, options);
    const result = yield* told(run, stepsShown(`slices of ${source}`, z, seen.length));
    mask.push({ width, height, data: Uint8Array.from(result.labels, (label) => label * white) });
    probability.push({ width, height, data: Float32Array.from(result.probability.data) });
  }
  return { mask, probability };
}

/** Looks at the map in the making while a picture is sampled. */
const GUESSES = 10;

/** Segments a picture, a volume, or a folder of them. */
export async function* runAction(options: RunActionOptions, context: ActionContext): Work<ActionResult> {
  const { signal, previews } = context;
  const { out, mode, steps, spacing, eta, ensemble, seed, tile, overlap, page } = options;
  yield* stepWarnings(options);
  const pages = page === undefined ? undefined : pagesOf(page);
  const { model, notes } = await openModel(options.model);
  const range = options.range ?? notes.range;
  const segmenter = openSegmenter(model);
  const job: Job = {
    segmenter,
    trainedOn: notes.seen,
    options: {
      ...{ ...options, scale: notes.scale },
      ...(signal && { signal }),
      ...(previews && { guessEvery: Math.max(1, Math.round(steps / GUESSES)) }),
    },
    units: range === undefined ? {} : { range: intensityRange(range) },
  };
  const startedAt = performance.now();
  try {
    const file = await hashFile(await fileOf(options.model));
    const inference = { mode, steps, spacing, eta, ensemble, seed, tile, overlap };
    const settings = { system: "sdseg", model: file, ...inference, ...(range !== undefined && { range }) };
    const formatOf = (item: BatchItem) => volumeFormat(item, VOLUME_KINDS);
    const batch = {
      ...options,
      ...{ settings, kinds: KINDS, formatOf, also: isNiftiName },
      ...(pages && { pages }),
    };
    const result = yield* runBatch(batch, context, async function* (item) {
      return (await formatOf(item)) ? yield* segmentVolume(item, job) : yield* segmentOne(item, job);
    });
    const seconds = (performance.now() - startedAt) / 1000;
    const { done, kept, failed } = result;
    return {
      summary: `${batchSummary(result, "segmented")}. ${seconds.toFixed(1)} s; masks and probabilities (of pictures also overlays) are in ${out}.`,
      metrics: { pictures: done, kept, broken: failed.length, seconds },
      ...(failed.length > 0 && { incomplete: true }),
    };
  } finally {
    await segmenter.close();
  }
}

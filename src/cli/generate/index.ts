/** `tweedie generate`: from options to files. */
import { randomInt } from "node:crypto";
import manifest from "../../../package.json" with { type: "json" };
import { AbortError } from "../../errors.ts";
import { encodePng, type PictureSize, toPixels, withPngText } from "../../io/index.ts";
import { shellLine } from "../../io/shell-line.ts";
import {
  generatePictures,
  type PictureEvent,
  type PicturePlan,
  planPictures,
} from "../../pipelines/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { UsageError } from "../errors.ts";
import { stopOnSignals } from "../signals.ts";
import { seedAfter } from "../values.ts";
import { type PictureFiles, pictureFiles } from "./files.ts";
import { hashModel, hashPath } from "./hashes.ts";
import { loadInputs } from "./inputs.ts";
import type { OptionValues } from "./options.ts";
import { checkFiles, type PictureRecord, readRecord, recordTexts } from "./record.ts";
import { jsonReport, type Report, textReport } from "./report.ts";
import { filesOf, type GenerateRequest, RECORDED_OPTIONS, readArguments, requestOf } from "./request.ts";

/** New seeds are below this, so that people can type them. */
const SEEDS = 2 ** 32;

/** A record but for what differs between the pictures of a job. */
type CommonRecord = Omit<PictureRecord, "batch" | "webUi">;

/** What is to be made. */
interface Job {
  readonly options: OptionValues;
  readonly request: GenerateRequest;
  readonly seeds: readonly Seed[];
  /** Pictures computed together. */
  readonly rows: number;
  /** Index of the only picture that is kept, when one picture of a batch is repeated. */
  readonly only: number | undefined;
  readonly warnings: readonly string[];
  /** The picture that named the model, when no option did. */
  readonly from: string | undefined;
  /** The web UI's "Clip skip" was taken from a picture: it passes over the setting for SDXL. */
  readonly webUiClipSkip: boolean;
}

const isRepeat = (given: OptionValues): boolean => !given.seed && !given.count && !given.batch;

/** What a picture says, without what belongs to a sampler that another one replaces. */
function recordedFor(given: OptionValues, record: PictureRecord | undefined): OptionValues {
  const { eta, ...others } = record?.options ?? {};
  return given.sampler === undefined && eta !== undefined ? { ...others, eta } : others;
}

/** Options of the command line, over those of the picture that is repeated. */
async function readJob(args: readonly string[]): Promise<Job> {
  const given = readArguments(args);
  const from = Array.isArray(given.from) ? (given.from[0] as string) : undefined;
  const record = from === undefined ? undefined : await readRecord(from);
  const options: OptionValues = { ...recordedFor(given, record), ...given };
  const request = requestOf(options);
  if (record && from) await checkFiles(record, filesOf(request), given, from);
  const seed = request.seed ?? randomInt(SEEDS);
  const { rows, row } = record && isRepeat(given) ? record.batch : { rows: 1, row: 0 };
  const [count, first] = rows > 1 ? [rows, seedAfter(seed, -row)] : [request.count, seed];
  const seeds = Array.from({ length: count }, (_, i) => seedAfter(first, i));
  return {
    options,
    request,
    seeds,
    rows: rows > 1 ? rows : request.batch,
    only: rows > 1 ? row : undefined,
    warnings: record?.webUi?.warnings ?? [],
    from: given.model === undefined ? from : undefined,
    webUiClipSkip: record?.webUi !== undefined && given["clip-skip"] === undefined,
  };
}

/** What all pictures of a job say about how they were made, but for seed and place in the batch. */
async function commonRecord(
  { options, request }: Job,
  { settings, components }: PicturePlan,
): Promise<CommonRecord> {
  const { width, height, steps, eta, guidance, strength, rng, samplerName } = settings;
  const resolved = { size: `${width}x${height}`, steps, eta, guidance, strength, rng };
  const texts = Object.entries(resolved).filter(([, value]) => value !== undefined);
  const all: OptionValues = {
    ...options,
    ...Object.fromEntries(texts.map(([name, value]) => [name, [String(value)]])),
    seed: [], // set for each picture, in this place
  };
  const recorded = RECORDED_OPTIONS.filter((name) => all[name] !== undefined).map((name) => [
    name,
    all[name],
  ]);
  const paths = Object.values(filesOf(request)).flat().sort();
  const hashes = await Promise.all(paths.map(async (path) => [path, await hashPath(path)] as const));
  return {
    version: manifest.version,
    options: Object.fromEntries(recorded),
    sampler: samplerName,
    modelHash: await hashModel(components.path),
    files: Object.fromEntries(hashes.filter((pair): pair is [string, string] => pair[1] !== undefined)),
  };
}

async function encode(image: Tensor, shownAs?: PictureSize): Promise<Buffer> {
  const [, , height, width] = image.shape as [number, number, number, number];
  return encodePng(await toPixels(image), { width, height }, shownAs);
}

/** Writes a finished picture, and says where it is. */
async function keep(
  { image, seed, row, rows }: Extract<PictureEvent, { type: "picture" }>,
  common: CommonRecord | undefined,
  files: PictureFiles,
  report: Report,
): Promise<void> {
  const pixels = await encode(image);
  const options = { ...common?.options, seed: [String(seed)] };
  const png = common
    ? withPngText(pixels, recordTexts({ ...common, options, batch: { rows, row } }))
    : pixels;
  const path = await files.write(seed, png);
  const [, , height, width] = image.shape as [number, number, number, number];
  report.picture(path, { seed: String(seed), width, height, ...(common && { options }) });
}

/** Makes the pictures of a job. Yields after each that is written. */
async function* run(job: Job, files: PictureFiles, signal: AbortSignal): AsyncGenerator<void, void> {
  const { request, seeds, rows, only } = job;
  // A picture from elsewhere may name any path.
  if (job.from !== undefined) console.error(`loading ${request.model}, which ${job.from} names`);
  const { components, options } = await loadInputs(request, signal).catch((error: Error) => {
    if (job.from === undefined || !error.message.startsWith(`${request.model}:`)) throw error;
    throw new UsageError(
      `${error.message}; ${job.from} was made with this model: --model says where it is now`,
    );
  });
  const noSkip = job.webUiClipSkip && components.kind === "sdxl";
  const plan = planPictures(components, { ...options, ...(noSkip && { clipSkip: 0 }), seeds, batch: rows });
  const kept = noSkip ? { ...job, options: { ...job.options, "clip-skip": ["0"] } } : job;
  const common = request.metadata ? await commonRecord(kept, plan) : undefined;
  const report = request.json ? jsonReport() : textReport(plan.totalSteps);
  for (const warning of job.warnings) report.warning(warning);
  if (request.seed === undefined) report.seed(seeds[0]!);
  const { previewEvery } = request;
  const { width, height } = plan.settings;
  let done = 0;
  try {
    for await (const event of generatePictures(plan, { signal, previewEvery })) {
      if (event.type === "warning") report.warning(event.message);
      else if (event.type === "step") {
        report.progress(++done, plan.totalSteps);
        if (event.preview) await files.preview(await encode(event.preview, { width, height }));
      } else if (only === undefined || event.index === only) {
        await keep(event, common, files, report);
        yield;
      }
    }
  } finally {
    report.finish();
  }
}

/** The command that makes the pictures which are not written yet. */
function rest(given: OptionValues, seeds: readonly Seed[]): string {
  const words = Object.entries(given).flatMap(([name, value]) => {
    if (name === "seed" || name === "count") return [];
    if (typeof value === "boolean") return [`--${value ? "" : "no-"}${name}`];
    return value.flatMap((text) => [`--${name}`, text]);
  });
  return shellLine([
    "tweedie",
    "generate",
    ...words,
    "--seed",
    String(seeds[0]),
    "--count",
    String(seeds.length),
  ]);
}

/** Runs `tweedie generate` with the given arguments. */
export async function generate(args: readonly string[]): Promise<void> {
  const job = await readJob(args);
  const { request, seeds, only } = job;
  const count = only === undefined ? seeds.length : 1;
  const files = pictureFiles(request.out, count);
  if (!request.overwrite) await files.check(only === undefined ? seeds : [seeds[only]!]);
  const { signal, release } = stopOnSignals(files.tidy);
  let written = 0;
  try {
    for await (const _ of run(job, files, signal)) written++;
  } catch (error) {
    if (!(error instanceof AbortError) || written === 0) throw error;
    throw new AbortError(
      `stopped: ${written} of ${count} pictures are written. For the others:\n  ${rest(readArguments(args), seeds.slice(written))}`,
    );
  } finally {
    release();
    files.tidy();
  }
}

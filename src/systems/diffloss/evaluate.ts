/** `tweedie evaluate diffloss`: scores of a network on pairs, beside those of the degraded pictures and of a blur. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import {
  blurPicture,
  type Dataset,
  DEGRADATIONS,
  type DegradationName,
  degradedPairs,
  noiseOf,
  openRestorationPairs,
  picturesToTensor,
  type RestorationPair,
  subset,
} from "../../data/index.ts";
import { writeFileAtomic } from "../../io/index.ts";
import { RESTORATION_CONVENTIONS, type RestorationScore } from "../../metrics/index.ts";
import { mean, tableOf } from "../../study/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { openRestoring } from "../restoring.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { folderPictures, procedural } from "./data.ts";
import { type Notes, restorerFile, restorerPath } from "./model.ts";
import type { EvaluateActionOptions } from "./options.ts";
import { type PictureScores, type Restore, scored, unchanged, wayOf } from "./scores.ts";

const first = <T>(all: Dataset<T>, limit: number | undefined): Dataset<T> =>
  subset(
    all,
    Array.from({ length: Math.min(limit ?? all.length, all.length) }, (_, i) => i),
  );

const TEST = 64;

async function pairsOf(
  { pairs, data, task, sigma, limit, seed }: EvaluateActionOptions,
  trainedFor: string | undefined,
): Promise<{ title: string; pairs: Dataset<RestorationPair> }> {
  if (pairs !== undefined) return { title: pairs, pairs: first(await openRestorationPairs(pairs), limit) };
  const clean =
    data === undefined ? procedural("test", limit ?? TEST) : first(await folderPictures(data), limit);
  const known =
    trainedFor !== undefined && trainedFor in DEGRADATIONS ? (trainedFor as DegradationName) : undefined;
  const name = task ?? known ?? "noise";
  const degradation = sigma === undefined ? DEGRADATIONS[name] : noiseOf(sigma);
  return {
    title: `${data ?? `${clean.length} of our own test pictures`}, ${degradation.about}`,
    pairs: degradedPairs(clean, degradation, seed),
  };
}

/** The simplest that one could do: a Gaussian blur of one pixel. // [1, C, H, W] */
const blurred: Restore = async (y: Tensor) => {
  const [, channels, height, width] = y.shape as [number, number, number, number];
  const values = (await y.data()) as Float32Array;
  const plane = height * width;
  const data = Float32Array.from({ length: values.length }, (_, i) => {
    return values[(i % channels) * plane + Math.floor(i / channels)]!;
  });
  return picturesToTensor([blurPicture({ width, height, channels, data }, 1)], "unit");
};

export const averaged = (scores: readonly PictureScores[], score: RestorationScore | "detail"): number =>
  mean(scores.map((one) => one[score]));

/** Scores of a network on pairs of files, or on clean pictures that are degraded. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { model, notes } = await restorerFile.load(await restorerPath(options.model));
  const { title, pairs } = await pairsOf(options, (notes as Notes).task);
  const restoring = openRestoring(model, options.threads === undefined ? {} : { threads: options.threads });
  try {
    yield { type: "message", text: `${title}: ${pairs.length} pictures, model ${options.model}` };
    const ways = {
      [`model ${options.model}`]: wayOf(restoring),
      "as they are": unchanged,
      "blur of 1 pixel": blurred,
    };
    const given = { threads: options.threads, signal };
    const found = yield* scored("pictures", ways, pairs, given);
    const rows = new Map(Object.entries(found));
    const columns = Object.fromEntries(
      (["psnr", "ssim", "psnrY", "ssimY", "detail"] as const).map((score) => [
        score,
        (scores: PictureScores[]) => averaged(scores, score),
      ]),
    );
    yield { type: "table", title, table: tableOf("way", rows, columns) };
    for (const [name, meaning] of Object.entries(RESTORATION_CONVENTIONS))
      yield { type: "message", text: `${name}: ${meaning}` };
    const [own] = Object.values(found);
    const metrics = { psnr: averaged(own!, "psnr"), ssim: averaged(own!, "ssim") };
    if (options.out !== undefined) {
      await mkdir(dirname(options.out), { recursive: true });
      const report = { title, conventions: RESTORATION_CONVENTIONS, metrics, pictures: found };
      await writeFileAtomic(options.out, Buffer.from(`${JSON.stringify(report)}\n`));
      yield { type: "file", path: options.out, about: "numbers of every picture" };
    }
    const input = averaged(found["as they are"]!, "psnr");
    return {
      summary: `PSNR ${metrics.psnr.toFixed(2)} dB (degraded: ${input.toFixed(2)}), SSIM ${metrics.ssim.toFixed(4)}.`,
      metrics,
    };
  } finally {
    await restoring.close();
  }
}

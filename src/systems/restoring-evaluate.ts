/** `evaluate` of systems that restore: scores of a network on pairs, beside those of the degraded pictures and of a blur. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import {
  blurPicture,
  type Dataset,
  DEGRADATIONS,
  type DegradationName,
  degradedPairs,
  folderPictures,
  noiseOf,
  openRestorationPairs,
  ownPictures,
  picturesToTensor,
  type RestorationPair,
  subset,
} from "../data/index.ts";
import { writeFileAtomic } from "../io/index.ts";
import {
  openLpips,
  type PictureScores,
  RESTORATION_CONVENTIONS,
  type Restore,
  scored,
  unchanged,
  wayOf,
} from "../metrics/index.ts";
import { mean, tableOf } from "../study/index.ts";
import type { Tensor } from "../tensor/index.ts";
import type { Work } from "../work.ts";
import { openRestoring, type Restoring } from "./restoring.ts";
import type { EvaluateOptions, RestoringSystem } from "./restoring-options.ts";
import type { ActionContext, ActionResult } from "./system.ts";

const first = <T>(all: Dataset<T>, limit: number | undefined): Dataset<T> =>
  subset(
    all,
    Array.from({ length: Math.min(limit ?? all.length, all.length) }, (_, i) => i),
  );

const TEST = 64;

const DETAIL =
  "mean slope of the restored picture over that of the clean one: above 1 noise is left, below 1 it is blurred";
const LPIPS = "LPIPS v0.1 with SqueezeNet; pictures under 100 pixels are enlarged twice";

async function pairsOf(
  { pairs, data, task, sigma, limit, seed }: Omit<EvaluateOptions, "model" | "against">,
  trainedFor: string | undefined,
): Promise<{ title: string; pairs: Dataset<RestorationPair> }> {
  if (pairs !== undefined) return { title: pairs, pairs: first(await openRestorationPairs(pairs), limit) };
  const clean =
    data === undefined ? ownPictures("test", limit ?? TEST) : first(await folderPictures(data), limit);
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

type Column = Exclude<keyof PictureScores, "name">;
const averaged = (scores: readonly PictureScores[], score: Column): number =>
  mean(scores.map((one) => one[score]!));

/** The action that scores a network on pairs of files, or on clean pictures that are degraded. */
export const restoringEvaluate = ({ open }: RestoringSystem) =>
  async function* evaluateAction(
    { model, against, ...options }: EvaluateOptions,
    { signal }: ActionContext,
  ): Work<ActionResult> {
    const { threads, out } = options;
    const nets = await Promise.all([model, ...(against === undefined ? [] : [against])].map(open));
    const { title, pairs } = await pairsOf(options, nets[0]!.notes.task);
    const lpips = options.lpips === undefined ? undefined : await openLpips(options.lpips);
    const opened: Restoring[] = [];
    try {
      yield { type: "message", text: `${title}: ${pairs.length} pictures, model ${model}` };
      const ways: Record<string, Restore> = {};
      for (const [i, net] of nets.entries()) {
        opened.push(openRestoring(net.model, threads === undefined ? {} : { threads }));
        ways[`model ${i === 0 ? model : against}`] = wayOf(opened[i]!);
      }
      Object.assign(ways, { "as they are": unchanged, "blur of 1 pixel": blurred });
      const found = yield* scored("pictures", ways, pairs, { lpips, threads, signal });
      const scores: Column[] = [
        "psnr",
        "ssim",
        "psnrY",
        "ssimY",
        "detail",
        ...(lpips ? ["lpips" as const] : []),
      ];
      const columns = Object.fromEntries(
        scores.map((score) => [score, (rows: PictureScores[]) => averaged(rows, score)]),
      );
      yield { type: "table", title, table: tableOf("way", new Map(Object.entries(found)), columns) };
      const conventions = { ...RESTORATION_CONVENTIONS, detail: DETAIL, ...(lpips && { lpips: LPIPS }) };
      for (const [name, meaning] of Object.entries(conventions))
        yield { type: "message", text: `${name}: ${meaning}` };
      const own = found[`model ${model}`]!;
      const metrics = Object.fromEntries(scores.map((score) => [score, averaged(own, score)]));
      if (out !== undefined) {
        await mkdir(dirname(out), { recursive: true });
        const report = { title, conventions, metrics, pictures: found };
        await writeFileAtomic(out, Buffer.from(`${JSON.stringify(report)}\n`));
        yield { type: "file", path: out, about: "numbers of every picture" };
      }
      const beside = [
        `degraded: ${averaged(found["as they are"]!, "psnr").toFixed(2)}`,
        ...(against === undefined
          ? []
          : [`${against}: ${averaged(found[`model ${against}`]!, "psnr").toFixed(2)}`]),
      ];
      return {
        summary: `PSNR ${metrics.psnr!.toFixed(2)} dB (${beside.join(", ")}), SSIM ${metrics.ssim!.toFixed(4)}.`,
        metrics,
      };
    } finally {
      await Promise.all(opened.map((one) => one.close()));
    }
  };

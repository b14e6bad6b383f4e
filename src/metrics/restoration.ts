/** Scores of restored pictures under the conventions that papers use, each named, since they differ by decibels. */
import { ShapeError } from "../errors.ts";
import type { Jitted } from "../tensor/index.ts";
import { jit, type Tensor } from "../tensor/index.ts";
import { psnr, ssim } from "./image-similarity.ts";

/** What each number is. Pictures are cut off to [0, 1] and rounded to 8 bits before anything is compared. */
export const RESTORATION_CONVENTIONS = {
  psnr: "PSNR of 8-bit RGB, dB: one mean squared error over all pixels and channels",
  ssim: "SSIM of 8-bit RGB: Gaussian window of 11 with sigma 1.5, windows within the picture only, mean over channels",
  psnrY: "PSNR of Y, dB: 16 + 65.481 R + 128.553 G + 24.966 B of 8-bit RGB, not rounded, peak 255",
  ssimY: "SSIM of the same Y, same window",
} as const;
/** Name of a score. */
export type RestorationScore = keyof typeof RESTORATION_CONVENTIONS;
/** Scores of a restored picture by name. */
export type RestorationScores = Readonly<Record<RestorationScore, number>>;

/** As a file in 8 bits has it, in [0, 1]. */
const inBytes = (x: Tensor): Tensor => x.clip(0, 1).mul(255).round().div(255);

/** Y of BT.601 as video has it, 16 to 235, over 255; gray is taken as three equal colours. // [N, 1 or 3, H, W] to [N, 1, H, W] */
export function videoLuma(x: Tensor): Tensor {
  const channel = (c: number): Tensor => x.sliceAxis(1, c, c + 1);
  const sum =
    x.shape[1] === 1
      ? channel(0).mul(219)
      : channel(0).mul(65.481).add(channel(1).mul(128.553)).add(channel(2).mul(24.966));
  return sum.add(16).div(255);
}

function scoresOf(restored: Tensor, clean: Tensor): Record<RestorationScore, Tensor> {
  const [a, b] = [inBytes(restored), inBytes(clean)];
  const [ya, yb] = [videoLuma(a), videoLuma(b)];
  return { psnr: psnr(a, b), ssim: ssim(a, b), psnrY: psnr(ya, yb), ssimY: ssim(ya, yb) };
}

/** Scores pairs of pictures, compiled once for each size. Close it when done. */
export interface RestorationScorer {
  /** Of restored and clean pictures [N, 1 or 3, H, W] in [0, 1], one result for each. @throws ShapeError for two shapes */
  score(restored: Tensor, clean: Tensor): Promise<RestorationScores[]>;
  /** Frees the compiled networks. */
  close(): Promise<void>;
}

/** A scorer with its compiled computation; `threads` of each run. */
export function openRestorationScorer(settings: { readonly threads?: number } = {}): RestorationScorer {
  const run: Jitted<[Tensor, Tensor], Record<RestorationScore, Tensor>> = jit(scoresOf, settings);
  return {
    async score(restored, clean) {
      const [n, channels] = clean.shape as [number, number];
      if (
        restored.shape.join() !== clean.shape.join() ||
        clean.rank !== 4 ||
        (channels !== 1 && channels !== 3)
      )
        throw new ShapeError(
          `restoration scores: expected two tensors [N, 1 or 3, H, W] of one shape, got ${restored} and ${clean}`,
        );
      const found = await run(restored, clean);
      const names = Object.keys(RESTORATION_CONVENTIONS) as RestorationScore[];
      const columns = await Promise.all(names.map((name) => found[name].toArray()));
      return Array.from(
        { length: n },
        (_, i) => Object.fromEntries(names.map((name, k) => [name, columns[k]![i]!])) as RestorationScores,
      );
    },
    close: () => run.close(),
  };
}

/**
 * The mixed objective (section 3 of the paper): clean pictures that are heavily masked, and noised ones that are lightly
 * masked. Of the noised ones, the noise is predicted where they are visible and the clean picture where they are not.
 */
import { ArgumentError } from "../../errors.ts";
import { patchify } from "../../networks/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { UMD, UMDOutput } from "./model.ts";

/** What is mixed, and how much is hidden. */
export interface Mixture {
  /** Share of a batch that stays clean: 1 is MAE, 0 is DiT or MaskDiT. */
  readonly cleanShare: number;
  /** Hidden share of noised pictures. */
  readonly noisedMask: number;
  /** Hidden share of clean pictures. */
  readonly cleanMask: number;
}

/** The method and what it is compared with: other numbers for the same code. */
export const MIXTURES = {
  umd: { cleanShare: 0.5, noisedMask: 0.375, cleanMask: 0.75 },
  dit: { cleanShare: 0, noisedMask: 0, cleanMask: 0.75 },
  maskdit: { cleanShare: 0, noisedMask: 0.5, cleanMask: 0.75 },
  mae: { cleanShare: 1, noisedMask: 0.375, cleanMask: 0.75 },
} as const satisfies Record<string, Mixture>;

export type MethodName = keyof typeof MIXTURES;

/** The last so many of a batch stay clean. Throws `ArgumentError` for a share outside [0, 1]. */
export function cleanCount(batch: number, { cleanShare }: Pick<Mixture, "cleanShare">): number {
  if (!(cleanShare >= 0 && cleanShare <= 1))
    throw new ArgumentError(`UMD: expected a share of clean pictures in [0, 1], got ${cleanShare}`);
  return Math.floor(batch * cleanShare);
}

export interface NoisedPart {
  readonly x0: Tensor; // [N, C, S, S]
  readonly noise: Tensor; // [N, C, S, S]
  /** sqrt(alphaBar) and sqrt(1 - alphaBar) at the index i. */
  readonly signal: Tensor; // [N, 1, 1, 1]
  readonly sigma: Tensor; // [N, 1, 1, 1]
  /** i + 1. */
  readonly t: Tensor; // [N]
  readonly labels?: Tensor; // [N]
  readonly maskNoise: Tensor; // [N, L]
}

export interface CleanPart {
  readonly x0: Tensor; // [N, C, S, S]
  /** Zeros. */
  readonly t: Tensor; // [N]
  readonly maskNoise: Tensor; // [N, L]
}

/** A batch in its two parts; a part without pictures is left out. */
export interface UMDBatch {
  readonly noised?: NoisedPart;
  readonly clean?: CleanPart;
}

/** Squared errors by patch: [N, L]. */
const byPatch = (a: Tensor, b: Tensor, patch: number): Tensor => patchify(a.sub(b).square(), patch).mean(-1);

/** `sum(weight error) / sum(weight)`: the balance of the heads does not move with the ratio. */
const weighted = (errors: Tensor, weight: Tensor): Tensor => errors.mul(weight).sum().div(weight.sum());

/** Errors of the clean part on hidden patches, everywhere when nothing is hidden. */
function cleanLoss({ x0, mask }: UMDOutput, target: Tensor, patch: number): Tensor {
  const errors = byPatch(x0, target, patch);
  return mask ? weighted(errors, mask) : errors.mean();
}

/** Terms of the loss, each a mean over what it concerns. */
export interface LossParts {
  readonly mae?: Tensor;
  readonly eps?: Tensor;
  readonly x0?: Tensor;
}

/** Two forward passes, because the parts keep different numbers of tokens. */
export function umdLossParts(model: UMD, { noised, clean }: UMDBatch, mixture: Mixture): LossParts {
  const { patch } = model.config;
  const parts: { mae?: Tensor; eps?: Tensor; x0?: Tensor } = {};
  if (noised) {
    const { x0, noise, signal, sigma, t, labels, maskNoise } = noised;
    const x = x0.mul(signal).add(noise.mul(sigma));
    const out = model.call(
      { x, t, ...(labels && { labels }) },
      { noise: maskNoise, ratio: mixture.noisedMask },
    );
    const eps = byPatch(out.eps, noise, patch);
    const picture = byPatch(out.x0, x0, patch);
    parts.eps = out.mask ? weighted(eps, out.mask.neg().add(1)) : eps.mean();
    parts.x0 = out.mask ? weighted(picture, out.mask) : picture.mean();
  }
  if (clean) {
    const { x0, t, maskNoise } = clean;
    const out = model.call({ x: x0, t }, { noise: maskNoise, ratio: mixture.cleanMask });
    parts.mae = cleanLoss(out, x0, patch);
  }
  return parts;
}

/** `(1 - n0 / B) (eps + x0) / 2 + (n0 / B) mae` over a batch of B of which n0 are clean. */
export function umdLoss(mixture: Mixture): (model: UMD, batch: UMDBatch) => Tensor {
  return (model, batch) => {
    const [noised, clean] = [batch.noised?.x0.shape[0] ?? 0, batch.clean?.x0.shape[0] ?? 0];
    const { mae, eps, x0 } = umdLossParts(model, batch, mixture);
    const terms = [
      ...(eps && x0 ? [eps.add(x0).mul(noised / (2 * (noised + clean)))] : []),
      ...(mae ? [mae.mul(clean / (noised + clean))] : []),
    ];
    if (terms.length === 0) throw new ArgumentError("UMD: a batch has neither noised nor clean pictures");
    return terms.reduce((a, b) => a.add(b));
  };
}

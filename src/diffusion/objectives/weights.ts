/**
 * Weights of noise levels in the loss, [N], as factors of the prediction's squared error. In each comment w is the
 * factor of the clean sample's squared error, which does not depend on what is predicted.
 */
import { ArgumentError } from "../../errors.ts";
import { maximum, minimum, type Tensor } from "../../tensor/index.ts";
import { type NoiseLevel, signalToNoise } from "./add-noise.ts";
import type { Objective } from "./targets.ts";

/** Weight of each sample in the loss, by its noise level. // [N] */
export type LossWeight = (objective: Objective, level: NoiseLevel) => Tensor;

function positive(name: string, value: number): number {
  if (value > 0 && Number.isFinite(value)) return value;
  throw new ArgumentError(`${name} must be positive, got ${value}`);
}

/** The same weight at every noise level. */
export const uniformWeight: LossWeight = (_objective, { alpha }) => alpha.mul(0).add(1);

/** w = min(SNR, gamma) (Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy"). */
export function minSnrWeight(gamma = 5): LossWeight {
  positive("gamma of min-SNR", gamma);
  return (objective, level) => minimum(objective.noiseShare(level), objective.cleanShare(level).mul(gamma));
}

/** w = SNR gamma / (SNR + gamma), without the kink of min-SNR (Crowson et al. 2024, "Hourglass diffusion transformers"). */
export function softMinSnrWeight(gamma = 5): LossWeight {
  positive("gamma of soft min-SNR", gamma);
  return (objective, level) =>
    objective
      .noiseShare(level)
      .reciprocal()
      .add(objective.cleanShare(level).mul(gamma).reciprocal())
      .reciprocal();
}

/** w = SNR / (k + SNR)^gamma (Choi et al. 2022, "Perception prioritized training of diffusion models"). */
export function p2Weight({ k = 1, gamma = 1 } = {}): LossWeight {
  positive("k of P2", k);
  return (objective, level) => objective.noiseShare(level).div(signalToNoise(level).add(k).pow(gamma));
}

/** w = SNR + 1 / sigmaData^2, that is (sigma^2 + sigmaData^2) / (sigma sigmaData)^2 (Karras et al. 2022, table 1). */
export function edmWeight(sigmaData = 0.5): LossWeight {
  positive("sigmaData", sigmaData);
  return (objective, level) =>
    objective.noiseShare(level).add(objective.cleanShare(level).mul(1 / sigmaData ** 2));
}

/** w = sqrt(SNR) (Yu et al. 2024, "Debias the training of diffusion models"); the SNR is kept above `floor`. */
export function debiasedWeight(floor = 1e-4): LossWeight {
  positive("floor of the debiased weight", floor);
  return (objective, level) => objective.noiseShare(level).mul(maximum(signalToNoise(level), floor).rsqrt());
}

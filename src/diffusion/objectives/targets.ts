/** What a network is trained to predict. */
import type { Tensor } from "../../tensor/index.ts";
import { type NoiseLevel, perSample, squaredRatio } from "./add-noise.ts";

/**
 * A training target. A prediction is an affine function of the clean sample, so its squared error is a factor times the
 * squared error of the clean sample. Loss weights are stated for the clean sample and divided by that factor.
 */
export interface Objective {
  /** What the network sees of the noisy sample. */
  readonly input: (x: Tensor, level: NoiseLevel) => Tensor;
  /** What the network should predict. */
  readonly target: (x0: Tensor, noise: Tensor, level: NoiseLevel) => Tensor;
  /** The clean sample that a prediction means. */
  readonly clean: (prediction: Tensor, x: Tensor, level: NoiseLevel) => Tensor;
  /** Squared error of the clean sample / squared error of the prediction, [N]. */
  readonly cleanShare: (level: NoiseLevel) => Tensor;
  /** Squared error of the noise / squared error of the prediction, [N]. */
  readonly noiseShare: (level: NoiseLevel) => Tensor;
}

const asItIs = (x: Tensor): Tensor => x;

/** The noise (Ho et al. 2020). */
export const epsilonObjective: Objective = {
  input: asItIs,
  target: (_x0, noise) => noise,
  clean: (p, x, { alpha, sigma }) => x.sub(p.mul(perSample(sigma, x))).div(perSample(alpha, x)),
  cleanShare: ({ alpha, sigma }) => squaredRatio(sigma, alpha),
  noiseShare: ({ alpha }) => alpha.mul(0).add(1),
};

/** The clean sample. */
export const sampleObjective: Objective = {
  input: asItIs,
  target: (x0) => x0,
  clean: asItIs,
  cleanShare: ({ alpha }) => alpha.mul(0).add(1),
  noiseShare: ({ alpha, sigma }) => squaredRatio(alpha, sigma),
};

/** v = alpha * noise - sigma * x0 (Salimans & Ho 2022), for alpha^2 + sigma^2 = 1. */
export const vObjective: Objective = {
  input: asItIs,
  target: (x0, noise, { alpha, sigma }) => noise.mul(perSample(alpha, x0)).sub(x0.mul(perSample(sigma, x0))),
  clean: (p, x, { alpha, sigma }) => x.mul(perSample(alpha, x)).sub(p.mul(perSample(sigma, x))),
  cleanShare: ({ sigma }) => sigma.square(),
  noiseShare: ({ alpha }) => alpha.square(),
};

/** The velocity noise - x0 of the straight path (Lipman et al. 2023), for alpha = 1 - sigma. */
export const flowObjective: Objective = {
  input: asItIs,
  target: (x0, noise) => noise.sub(x0),
  clean: (p, x, { sigma }) => x.sub(p.mul(perSample(sigma, x))),
  cleanShare: ({ sigma }) => sigma.square(),
  noiseShare: ({ alpha }) => alpha.square(),
};

/** The raw network F of Karras et al. 2022 (eq. 7 and 8, table 1), for alpha = 1; `sigmaData` is the deviation of the data. */
export function edmObjective(sigmaData = 0.5): Objective {
  const variance = sigmaData ** 2;
  const total = (sigma: Tensor): Tensor => sigma.square().add(variance);
  const skip = (sigma: Tensor): Tensor => total(sigma).reciprocal().mul(variance);
  const output = (sigma: Tensor): Tensor => sigma.mul(total(sigma).rsqrt()).mul(sigmaData);
  return {
    input: (x, { sigma }) => x.mul(perSample(total(sigma).rsqrt(), x)),
    // (x0 - skip x) / output, without the division by a small sigma
    target: (x0, noise, { sigma }) => {
      const scale = total(sigma)
        .rsqrt()
        .mul(1 / sigmaData);
      return x0.mul(perSample(sigma.mul(scale), x0)).sub(noise.mul(perSample(scale, x0)).mul(variance));
    },
    clean: (p, x, { sigma }) => x.mul(perSample(skip(sigma), x)).add(p.mul(perSample(output(sigma), x))),
    cleanShare: ({ sigma }) => output(sigma).square(),
    noiseShare: ({ sigma }) => skip(sigma),
  };
}

/**
 * What a network predicts, in one place. Every parameterisation is linear: with F the network's output,
 * `denoised = skip * x + output * F(input * x, t)` (Karras et al. 2022, "Elucidating the Design Space", eq. 7).
 */
import { ArgumentError, ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";
import type { Denoise } from "./sample.ts";
import { floatsOf, fromFloats, weightedSum } from "./weighted-sum.ts";

/** Scales of the network's input, of the skip connection and of the network's output. */
export interface Scalings {
  readonly input: number;
  readonly skip: number;
  readonly output: number;
}

/** The scalings at a noise level. */
export type Parameterization = (sigma: number) => Scalings;

/** A network: takes the scaled sample [N, ...] and the timestep, returns its prediction. */
export type Network = (x: Tensor, timestep: number) => Tensor | Promise<Tensor>;

/** A variance-preserving network sees x0 and noise of joint variance 1: alpha = 1 / sqrt(1 + sigma^2). */
const alpha = (sigma: number): number => 1 / Math.sqrt(1 + sigma * sigma);

/** Predicts the noise (Ho et al. 2020), from a variance-preserving sample. */
export const epsilonPrediction: Parameterization = (s) => ({ input: alpha(s), skip: 1, output: -s });

/** Predicts the clean sample, from a variance-preserving one. */
export const samplePrediction: Parameterization = (s) => ({ input: alpha(s), skip: 0, output: 1 });

/** Predicts v = alpha * noise - sigma * x0 (Salimans and Ho 2022), from a variance-preserving sample. */
export const vPrediction: Parameterization = (s) => ({
  input: alpha(s),
  skip: alpha(s) ** 2,
  output: -s * alpha(s),
});

/** Predicts the velocity noise - x0 of the straight path x = (1 - sigma) x0 + sigma noise (Lipman et al. 2023). */
export const flowPrediction: Parameterization = (s) => ({ input: 1, skip: 1, output: -s });

/** A flow network in the coordinates of the other samplers, where x = x0 + s * noise and s = sigma / (1 - sigma). */
export const flowPredictionAtRatio: Parameterization = (s) => ({
  input: 1 / (1 + s),
  skip: 1 / (1 + s),
  output: -s / (1 + s),
});

/** Predicts the score, from x = x0 + sigma * noise itself (Song et al. 2021): Tweedie's formula. */
export const scorePrediction: Parameterization = (s) => ({ input: 1, skip: 1, output: s * s });

/** Preconditioning of Karras et al. 2022, table 1; sigmaData is the deviation of the data. */
export function edmPrediction(sigmaData = 0.5, sign: 1 | -1 = 1): Parameterization {
  const variance = sigmaData ** 2;
  return (s) => ({
    input: 1 / Math.sqrt(s * s + variance),
    skip: variance / (s * s + variance),
    output: (sign * s * sigmaData) / Math.sqrt(s * s + variance),
  });
}

/** Consistency models (Song et al. 2023, eq. 5 and appendix C): the identity at sigmaMin. */
export function consistencyPrediction(sigmaMin = 0.002, sigmaData = 0.5): Parameterization {
  const variance = sigmaData ** 2;
  return (s) => ({
    input: 1 / Math.sqrt(s * s + variance),
    skip: variance / ((s - sigmaMin) ** 2 + variance),
    output: ((s - sigmaMin) * sigmaData) / Math.sqrt(s * s + variance),
  });
}

/** Parameterisations by the names that configurations use. */
export const PARAMETERIZATIONS: Readonly<Record<string, Parameterization>> = {
  epsilon: epsilonPrediction,
  sample: samplePrediction,
  v_prediction: vPrediction,
  flow_prediction: flowPrediction,
};

/**
 * The clean sample, from x [N, ...] at sigma and the network's prediction of the same shape. Computed on the host when the
 * values are there; for others (inside of `jit` and `grad`) an expression of the same value, which can be differentiated.
 */
export function toDenoised(p: Parameterization, x: Tensor, prediction: Tensor, sigma: number): Tensor {
  const { skip, output } = p(sigma);
  return weightedSum([skip, x], [output, prediction]);
}

/**
 * The prediction that gives this clean sample: inverse of `toDenoised`, computed like it. Throws `ArgumentError` where it
 * has none.
 */
export function toPrediction(p: Parameterization, x: Tensor, denoised: Tensor, sigma: number): Tensor {
  const { skip, output } = p(sigma);
  if (output === 0) throw new ArgumentError(`no prediction follows from the clean sample at sigma ${sigma}`);
  return weightedSum([1 / output, denoised], [-skip / output, x]);
}

/** Weights of x and of the prediction in the noise (x - denoised) / sigma; the limit where sigma is 0. */
export function noiseWeights(p: Parameterization, sigma: number): [x: number, prediction: number] {
  const level = Math.max(sigma, 1e-6);
  const { skip, output } = p(level);
  return [(1 - skip) / level, -output / level];
}

/** How a network becomes a denoiser. */
export interface DenoiserOptions {
  readonly parameterization: Parameterization;
  /** What the network is told of a noise level. */
  readonly timestep: (sigma: number) => number;
}

/** The denoiser of a network: scales its input, looks up its timestep, converts its prediction. */
export function networkDenoiser(
  network: Network,
  { parameterization, timestep }: DenoiserOptions,
): (x: Tensor, sigma: number) => Promise<Tensor> {
  return async (x, sigma) => {
    const scaled = weightedSum([parameterization(sigma).input, await x.eval()]);
    const prediction = await (await network(scaled, timestep(sigma))).eval();
    return toDenoised(parameterization, x, prediction, sigma);
  };
}

/** Applies a function such as `clip(1)` to each guess of a denoiser. */
export function mapDenoised(denoise: Denoise, f: (denoised: Tensor) => Tensor): Denoise {
  return async (x, sigma) => f(await (await denoise(x, sigma)).eval());
}

/**
 * Takes apart a network that predicts a variance beside the mean, [N, 2C, ...] (Nichol and Dhariwal 2021): the network
 * of the first half, and the second half of its latest prediction.
 */
export function splitVariance(network: Network): { network: Network; variance: () => Tensor } {
  let latest: Tensor | undefined;
  return {
    network: async (x, timestep) => {
      const both = await (await network(x, timestep)).eval();
      if (both.shape[1] !== 2 * x.shape[1]!) {
        throw new ShapeError(
          `a network that learned its variance gives ${2 * x.shape[1]!} channels, got [${both.shape}]`,
        );
      }
      latest = channelHalf(both, 1);
      return channelHalf(both, 0);
    },
    variance: () => {
      if (!latest) throw new ArgumentError("the network has not predicted a variance yet");
      return latest;
    },
  };
}

/** Half of the channels of an evaluated tensor [N, 2C, ...], without a graph. */
function channelHalf(x: Tensor, half: 0 | 1): Tensor {
  const [n, channels, ...rest] = x.shape as [number, number, ...number[]];
  const values = floatsOf(x);
  const size = values.length / n / 2;
  const out = values.slice(0, n * size);
  for (let b = 0; b < n; b++) {
    const start = (2 * b + half) * size;
    out.set(values.subarray(start, start + size), b * size);
  }
  return fromFloats(out, [n, channels / 2, ...rest], x.dtype);
}

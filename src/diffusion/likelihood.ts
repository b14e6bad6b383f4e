/**
 * Log-likelihood of samples: along the probability-flow ODE dx/dsigma = (x - denoised) / sigma the logarithm of the
 * density changes by minus the divergence (Song et al. 2021, section 4.3 and appendix D.2).
 */
import { AbortError, ArgumentError } from "../errors.ts";
import { jit, type NoiseSource, type Tensor, tensor, vjp } from "../tensor/index.ts";
import type { Parameterization } from "./parameterization.ts";
import { floatsOf, noiseTerms, weightedSum } from "./weighted-sum.ts";

/** A network that can be traced and differentiated: x [N, ...] and the timestep, a scalar tensor, to its prediction. */
export type TraceableNetwork = (x: Tensor, timestep: Tensor) => Tensor;

/** Options of `logLikelihood`. */
export interface LikelihoodOptions {
  readonly parameterization: Parameterization;
  /** What the network is told of a noise level. */
  readonly timestep: (sigma: number) => number;
  /** Rising levels from almost clean to almost pure noise; the ODE is solved by Heun's method over them. */
  readonly sigmas: readonly number[];
  /**
   * "exact" takes the trace of the Jacobian, one evaluation per dimension: for small data. Otherwise Hutchinson's
   * estimate with this many random signs, which is unbiased. Default 1.
   */
  readonly divergence?: "exact" | number;
  /** Source of the random signs; needed unless the divergence is exact. */
  readonly noise?: NoiseSource;
  /** Deviation of the model's Gaussian at the last level, per dimension. Default sqrt(1 + sigma^2). */
  readonly priorDeviation?: number;
  readonly signal?: AbortSignal;
}

/** How likely samples are, and the noise that they come from. */
export interface LogLikelihood {
  /** Natural logarithm of the density of each sample. */
  readonly logLikelihood: readonly number[];
  /** Where the ODE leads: the sample's noise at the last level, [N, ...]. */
  readonly latent: Tensor;
}

/** Data dimensions up to which the exact divergence is taken. */
const MAX_EXACT = 4096;

/**
 * Log-likelihood of each sample of x [N, ...], f32. Compiles one session, whatever the number of steps. Throws
 * `ArgumentError` for levels that do not rise, an exact divergence of more than 4096 dimensions, or missing noise.
 */
export async function logLikelihood(
  network: TraceableNetwork,
  x: Tensor,
  options: LikelihoodOptions,
): Promise<LogLikelihood> {
  const { sigmas, divergence = 1, noise, signal } = options;
  const rows = x.shape[0]!;
  const dimensions = x.size / rows;
  if (sigmas.length < 2 || sigmas.some((s, i) => !(s > (sigmas[i - 1] ?? 0)))) {
    throw new ArgumentError(`logLikelihood: expected positive rising noise levels, got [${sigmas}]`);
  }
  if (divergence === "exact" && dimensions > MAX_EXACT) {
    throw new ArgumentError(`logLikelihood: ${dimensions} dimensions are too many for the exact divergence`);
  }
  if (divergence !== "exact" && !noise) {
    throw new ArgumentError("logLikelihood: Hutchinson's estimate needs a noise source, as options.noise");
  }
  // The probes stay the same along the whole path: a smooth integrand, and an unbiased estimate all the same.
  const probes = divergence === "exact" ? unitProbes(x.shape) : signProbes(x.shape, divergence, noise!);
  const weight = divergence === "exact" ? 1 : 1 / divergence;
  const field = flowField(network, options);

  let at = await x.eval();
  const change = new Float64Array(rows);
  try {
    for (let i = 0; i + 1 < sigmas.length; i++) {
      if (signal?.aborted) throw new AbortError();
      const [sigma, next] = [sigmas[i]!, sigmas[i + 1]!];
      const step = next - sigma;
      const first = await field.at(at, sigma, probes);
      const predicted = weightedSum([1, at], [step, first.slope]);
      const second = await field.at(predicted, next, probes);
      at = weightedSum([1, at], [step / 2, first.slope], [step / 2, second.slope]);
      for (let b = 0; b < rows; b++) {
        change[b]! += (step / 2) * weight * (first.divergence[b]! + second.divergence[b]!);
      }
    }
  } finally {
    await field.close();
  }
  const last = sigmas[sigmas.length - 1]!;
  const prior = gaussianLogDensity(at, options.priorDeviation ?? Math.sqrt(1 + last * last));
  return { logLikelihood: prior.map((p, b) => p + change[b]!), latent: at };
}

/** Slope of the ODE and its divergence along probes, by one compiled function. */
function flowField(network: TraceableNetwork, { parameterization, timestep }: LikelihoodOptions) {
  const compiled = jit((x: Tensor, probe: Tensor, scales: Tensor[]) => {
    const [input, skip, output, time] = scales as [Tensor, Tensor, Tensor, Tensor];
    const denoise = (at: Tensor): Tensor => at.mul(skip).add(network(at.mul(input), time).mul(output));
    const [denoised, pullback] = vjp(denoise, x);
    const [gradient] = pullback(probe);
    return { denoised, trace: gradient.mul(probe).reshape([x.shape[0]!, -1]).sum(1) };
  });
  const scalar = (v: number): Tensor => tensor(Float32Array.of(v), { shape: [] });

  return {
    close: () => compiled.close(),
    async at(x: Tensor, sigma: number, probes: Iterable<Tensor>) {
      const { input, skip, output } = parameterization(sigma);
      const scales = [input, skip, output, timestep(sigma)].map(scalar);
      const divergence = new Float64Array(x.shape[0]!);
      const dimensions = x.size / x.shape[0]!;
      let denoised: Tensor | undefined;
      let count = 0;
      for (const probe of probes) {
        const result = await compiled(x, probe, scales);
        denoised ??= result.denoised;
        // div (x - D) / sigma = (squared norm of the probe - its quadratic form in the Jacobian of D) / sigma
        const norms = floatsOf(probe);
        floatsOf(result.trace).forEach((trace, b) => {
          let norm = 0;
          for (let i = b * dimensions; i < (b + 1) * dimensions; i++) norm += norms[i]! ** 2;
          divergence[b]! += (norm - trace) / sigma;
        });
        count++;
      }
      if (!denoised) throw new ArgumentError(`logLikelihood: expected at least one probe, got ${count}`);
      return { slope: weightedSum(...noiseTerms(1, x, denoised, sigma)), divergence };
    },
  };
}

/** For each dimension the unit vector, in every row. */
function unitProbes(shape: readonly number[]): Iterable<Tensor> {
  const size = shape.reduce((n, d) => n * d, 1);
  const dimensions = size / shape[0]!;
  return {
    *[Symbol.iterator]() {
      for (let i = 0; i < dimensions; i++) {
        const values = new Float32Array(size);
        for (let at = i; at < size; at += dimensions) values[at] = 1;
        yield tensor(values, { shape });
      }
    },
  };
}

function signProbes(shape: readonly number[], count: number, noise: NoiseSource): Tensor[] {
  return Array.from({ length: count }, (_, step) =>
    tensor(
      noise.uniform(shape, { step }).map((u) => (u < 0.5 ? -1 : 1)),
      { shape },
    ),
  );
}

/** Log-density of each row under independent centred Gaussians. */
function gaussianLogDensity(x: Tensor, deviation: number): number[] {
  const values = floatsOf(x);
  const rows = x.shape[0]!;
  const dimensions = values.length / rows;
  const constant = -dimensions * (Math.log(deviation) + 0.5 * Math.log(2 * Math.PI));
  return Array.from({ length: rows }, (_, b) => {
    let squares = 0;
    for (let i = b * dimensions; i < (b + 1) * dimensions; i++) squares += values[i]! ** 2;
    return constant - squares / (2 * deviation ** 2);
  });
}

/**
 * Bits per dimension of a log-density, for data that were whole steps of `binWidth` (2 / 255 or so for bytes scaled to
 * [-1, 1]; they must have been dequantised by noise over one step).
 */
export const bitsPerDimension = (logDensity: number, dimensions: number, binWidth = 1): number =>
  -(logDensity / dimensions + Math.log(binWidth)) / Math.LN2;

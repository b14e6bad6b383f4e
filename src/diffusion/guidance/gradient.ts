/**
 * Guidance by gradients: towards what a classifier recognises, a reward prefers or a measurement says. By Bayes' rule
 * the score of x given y is that of x plus grad log p(y | x), so by Tweedie's formula the guess of the clean sample
 * moves by sigma^2 times that gradient (sigma^2 / (1 - sigma) for flow models, whose x is (1 - sigma) x0 + sigma noise).
 *
 * What is differentiated is compiled once; networks and measurements come in as `inputs`, so they are fed to the graph
 * instead of becoming part of it. Call `close` when done.
 */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { jit, type Tensor, tensor, valueAndGrad } from "../../tensor/index.ts";
import type { DenoiserOptions } from "../parameterization.ts";
import { replaceSample, type Sampling } from "../replace-sample.ts";
import type { Denoise, SampleOptions, Sampler, SampleStep } from "../sample.ts";
import {
  at,
  type BySigma,
  type Conditioning,
  checkInterval,
  conditionAt,
  fed,
  isWithin,
  type SigmaInterval,
  sampleAxes,
} from "./conditions.ts";

/** A denoiser that can be differentiated: sigma is a tensor [], and all networks and conditions are in `inputs`. */
export type TracedDenoise<I> = (x: Tensor, sigma: Tensor, inputs: I) => Tensor;

/** The inputs of a network, with the numbers that turn its prediction into a denoised sample. */
export interface AtLevel<I> {
  readonly inputs: I;
  readonly scalings: Readonly<Record<"input" | "skip" | "output" | "timestep", Tensor>>;
}

/**
 * The differentiable denoiser of a network `(scaled x, timestep [N], inputs)`, and `feed`, which makes of the network's
 * inputs those of the denoiser at each noise level.
 */
export function tracedDenoiser<I>(
  network: (x: Tensor, timestep: Tensor, inputs: I) => Tensor,
  { parameterization, timestep }: DenoiserOptions,
): {
  denoise: TracedDenoise<AtLevel<I>>;
  feed: (inputs: Conditioning<I>) => (sigma: number) => AtLevel<I>;
} {
  const scalar = (value: number): Tensor => tensor([value], { shape: [] });
  return {
    denoise: (x, _sigma, { inputs, scalings }) => {
      const times = scalings.timestep.broadcastTo([x.shape[0]!]);
      const prediction = network(x.mul(scalings.input.cast(x.dtype)), times, inputs);
      return x.mul(scalings.skip.cast(x.dtype)).add(prediction.mul(scalings.output.cast(x.dtype)));
    },
    feed: (inputs) => (sigma) => {
      const { input, skip, output } = parameterization(sigma);
      const numbers = { input, skip, output, timestep: timestep(sigma) };
      const scalings = Object.fromEntries(Object.entries(numbers).map(([k, v]) => [k, scalar(v)]));
      return { inputs: conditionAt(inputs, sigma), scalings: scalings as AtLevel<I>["scalings"] };
    },
  };
}

/** A denoiser that holds a compiled graph. */
export interface CompiledDenoise extends Denoise {
  /** Frees the graph. */
  close(): Promise<void>;
}

/** Options of `classifierGuidance`, `rewardGuidance` and `guessGuidance`. */
export interface GradientOptions<I> {
  /** What the functions need besides x: networks, conditions, measurements, as a tree of tensors; may depend on sigma. */
  readonly inputs: Conditioning<I>;
  /** Strength; 1 follows Bayes' rule. Default 1. */
  readonly scale?: BySigma;
  /** Noise levels at which to guide. Default: all. */
  readonly interval?: SigmaInterval;
  /** Whether x is (1 - sigma) x0 + sigma noise instead of x0 + sigma noise. Default false. */
  readonly flow?: boolean;
}

/** The factor of the gradient at a noise level; 0 where there is no guidance, as at a flow's pure noise. */
function strength(options: GradientOptions<unknown>, sigma: number): number {
  const { scale = 1, interval, flow = false } = options;
  if (!isWithin(interval, sigma) || (flow && sigma >= 1)) return 0;
  const factor = (at(scale, sigma) * sigma * sigma) / (flow ? 1 - sigma : 1);
  if (!Number.isFinite(factor))
    throw new ArgumentError(`gradient guidance: the scale at sigma ${sigma} is ${at(scale, sigma)}`);
  return factor;
}

/** Sum of what should be one number per sample: its gradient is that of each sample by itself. */
function total(where: string, perSample: Tensor, x: Tensor): Tensor {
  if (perSample.rank !== 1 || perSample.shape[0] !== x.shape[0])
    throw new ShapeError(
      `${where}: expected one number per sample [${x.shape[0]}], got [${perSample.shape}]`,
    );
  return perSample.sum();
}

const closable = (denoise: Denoise, close: () => Promise<void>): CompiledDenoise =>
  Object.assign(denoise, { close });

/**
 * Classifier guidance (Dhariwal & Nichol 2021): any denoiser, moved by the gradient of `logProbability(x, sigma,
 * inputs)`, [N], of a classifier that knows noisy samples. The denoiser itself is not differentiated.
 */
export function classifierGuidance<I>(
  denoise: Denoise,
  logProbability: (x: Tensor, sigma: Tensor, inputs: I) => Tensor,
  options: GradientOptions<I>,
): CompiledDenoise {
  checkInterval("classifierGuidance", options.interval);
  const gradient = jit((x: Tensor, sigma: Tensor, inputs: I) => {
    const [, g] = valueAndGrad((z: Tensor) =>
      total("classifierGuidance", logProbability(z, sigma, inputs), z),
    )(x);
    return g;
  });
  const guided: Denoise = async (x, sigma) => {
    const denoised = await denoise(x, sigma);
    const factor = strength(options, sigma);
    if (factor === 0) return denoised;
    return denoised.add(
      (await gradient(x, fed(x, sigma), conditionAt(options.inputs, sigma))).mul(fed(x, factor)),
    );
  };
  return closable(guided, () => gradient.close());
}

/**
 * Guidance towards large values of `objective(denoised, sigma, inputs)`, [N], such as a reward or minus an energy of
 * the clean sample; its gradient goes through the denoiser to x. One compiled run per call, network and gradient.
 */
export function rewardGuidance<I>(
  denoise: TracedDenoise<I>,
  objective: (denoised: Tensor, sigma: Tensor, inputs: I) => Tensor,
  options: GradientOptions<I>,
): CompiledDenoise {
  checkInterval("rewardGuidance", options.interval);
  const plain = jit(denoise);
  const guided = jit((x: Tensor, sigma: Tensor, factor: Tensor, inputs: I) => {
    const [[, denoised], g] = valueAndGrad(
      (z: Tensor): [Tensor, Tensor] => {
        const guess = denoise(z, sigma, inputs);
        return [total("rewardGuidance", objective(guess, sigma, inputs), z), guess];
      },
      { aux: true },
    )(x);
    return denoised.add(g.mul(factor));
  });
  const call: Denoise = (x, sigma) => {
    const factor = strength(options, sigma);
    const inputs = conditionAt(options.inputs, sigma);
    return factor === 0 ? plain(x, fed(x, sigma), inputs) : guided(x, fed(x, sigma), fed(x, factor), inputs);
  };
  return closable(call, async () => {
    await Promise.all([plain.close(), guided.close()]);
  });
}

/**
 * The same without going through the network: the guess of any denoiser is moved by `scale` times the gradient of the
 * objective at the guess (as in He et al. 2024, "Manifold preserving guided diffusion"). Cheap, and coarse where the
 * guess is: choose a scale that falls with sigma, ideally the variance of x0 given x.
 */
export function guessGuidance<I>(
  denoise: Denoise,
  objective: (denoised: Tensor, sigma: Tensor, inputs: I) => Tensor,
  options: Omit<GradientOptions<I>, "flow">,
): CompiledDenoise {
  checkInterval("guessGuidance", options.interval);
  const { inputs, scale = 1, interval } = options;
  const step = jit((guess: Tensor, sigma: Tensor, factor: Tensor, given: I) => {
    const f = (z: Tensor): Tensor => total("guessGuidance", objective(z, sigma, given), z);
    return guess.add(valueAndGrad(f)(guess)[1].mul(factor));
  });
  const guided: Denoise = async (x, sigma) => {
    const guess = await denoise(x, sigma);
    if (!isWithin(interval, sigma)) return guess;
    return step(guess, fed(x, sigma), fed(x, at(scale, sigma)), conditionAt(inputs, sigma));
  };
  return closable(guided, () => step.close());
}

/** Options of `measurementGuidance`. */
export interface MeasurementOptions<I> extends GradientOptions<I> {
  /** What is known, [N or 1, …]. */
  readonly measurement: Tensor;
  /**
   * Variance of the measurement given the noisy sample: the measurement's own plus that of the guess (Song et al. 2023,
   * "Pseudoinverse-guided diffusion models": about sigma^2 / (1 + sigma^2) for data of unit variance).
   */
  readonly variance: (sigma: number) => number;
}

interface Measured<I> {
  readonly inputs: I;
  readonly measurement: Tensor;
}

/**
 * Guidance by a measurement `y = operator(x0, inputs) + noise`: the gradient of log N(y; operator(denoised), variance)
 * through the denoiser. Exact for Gaussian data and an operator that takes one coordinate.
 */
export function measurementGuidance<I>(
  denoise: TracedDenoise<I>,
  operator: (x0: Tensor, inputs: I) => Tensor,
  options: MeasurementOptions<I>,
): CompiledDenoise {
  const { measurement, variance, inputs, ...rest } = options;
  const fit = (guess: Tensor, _sigma: Tensor, given: Measured<I>): Tensor => {
    const residual = given.measurement.sub(operator(guess, given.inputs));
    return residual.square().sum(sampleAxes(residual)).mul(-0.5);
  };
  return rewardGuidance<Measured<I>>((x, sigma, given) => denoise(x, sigma, given.inputs), fit, {
    ...rest,
    inputs: (sigma) => ({ inputs: conditionAt(inputs, sigma), measurement }),
    scale: (sigma) => at(options.scale ?? 1, sigma) / positive(variance(sigma), sigma),
  });
}

function positive(variance: number, sigma: number): number {
  if (variance > 0) return variance;
  throw new ArgumentError(
    `measurementGuidance: the variance at sigma ${sigma} must be positive, got ${variance}`,
  );
}

/** Options of `posteriorSampling`. */
export interface PosteriorOptions<I> extends SampleOptions {
  readonly inputs: Conditioning<I>;
  readonly measurement: Tensor;
  /** zeta of the paper, for x as variance-preserving models have it. Default 1. */
  readonly scale?: number;
}

/**
 * Diffusion posterior sampling (Chung et al. 2023, algorithm 1): after each step of any sampler the sample moves against
 * the gradient of ‖y - operator(denoised)‖, taken at the sample that the step began with.
 */
export async function* posteriorSampling<I>(
  sampler: Sampler,
  denoise: TracedDenoise<I>,
  operator: (x0: Tensor, inputs: I) => Tensor,
  x: Tensor,
  sigmas: readonly number[],
  options: PosteriorOptions<I>,
): Sampling {
  const { inputs, measurement, scale = 1, ...rest } = options;
  const both = jit((z: Tensor, sigma: Tensor, y: Tensor, given: I) => {
    const f = (v: Tensor): [Tensor, Tensor] => {
      const guess = denoise(v, sigma, given);
      const residual = y.sub(operator(guess, given));
      return [residual.norm(sampleAxes(residual), false, 1e-12).sum(), guess];
    };
    const [[, denoised], gradient] = valueAndGrad(f, { aux: true })(z);
    return { denoised, gradient };
  });
  let gradient: Tensor | undefined;
  const remember: Denoise = async (z, sigma) => {
    const result = await both(z, fed(z, sigma), measurement, conditionAt(inputs, sigma));
    gradient ??= result.gradient;
    return result.denoised;
  };
  const follow = (step: SampleStep): Promise<Tensor> | Tensor => {
    if (!gradient) return step.x;
    const growth = Math.sqrt((1 + step.sigma ** 2) * (1 + step.sigmaNext ** 2));
    const moved = step.x.sub(gradient.mul(fed(x, scale * growth)));
    gradient = undefined;
    return moved.eval();
  };
  try {
    return yield* replaceSample(sampler(remember, x, sigmas, rest), follow);
  } finally {
    await both.close();
  }
}

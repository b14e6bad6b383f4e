/**
 * A whole sampling run as one function of tensors, to be traced and differentiated: for losses on what a model samples,
 * rewards, and inputs that are optimised through the sampler.
 */
import { ArgumentError } from "../errors.ts";
import { checkpoint, full, input, stopGradient, type Tensor, treeMap } from "../tensor/index.ts";
import { type DenoiserOptions, toDenoised } from "./parameterization.ts";
import type { RuledSampler, RuleResult } from "./rule.ts";
import { checkSchedule, noiseOfSteps, type SampleOptions, type StepNoise, type StepStart } from "./sample.ts";
import { weightedSum } from "./weighted-sum.ts";

/**
 * A denoiser inside of a graph: the guess of the clean sample from x [N, ...] at a noise level, of x's shape. Networks and
 * conditions come in `inputs`, a tree, so that gradients reach them.
 */
export type GraphDenoise<I> = (x: Tensor, sigma: number, inputs: I) => Tensor;

/** The graph denoiser of a network `(scaled x, timestep [N], inputs)`; `networkDenoiser` on the host gives the same. */
export function graphDenoiser<I>(
  network: (x: Tensor, timestep: Tensor, inputs: I) => Tensor,
  { parameterization, timestep }: DenoiserOptions,
): GraphDenoise<I> {
  return (x, sigma, inputs) => {
    const scaled = weightedSum([parameterization(sigma).input, x]);
    const prediction = network(scaled, full([x.shape[0]!], timestep(sigma)), inputs);
    return toDenoised(parameterization, x, prediction, sigma);
  };
}

/** The noise of a run: for each step what it draws, in order. A tree, to be an argument of the unrolled function. */
export type RunNoise = readonly (readonly Tensor[])[];

/**
 * What a sampler draws over a schedule from `options.noise`, for samples of a shape [N, ...]: the same numbers as on the
 * host. Throws `ArgumentError` when it draws and there is no source.
 */
export function runNoise<O extends SampleOptions>(
  sampler: RuledSampler<O>,
  shape: readonly number[],
  sigmas: readonly number[],
  options: O,
): RunNoise {
  const noiseOf = noiseOfSteps(options, shape);
  const drawn: Tensor[][] = sigmas.slice(1).map(() => []);
  const nothing = input(shape, "f32");
  let state: unknown;
  for (const [step, next] of sigmas.slice(1).entries()) {
    const source = noiseOf(step);
    const kept = (noise: Tensor): Tensor => {
      drawn[step]!.push(noise);
      return noise;
    };
    const start: StepStart = {
      ...{ x: nothing, sigma: sigmas[step]!, next, step, steps: sigmas.length - 1 },
      normal: (draw) => kept(source.normal(draw)),
      increment: (from, to, draw) => kept(source.increment(from, to, draw)),
    };
    ({ state } = answered(sampler, start, options, state, (x) => x));
  }
  return drawn;
}

/** One step of a rule, with its questions answered at once. */
function answered<O extends SampleOptions>(
  sampler: RuledSampler<O>,
  start: StepStart,
  options: O,
  state: unknown,
  answer: (x: Tensor, sigma: number) => Tensor,
): RuleResult<unknown> {
  const asking = sampler.rule(start, options, state);
  let told = asking.next();
  while (!told.done) told = asking.next(answer(told.value.x, told.value.sigma));
  return told.value;
}

/** Options of `unroll`. */
export interface UnrollOptions {
  /**
   * Recomputes each step during the backward pass, which then keeps the samples between the steps and the intermediate
   * values of one step instead of all. Default false.
   */
  readonly checkpoint?: boolean;
  /** Gradients flow through this many of the last steps only (DRaFT-K of Clark et al. 2024). Default all. */
  readonly lastSteps?: number;
}

/** Noise that is taken in the order of asking. */
function inOrder(drawn: readonly Tensor[] | undefined, step: number): StepNoise {
  let at = 0;
  const take = (): Tensor => {
    const noise = drawn?.[at++];
    if (!noise)
      throw new ArgumentError(
        `unroll: step ${step} draws more noise than it was given: pass that of runNoise`,
      );
    return noise;
  };
  return { normal: take, increment: take };
}

/**
 * `sampler` over `sigmas` as a function `(x, inputs, noise?)`: from x [N, ...] at the first level to the sample at the last,
 * for use inside of `jit` and `grad`. It computes what the sampler does on the host, to the bit where the network does, and
 * has gradients towards x, everything in `inputs`, and the noise. Stochastic samplers take the noise of `runNoise`. The graph
 * grows with the number of steps: as a loop of the runtime (ONNX's Loop) fifty steps of two convolutions took 1.55 times as
 * long, of two products as long.
 *
 * Throws `ArgumentError` for a sampler that has no rule, or a schedule that is none.
 */
export function unroll<I, O extends SampleOptions>(
  sampler: RuledSampler<O>,
  denoise: GraphDenoise<I>,
  sigmas: readonly number[],
  options: O & UnrollOptions = {} as O & UnrollOptions,
): (x: Tensor, inputs: I, noise?: RunNoise) => Tensor {
  checkSchedule(sigmas);
  if (!sampler.rule)
    throw new ArgumentError("unroll: this sampler computes on the host only; take any other by name");
  const steps = sigmas.length - 1;
  const { lastSteps = steps } = options;
  if (!(Number.isInteger(lastSteps) && lastSteps >= 1))
    throw new ArgumentError(`unroll: lastSteps must be a whole number from 1, got ${lastSteps}`);

  return (start, inputs, noise) => {
    let [x, state] = [start, undefined as unknown];
    for (let step = 0; step < steps; step++) {
      const flows = step >= steps - lastSteps;
      // Networks and conditions are captured, not arguments: the recomputation needs no copies of those.
      const known = flows ? inputs : stopped(inputs);
      const take = (at: Tensor, before: unknown, drawn: readonly Tensor[] | undefined) => {
        const begin = { x: at, sigma: sigmas[step]!, next: sigmas[step + 1]!, step, steps };
        const result = answered(sampler, { ...begin, ...inOrder(drawn, step) }, options, before, (z, sigma) =>
          denoise(z, sigma, known),
        );
        return { x: result.x, state: result.state };
      };
      const taken = (options.checkpoint && flows ? checkpoint(take) : take)(x, state, noise?.[step]);
      ({ x, state } = flows ? taken : stopped(taken));
    }
    return x;
  };
}

/** The tree with its tensors as constants. */
const stopped = <T>(tree: T): T => treeMap((t) => stopGradient(t), tree);

/**
 * A sampler as a rule: what it computes and what it asks the denoiser, without saying who answers. The loop on the host
 * awaits a network's answers; `unroll` gives them as tensors without values, inside of a graph.
 */
import type { Tensor } from "../tensor/index.ts";
import { runSampler, type SampleOptions, type Sampler, type StepResult, type StepStart } from "./sample.ts";

/** What a rule asks: the guess of the clean sample from x at a noise level. The answer has the shape of x. */
export interface Question {
  readonly x: Tensor;
  readonly sigma: number;
}

/** What a step of a rule gives, and what the next one is to remember. */
export interface RuleResult<S> extends StepResult {
  readonly state?: S;
}

/**
 * One step: yields questions and returns the sample at the next level. It must be a function of its arguments, because
 * the backward pass may run it again; what it remembers is `state`, a tree that is undefined at the first step.
 */
export type Rule<O extends SampleOptions, S = unknown> = (
  step: StepStart,
  options: O,
  state: S | undefined,
) => Generator<Question, RuleResult<S>, Tensor>;

/** A sampler that can also be unrolled into a graph. */
export type RuledSampler<O extends SampleOptions = SampleOptions> = Sampler<O> & {
  readonly rule: Rule<O>;
};

/** The sampler of a rule. `check` throws for options that it cannot take. */
export function samplerOf<O extends SampleOptions, S>(
  rule: Rule<O, S>,
  check: (options: O) => void = () => {},
): RuledSampler<O> {
  const sampler: Sampler<O> = (denoise, x, sigmas, options = {} as O) => {
    check(options);
    let state: S | undefined;
    return runSampler(denoise, x, sigmas, options, async (step) => {
      const asking = rule(step, options, state);
      let told = asking.next();
      while (!told.done) told = asking.next(await step.denoise(told.value.x, told.value.sigma));
      const { x: reached, denoised } = told.value;
      state = told.value.state;
      return { x: reached, denoised };
    });
  };
  return Object.assign(sampler, { rule: rule as Rule<O> });
}

/** The rule with other defaults for its options. */
export const withDefaults =
  <O extends SampleOptions, S>(rule: Rule<O, S>, defaults: Partial<O>): Rule<O, S> =>
  (step, options, state) =>
    rule(step, { ...defaults, ...options }, state);

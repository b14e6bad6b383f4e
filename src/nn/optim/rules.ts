/** SGD, Adam and AdamW. */
import { ArgumentError } from "../../errors.ts";
import { asTensor, type Tensor } from "../../tensor/index.ts";
import { makeOptimizer, type Optimizer, type OptimizerOptions, type UpdateRule } from "./optimizer.ts";

export interface SgdOptions extends OptimizerOptions {
  /** Default 0. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
}

/** Stochastic gradient descent with momentum; weight decay is added to the gradient (as in PyTorch). */
export function sgd(options: SgdOptions): Optimizer {
  const { momentum = 0, nesterov = false } = options;
  const rule: UpdateRule = {
    name: "sgd",
    slots: momentum ? ["momentum"] : [],
    update(p, g, slots, { rate, weightDecay }): ReturnType<UpdateRule["update"]> {
      const gradient = weightDecay ? g.add(p.mul(weightDecay)) : g;
      if (!momentum) return { p: p.sub(gradient.mul(rate)), slots: {} };
      const velocity = slots.momentum!.mul(momentum).add(gradient);
      const direction = nesterov ? gradient.add(velocity.mul(momentum)) : velocity;
      return { p: p.sub(direction.mul(rate)), slots: { momentum: velocity } };
    },
  };
  return makeOptimizer(rule, options);
}

export interface AdamOptions extends OptimizerOptions {
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.999. */
  readonly beta2?: number;
  /** Default 1e-8. */
  readonly eps?: number;
}

/**
 * Adam's moments without their factors (1 - beta): `first = beta1 first + g`, `second = beta2 second + g²`. The factors
 * go into two scalars per step, which saves two passes over every parameter:
 * lr m̂ / (sqrt(v̂) + eps) = a first / (sqrt(second) + e).
 */
function adamStep(
  g: Tensor,
  slots: Readonly<Record<string, Tensor>>,
  step: Tensor,
  rate: Tensor,
  { beta1, beta2, eps }: Betas,
) {
  const first = slots.first!.mul(beta1).add(g);
  const second = slots.second!.mul(beta2).add(g.square());
  const deviation = unbias(step, beta2).sqrt();
  const a = rate.mul(unbias(step, beta1)).div(deviation);
  const e = asTensor(eps, "f32").div(deviation);
  return { direction: first.div(second.sqrt().add(e)).mul(a), slots: { first, second } };
}

interface Betas {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
}

/** (1 - beta) / (1 - beta^step). The power as exp, in one rounding of a negative argument close to zero. */
function unbias(step: Tensor, beta: number): Tensor {
  if (beta === 0) return asTensor(1, "f32");
  return asTensor(1 - beta, "f32").div(step.mul(Math.log(beta)).exp().neg().add(1));
}

function betas({ beta1 = 0.9, beta2 = 0.999, eps = 1e-8 }: AdamOptions): Betas {
  if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) {
    throw new ArgumentError(`adam: beta1 and beta2 must be in [0, 1), got ${beta1} and ${beta2}`);
  }
  return { beta1, beta2, eps };
}

/** Adam (Kingma and Ba 2015); weight decay is added to the gradient. */
export function adam(options: AdamOptions): Optimizer {
  const settings = betas(options);
  const rule: UpdateRule = {
    name: "adam",
    slots: ["first", "second"],
    update(p, g, slots, { step, rate, weightDecay }) {
      const gradient = weightDecay ? g.add(p.mul(weightDecay)) : g;
      const { direction, slots: next } = adamStep(gradient, slots, step, rate, settings);
      return { p: p.sub(direction), slots: next };
    },
  };
  return makeOptimizer(rule, options);
}

/** AdamW (Loshchilov and Hutter 2019): Adam with decay applied to the parameters, not to the gradient. Default decay 0.01. */
export function adamW(options: AdamOptions): Optimizer {
  const settings = betas(options);
  const rule: UpdateRule = {
    name: "adamW",
    slots: ["first", "second"],
    update(p, g, slots, { step, rate, weightDecay }) {
      const { direction, slots: next } = adamStep(g, slots, step, rate, settings);
      const kept = weightDecay ? p.mul(rate.mul(-weightDecay).add(1)) : p;
      return { p: kept.sub(direction), slots: next };
    },
  };
  return makeOptimizer(rule, { weightDecay: 0.01, ...options });
}

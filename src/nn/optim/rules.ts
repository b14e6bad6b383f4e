/** SGD, LARS, Adam and AdamW. */
import { ArgumentError } from "../../errors.ts";
import { asTensor, type Tensor, where } from "../../tensor/index.ts";
import { makeOptimizer, type Optimizer, type OptimizerOptions, type UpdateRule } from "./optimizer.ts";

/** Options of `sgd`. */
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

/** Options of `lars`. */
export interface LarsOptions extends OptimizerOptions {
  /** Default 0.9. */
  readonly momentum?: number;
  /** Trust ratio: update norm / parameter norm at a learning rate of 1. Default 0.001. */
  readonly trust?: number;
}

/**
 * LARS (You et al. 2017): momentum with a step for each matrix that is in proportion to its norm. Vectors (biases,
 * norms) are neither scaled nor decayed, as in linear probing (He et al. 2022).
 */
export function lars(options: LarsOptions): Optimizer {
  const { momentum = 0.9, trust = 0.001 } = options;
  if (!(momentum >= 0 && momentum < 1 && trust > 0))
    throw new ArgumentError(
      `lars: expected a momentum in [0, 1) and positive trust, got ${momentum}, ${trust}`,
    );
  const length = (x: Tensor): Tensor => x.square().sum().sqrt();
  const rule: UpdateRule = {
    name: "lars",
    slots: ["momentum"],
    whole: true,
    update(p, g, slots, { rate, weightDecay }) {
      let direction = g;
      if (p.rank > 1) {
        const decayed = weightDecay ? g.add(p.mul(weightDecay)) : g;
        const [own, step] = [length(p), length(decayed)];
        const ratio = where(
          own.mul(step).greater(0),
          own.mul(trust).div(step.maximum(1e-30)),
          asTensor(1, "f32"),
        );
        direction = decayed.mul(ratio);
      }
      const velocity = slots.momentum!.mul(momentum).add(direction);
      return { p: p.sub(velocity.mul(rate)), slots: { momentum: velocity } };
    },
  };
  return makeOptimizer(rule, options);
}

/** Options of `adam` and `adamW`. */
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

/**
 * AdamW (Loshchilov and Hutter 2019): Adam with decay applied to the parameters, not to the gradient. Default decay 0.01.
 *
 * @example
 * ```ts
 * const optimizer = adamW({ learningRate: warmup(100, cosineDecay(1e-3, 10_000)) });
 * let state = optimizer.init(model);
 * ({ parameters: model, state } = optimizer.update(model, gradients, state));
 * ```
 */
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

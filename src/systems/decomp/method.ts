/**
 * Compositional image decomposition with diffusion models (Su et al. 2024, arXiv 2406.19298): one network, conditioned on a
 * single latent z_k, is K diffusion models at once; the mean of what they predict must denoise the picture. Since
 * predictions are gradients of energies, factors of any pictures, or of two models, compose by combining predictions.
 */
import {
  alphasCumprod,
  type BetaScheduleName,
  betas,
  bind,
  clip,
  createScheduler,
  type DiffusionBatch,
  ddim,
  ddpmStep,
  diffusionLoss,
  dropCondition,
  epsilonObjective,
  isEvaluated,
  mapElements,
  PARAMETERIZATIONS,
  type Scheduler,
  sampleObjective,
  spacedTimesteps,
  stepVariances,
  timestepLookup,
  trainingSigmas,
} from "../../diffusion/index.ts";
import { samplerOf } from "../../diffusion/rule.ts";
import type { SampleOptions } from "../../diffusion/sample.ts";
import { ArgumentError } from "../../errors.ts";
import { eye, type Tensor, zerosLike } from "../../tensor/index.ts";

/** Training timesteps, T. */
export const TIMESTEPS = 1000;

/** What a component predicts. With the noise (`eps`, the ablation) single components are whole pictures. */
export const PREDICTIONS = ["x0", "eps"] as const;
/** What a component predicts. */
export type Prediction = (typeof PREDICTIONS)[number];

/** `cosine` as published; `linear`: that of the variant in latents. */
export const SCHEDULES = ["cosine", "linear"] as const;
/** Name of a noise schedule. */
export type Schedule = (typeof SCHEDULES)[number];

const BETAS: Readonly<Record<Schedule, BetaScheduleName>> = { cosine: "squaredcos_cap_v2", linear: "linear" };
const bars: Partial<Record<Schedule, Float32Array>> = {};

/** Cumulative products of alphas by timestep 0 ... 999, falling. */
export const alphaBarsOf = ({ schedule }: { readonly schedule: Schedule }): Float32Array =>
  (bars[schedule] ??= alphasCumprod(betas({ schedule: BETAS[schedule], timesteps: TIMESTEPS })));

/** What the method needs of a network. Pictures lie in [0, 1]. */
export interface Network {
  readonly config: { readonly prediction: Prediction; readonly latent: number };
  /** z_1 ... z_K of a picture. // [N, 3, S, S] to [N, K, d] */
  encode(x: Tensor, training?: boolean): Tensor;
  /** Σ_k w_k f(x_t, t, z_k) for any number of latents, the weights being 1 / K' unless given. // [N, 3, S, S] */
  denoise(x: Tensor, t: Tensor, z: Tensor, weights?: Tensor, key?: Tensor): Tensor;
}

/** Options of `decompLoss`. */
export interface LossOptions {
  /** Weights of 2 - 2^(t / T), which favour little noise. */
  readonly downweight: boolean;
  /** Factor of the mean squared product of different latents of a picture, each of length 1. */
  readonly orthogonality: number;
}

/** What one training step takes. */
export interface Batch extends Omit<DiffusionBatch<unknown>, "condition"> {
  /** True where all latents of a picture are replaced by zeros. */
  readonly dropped?: Tensor; // [N]
  /** Key of the dropout. */
  readonly key?: Tensor;
}

/** Mean square of ẑ ẑᵀ - I, ẑ being the latents [N, K, d] at length 1. */
export function latentOverlap(z: Tensor): Tensor {
  const unit = z.div(z.square().sum(2, true).add(1e-8).sqrt());
  const products = unit.matmul(unit.transpose([0, 2, 1])); // [N, K, K]
  const [, k] = z.shape as [number, number];
  return products.sub(eye(k)).square().mean();
}

/** L = ‖ x_0 - (1 / K) Σ_k f(x_t, t, z_k) ‖², or the same of the noise: one loss on the combination, never K losses. */
export const decompLoss =
  ({ downweight, orthogonality }: LossOptions) =>
  (network: Network, batch: Batch): { readonly loss: Tensor; readonly metrics: Record<string, Tensor> } => {
    const { dropped, key, ...rest } = batch;
    const z = network.encode(batch.x0, true); // [N, K, d]
    const condition = dropped ? dropCondition(z, zerosLike(z), dropped) : z;
    const importance = batch.timestep.div(TIMESTEPS).mul(Math.LN2).exp().mul(-1).add(2);
    const denoising = diffusionLoss(
      (x, t, latents: Tensor) => network.denoise(x, t, latents, undefined, key),
      { ...rest, condition, ...(downweight && { importance }) },
      { objective: network.config.prediction === "x0" ? sampleObjective : epsilonObjective },
    );
    const loss = orthogonality > 0 ? denoising.add(latentOverlap(z).mul(orthogonality)) : denoising;
    const norms = z.square().sum(2).sqrt().mean(0); // [K]
    const [, k] = z.shape as [number, number];
    return {
      loss,
      metrics: {
        denoising,
        "zero latents": z.equal(0).cast("f32").mean(),
        ...Object.fromEntries(Array.from({ length: k }, (_, i) => [`latent ${i + 1}`, norms.select(0, i)])),
      },
    };
  };

/** How a picture is drawn. */
export const METHODS = ["ddim", "ddpm"] as const;

/** Options of `samplingScheduler`. */
export interface SamplingOptions {
  readonly method: (typeof METHODS)[number];
  readonly steps: number;
  /** Fresh noise of DDIM; 0: deterministic. */
  readonly eta: number;
  /** What a guess of the clean picture is clipped to: [-1, 1] as published, or [0, 1], in which pictures lie. */
  readonly clip: "signed" | "unit";
}

/**
 * DDPM with the variance of the published code: its logarithm lies between those of beta_t and of the posterior at
 * (beta_t + 1) / 2, roughly their geometric mean.
 */
export const ddpmBetween = samplerOf<SampleOptions, undefined>(function* ({ x, sigma, next, normal }) {
  const denoised = yield { x, sigma };
  if (next === 0) return { denoised, x: ddpmStep({ x, denoised, sigma, next }) };
  const { small, large: beta } = stepVariances(sigma, next);
  const share = (beta + 1) / 2;
  const deviation = Math.exp((share * Math.log(beta) + (1 - share) * Math.log(small)) / 2);
  return { denoised, x: ddpmStep({ x, denoised, sigma, next, noise: normal(), deviation }) };
});

const clipUnit = (x: Tensor): Tensor =>
  isEvaluated(x) ? mapElements(x, (v) => Math.min(1, Math.max(0, v))) : x.clip(0, 1);

/** Sampling over t = 0, 20, ..., 980 (50 steps), from noise: t = 999 is never visited. */
export function samplingScheduler(
  config: { readonly prediction: Prediction; readonly schedule: Schedule },
  { method, steps, eta, clip: range }: SamplingOptions,
): Scheduler {
  if (!Number.isInteger(steps) || steps < 1 || steps > TIMESTEPS)
    throw new ArgumentError(`Decomp: expected 1 to ${TIMESTEPS} steps, got ${steps}`);
  const table = trainingSigmas(alphaBarsOf(config));
  const timesteps = spacedTimesteps("leading", steps, { trained: TIMESTEPS });
  const sigmas = [...timesteps.map((t) => table[t]!), 0];
  return createScheduler({
    name: "Decomp",
    sampler: method === "ddim" ? bind(ddim, { eta }) : ddpmBetween,
    space: "vp",
    sigmas,
    timesteps,
    timestepAt: timestepLookup(sigmas, timesteps, (sigma) => table.findIndex((level) => level >= sigma)),
    parameterization: PARAMETERIZATIONS[config.prediction === "x0" ? "sample" : "epsilon"]!,
    initialScale: 1,
    clip: range === "unit" ? clipUnit : clip(1),
  });
}

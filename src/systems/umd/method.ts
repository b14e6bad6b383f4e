/**
 * Unified auto-encoding with masked diffusion (Hansen-Estruch et al. 2024, arXiv 2406.17688): one network sees clean pictures
 * that are heavily masked and noised ones that are lightly masked. Of clean pictures it fills in what is hidden; of noised
 * ones it finds the noise where they are visible and the clean picture where they are not.
 */
import {
  addNoise,
  alphasCumprod,
  betas,
  bind,
  clip,
  createScheduler,
  ddim,
  type NoiseLevel,
  PARAMETERIZATIONS,
  type Scheduler,
  spacedTimesteps,
  timestepLookup,
  trainingSigmas,
} from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { keptPatches, patchify } from "../../networks/index.ts";
import { type Tensor, zeros } from "../../tensor/index.ts";

/** Training timesteps. */
export const TIMESTEPS = 1000;

/** Pixels in [-1, 1] under the cosine schedule, or latents of an autoencoder under the linear one. */
export type Domain = "pixels" | "latents";

const ALPHA_BARS: Record<Domain, Float32Array> = {
  pixels: alphasCumprod(betas({ schedule: "squaredcos_cap_v2", timesteps: TIMESTEPS })),
  latents: alphasCumprod(betas({ schedule: "linear", timesteps: TIMESTEPS })),
};

/** Cumulative products of alphas by index 0 ... 999, falling. */
export const alphaBarsOf = ({ domain }: { readonly domain: Domain }): Float32Array => ALPHA_BARS[domain];

/** What the network takes. */
export interface NetworkInput {
  readonly x: Tensor; // [N, C, S, S]
  /** 0: clean; i + 1: noised at index i of the schedule. */
  readonly t: Tensor; // [N]
  /** Absent in a model with labels: the null label. */
  readonly labels?: Tensor; // [N]
}

/** Which patches are hidden. */
export interface Hiding {
  /** Uniform numbers that decide which tokens are hidden. */
  readonly noise: Tensor; // [N, L]
  readonly ratio: number;
}

/** What the network predicts. */
export interface Prediction {
  readonly x0: Tensor; // [N, C, S, S]
  readonly eps: Tensor; // [N, C, S, S]
  /** 1 where a token was hidden; undefined without a mask. */
  readonly mask: Tensor | undefined; // [N, L]
}

/** What the method needs of a network. Hidden tokens are not in its encoder, which is what masking saves. */
export interface Network {
  readonly config: { readonly patch: number };
  /** Predicts, some patches being hidden where told. */
  call(input: NetworkInput, hiding?: Hiding): Prediction;
}

/** What is mixed, and how much is hidden. */
export interface Mixture {
  /** Share r of a batch that stays clean: 1 is MAE, 0 is DiT or MaskDiT. */
  readonly cleanShare: number;
  /** Hidden share m_n of noised pictures. */
  readonly noisedMask: number;
  /** Hidden share m_0 of clean pictures. */
  readonly cleanMask: number;
}

/** The method and what it is compared with: other numbers for the same code. */
export const MIXTURES = {
  umd: { cleanShare: 0.5, noisedMask: 0.375, cleanMask: 0.75 },
  dit: { cleanShare: 0, noisedMask: 0, cleanMask: 0.75 },
  maskdit: { cleanShare: 0, noisedMask: 0.5, cleanMask: 0.75 },
  mae: { cleanShare: 1, noisedMask: 0.375, cleanMask: 0.75 },
} as const satisfies Record<string, Mixture>;

/** Fine-tuning for generation: nothing noised is hidden, and 5 % stay clean where pre-training had clean pictures. */
export const tunedMixture = ({ cleanShare }: Mixture): Mixture => ({
  cleanShare: cleanShare > 0 ? 0.05 : 0,
  noisedMask: 0,
  cleanMask: 0.75,
});

/** The last so many of a batch stay clean. @throws ArgumentError for a share outside [0, 1] */
export function cleanCount(batch: number, { cleanShare }: Pick<Mixture, "cleanShare">): number {
  if (!(cleanShare >= 0 && cleanShare <= 1))
    throw new ArgumentError(`UMD: expected a share of clean pictures in [0, 1], got ${cleanShare}`);
  return Math.floor(batch * cleanShare);
}

/** Tokens that stay of `tokens` at a mask ratio. @throws ArgumentError outside [0, 1), or when none stays */
export function keptTokens(tokens: number, ratio: number): number {
  if (!(ratio >= 0 && ratio < 1))
    throw new ArgumentError(`UMD: expected a mask ratio in [0, 1), got ${ratio}`);
  const kept = keptPatches(tokens, ratio);
  if (kept < 1) throw new ArgumentError(`UMD: a mask ratio of ${ratio} keeps none of ${tokens} tokens`);
  return kept;
}

/** A batch in its two parts; a part without pictures is left out. */
export interface Batch {
  readonly noised?: {
    readonly x0: Tensor; // [N, C, S, S]
    readonly noise: Tensor; // [N, C, S, S]
    readonly level: NoiseLevel; // [N]
    /** Index of the schedule. */
    readonly index: Tensor; // [N]
    readonly labels?: Tensor; // [N]
    readonly maskNoise: Tensor; // [N, L]
  };
  readonly clean?: {
    readonly x0: Tensor; // [N, C, S, S]
    readonly maskNoise: Tensor; // [N, L]
  };
}

/** Squared errors by patch: [N, L]. */
const byPatch = (a: Tensor, b: Tensor, patch: number): Tensor => patchify(a.sub(b).square(), patch).mean(-1);

/** `sum(weight error) / sum(weight)`: the balance of the heads does not move with the ratio. Without a mask, the mean. */
const weighted = (errors: Tensor, weight: Tensor | undefined): Tensor =>
  weight ? errors.mul(weight).sum().div(weight.sum()) : errors.mean();

/** Terms of the loss, each a mean over what it concerns. */
export type LossTerms = Readonly<Partial<Record<"mae" | "eps" | "x0", Tensor>>>;

/** Two forward passes, because the parts keep different numbers of tokens. */
export function lossTerms(network: Network, { noised, clean }: Batch, mixture: Mixture): LossTerms {
  const { patch } = network.config;
  const terms: { -readonly [K in keyof LossTerms]: Tensor } = {};
  if (noised) {
    const { x0, noise, level, index, labels, maskNoise } = noised;
    const input = { x: addNoise(x0, noise, level), t: index.add(1), ...(labels && { labels }) };
    const out = network.call(input, { noise: maskNoise, ratio: mixture.noisedMask });
    terms.eps = weighted(byPatch(out.eps, noise, patch), out.mask?.neg().add(1)); // where visible
    terms.x0 = weighted(byPatch(out.x0, x0, patch), out.mask); // where hidden
  }
  if (clean) {
    const { x0, maskNoise } = clean;
    const input = { x: x0, t: zeros([x0.shape[0]!]) };
    const out = network.call(input, { noise: maskNoise, ratio: mixture.cleanMask });
    terms.mae = weighted(byPatch(out.x0, x0, patch), out.mask);
  }
  return terms;
}

/** The paper's r L_{t=0} + (1 - r) L_{t>=1}, r being the clean share of this batch and L_{t>=1} = (eps + x0) / 2. */
export const mixedLoss =
  (mixture: Mixture) =>
  (network: Network, batch: Batch): { readonly loss: Tensor; readonly metrics: LossTerms } => {
    const [noised, clean] = [batch.noised?.x0.shape[0] ?? 0, batch.clean?.x0.shape[0] ?? 0];
    const metrics = lossTerms(network, batch, mixture);
    const { mae, eps, x0 } = metrics;
    const parts = [
      ...(eps && x0 ? [eps.add(x0).mul(noised / (2 * (noised + clean)))] : []),
      ...(mae ? [mae.mul(clean / (noised + clean))] : []),
    ];
    if (parts.length === 0) throw new ArgumentError("UMD: a batch has neither noised nor clean pictures");
    return { loss: parts.reduce((a, b) => a.add(b)), metrics };
  };

/** Indices of a run of so many strides: evenly from 999 down, and index 0 at the end. */
export function sampleIndices(steps: number): number[] {
  if (!Number.isInteger(steps) || steps < 1 || steps > TIMESTEPS / 2)
    throw new ArgumentError(`UMD: expected 1 to ${TIMESTEPS / 2} steps, got ${steps}`);
  const strides = spacedTimesteps("trailing", steps, { trained: TIMESTEPS });
  return [...strides.slice(0, steps), 0]; // rounding may have made one more
}

/**
 * Sampling: DDIM with fresh noise (eta 1) on an even stride. The guess of a clean picture is clipped before noise is computed
 * from it; a latent's is not. The network is told index i as i + 1 by whoever calls it.
 */
export function samplingScheduler(
  config: { readonly domain: Domain },
  { steps, eta, predictX0 = false }: { steps: number; eta: number; predictX0?: boolean | undefined },
): Scheduler {
  const table = trainingSigmas(alphaBarsOf(config));
  const timesteps = sampleIndices(steps);
  const sigmas = [...timesteps.map((i) => table[i]!), 0];
  return createScheduler({
    name: "UMD",
    sampler: bind(ddim, { eta }),
    space: "vp",
    sigmas,
    timesteps,
    timestepAt: timestepLookup(sigmas, timesteps, (sigma) => table.findIndex((level) => level >= sigma)),
    parameterization: PARAMETERIZATIONS[predictX0 ? "sample" : "epsilon"]!,
    initialScale: 1,
    ...(config.domain === "pixels" && { clip: clip(1) }),
  });
}

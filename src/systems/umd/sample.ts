/** Sampling: DDIM with fresh noise on an even stride, guided by labels. */

import { checkLabels, type LabelledPictures } from "../../data/picture-set.ts";
import {
  bind,
  clip,
  createScheduler,
  ddim,
  type Network,
  PARAMETERIZATIONS,
  type Scheduler,
  startingAtSample,
  timestepLookup,
  trainingSigmas,
} from "../../diffusion/index.ts";
import { AbortError, ArgumentError } from "../../errors.ts";
import { createNoise, fromHost, full, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import type { UMDConfig } from "./config.ts";
import type { UMD } from "./model.ts";
import { alphaBarsOf, TIMESTEPS } from "./schedule.ts";

/** Indices of a run of so many strides: from the last one down, and index 0 at the end. */
export function sampleIndices(steps: number): number[] {
  if (!Number.isInteger(steps) || steps < 1 || steps > TIMESTEPS / 2)
    throw new ArgumentError(`UMD: expected 1 to ${TIMESTEPS / 2} steps, got ${steps}`);
  const stride = Math.floor(TIMESTEPS / steps);
  const indices: number[] = [];
  for (let i = TIMESTEPS - 1; i > 0; i -= stride) indices.push(i);
  return [...indices, 0];
}

/** The sampler of section 4. The guess of a clean picture is clipped before noise is computed from it; a latent's is not. */
export function umdScheduler(
  config: Pick<UMDConfig, "domain">,
  { steps, eta, predictX0 = false }: { steps: number; eta: number; predictX0?: boolean },
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

export interface SampleOptions {
  readonly count: number;
  /** Strides; the network is called once more. Default 125. */
  readonly steps?: number;
  readonly seed: Seed;
  /** 0: deterministic; 1, the default, is ancestral sampling. */
  readonly eta?: number;
  /** Weight of guidance by labels; 1, the default, is none. */
  readonly guidance?: number;
  /** Label of a sample; "none": without labels. Default: all classes in turn, or none in a model without labels. */
  readonly label?: ((sample: number) => number) | "none";
  /** Take noise from the head that guesses the clean picture. */
  readonly predictX0?: boolean;
  /** Samples at once. Default 100. */
  readonly batch?: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

export interface SampleProgress {
  readonly step: number;
  readonly steps: number;
  /** Samples that are finished. */
  readonly finished: number;
  /** The guess of the clean pictures of this batch. // [N, C, H, W] */
  readonly denoised: Tensor;
}

function labelsOf({ config }: UMD, { count, label, guidance = 1 }: SampleOptions): Int32Array | undefined {
  const { classes } = config;
  const wanted = label ?? (classes > 0 ? (i: number): number => i % classes : "none");
  if (wanted === "none") {
    if (guidance !== 1) throw new ArgumentError(`UMD: guidance of ${guidance} needs labels`);
    return undefined;
  }
  if (classes === 0) throw new ArgumentError("UMD: this model has no table of labels");
  const labels = Int32Array.from({ length: count }, (_, i) => wanted(i));
  checkLabels(labels, classes);
  return labels;
}

/** What the sampler asks of the network, with guidance in one batch of both. Weights are constants of the graph. */
function predictor(model: UMD, { guidance = 1, predictX0 = false }: SampleOptions) {
  const head = (x: Tensor, t: Tensor, labels?: Tensor): Tensor => {
    const out = model.call({ x, t, ...(labels && { labels }) });
    return predictX0 ? out.x0 : out.eps;
  };
  return (x: Tensor, t: Tensor, labels?: Tensor): Tensor => {
    if (!labels || guidance === 1) return head(x, t, labels);
    const none = full(labels.shape, model.config.classes, "i32");
    const [cond, uncond] = head(x.concat(x), t.concat(t), labels.concat(none)).split(2) as [Tensor, Tensor];
    return uncond.add(cond.sub(uncond).mul(guidance));
  };
}

/**
 * Draws pictures in [-1, 1], or latents; sample i is the same whatever the batch. Yields after every step. Throws
 * `ArgumentError` for guidance without labels and labels that the model does not know, `AbortError` when stopped.
 */
export async function* sampleUMD(
  model: UMD,
  options: SampleOptions,
): AsyncGenerator<SampleProgress, LabelledPictures> {
  const { count, steps = 125, seed, eta = 1, batch = 100, threads, signal, predictX0 } = options;
  if (!Number.isInteger(count) || count < 1)
    throw new ArgumentError(`UMD: expected a count from 1, got ${count}`);
  if (!Number.isFinite(options.guidance ?? 1))
    throw new ArgumentError(`UMD: expected a finite guidance, got ${options.guidance}`);
  const { size, channels, classes } = model.config;
  const labels = labelsOf(model, options);
  const scheduler = umdScheduler(model.config, { steps, eta, ...(predictX0 && { predictX0 }) });
  const noise = createNoise("philox", seed);
  const predict = jit(predictor(model, options), threads ? { threads } : {});
  const plane = channels * size * size;
  const values = new Float32Array(count * plane);
  try {
    for (let first = 0; first < count; first += batch) {
      const n = Math.min(batch, count - first);
      const own = startingAtSample(noise, first);
      const y = labels && fromHost("i32", [n], labels.slice(first, first + n));
      const network: Network = (x, index) => {
        if (signal?.aborted) throw new AbortError();
        const t = fromHost("f32", [n], new Float32Array(n).fill(index + 1));
        return y ? predict(x, t, y) : predict(x, t);
      };
      const start = own.normal([n, channels, size, size], { purpose: "start", step: 0 });
      const x = scheduler.initial(fromHost("f32", [n, channels, size, size], start));
      const run = scheduler.sample(network, x, { noise: own, ...(signal && { signal }) });
      for (;;) {
        const { done, value } = await run.next();
        if (done) {
          values.set((await value.data()) as Float32Array, first * plane);
          break;
        }
        yield { step: value.step + 1, steps: value.steps, finished: first, denoised: value.denoised };
      }
    }
  } finally {
    await predict.close();
  }
  return {
    count,
    size,
    channels,
    values,
    labels,
    classes: Array.from({ length: classes }, (_, i) => String(i)),
  };
}

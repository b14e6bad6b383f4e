/**
 * What a trained model is used for: pictures are taken apart, and components of any pictures, or of two models, drawn
 * together. Every use is a list of picks: which components of whose latents.
 */

import { extrapolate, seededNoise } from "../../diffusion/index.ts";
import { AbortError, ArgumentError, DTypeError, NonFiniteError, ShapeError } from "../../errors.ts";
import { fromHost, full, jit, type Seed, type Tensor, zerosLike } from "../../tensor/index.ts";
import { type SamplingOptions, samplingScheduler } from "./method.ts";
import type { DecompUNet } from "./model.ts";

/** Latents of several pictures. */
export interface Latents {
  /** [count, components, width] */
  readonly values: Float32Array;
  readonly count: number;
  readonly components: number;
  readonly width: number;
}

/** Components of some pictures' latents, as a model reads them. */
export interface Pick {
  /** Number of the model. Default 0. */
  readonly model?: number;
  readonly latents: Latents;
  /** Numbers of the components, from 0. */
  readonly components: readonly number[];
}

/** `mean`, as published; `shifted` keeps the contrast of K' other than K components: m + K'/K (mean - m). */
export const COMPOSITIONS = ["mean", "shifted"] as const;

/** Options of `Decomposer.compose`. */
export interface ComposeOptions extends Partial<SamplingOptions> {
  /** One seed per picture. Default: the seed 0 for all of them. */
  readonly seeds?: readonly Seed[];
  /** One weight per component in the order of the picks. Default: the model's, adding up to 1. */
  readonly weights?: readonly number[];
  readonly compose?: (typeof COMPOSITIONS)[number];
  /** Away from a picture without latents; 1, the default, is none. */
  readonly guidance?: number;
  /** Pictures at once. Default 64. */
  readonly batch?: number;
  readonly signal?: AbortSignal | undefined;
}

/** How far a drawing is. */
export interface ComposeProgress {
  readonly step: number;
  readonly steps: number;
  /** Pictures that are finished. */
  readonly finished: number;
  /** The guess of the clean pictures of this batch. // [N, 3, S, S] */
  readonly denoised: Tensor;
}

/** Pictures drawn. // [count, 3, S, S] */
export type Composing = AsyncGenerator<ComposeProgress, Float32Array>;

/** Models made ready; their weights are compiled in. Close it when done. */
export interface Decomposer {
  readonly models: readonly DecompUNet[];
  /** Latents of pictures [N, 3, S, S] in [0, 1], by one of the models. */
  encode(pictures: Tensor, model?: number): Promise<Latents>;
  /** Draws the picks together; every pick holds the latents of as many pictures. */
  compose(picks: readonly Pick[], options?: ComposeOptions): Composing;
  /** Frees the compiled networks. */
  close(): Promise<void>;
}

/** A little outside of the range is rounding. */
const SLACK = 1e-3;

/**
 * Pictures as the models take them. @throws DTypeError, ShapeError for other channels and sizes, NonFiniteError,
 * ArgumentError for values outside [0, 1], and above 1.5 for what seems to lie in 0 to 255
 */
export async function checkPictures(x: Tensor, { config }: DecompUNet): Promise<Tensor> {
  if (x.dtype !== "f32") throw new DTypeError(`Decomp: pictures must be f32 in [0, 1], got ${x.dtype}`);
  if (x.rank !== 4 || x.shape[1] !== 3)
    throw new ShapeError(`Decomp: expected pictures [N, 3, S, S], got [${x.shape.join(", ")}]`);
  const [n, , height, width] = x.shape as [number, number, number, number];
  if (height !== width) throw new ShapeError(`Decomp: expected square pictures, got ${height} x ${width}`);
  const factor = 2 ** (config.unet.mult.length - 1);
  if (height % factor !== 0)
    throw new ShapeError(`Decomp: expected a size divisible by ${factor}, got ${height}`);
  if (height !== config.size)
    throw new ShapeError(`Decomp: the model is of ${config.size} pixels, the pictures have ${height}`);
  if (n === 0) throw new ArgumentError("Decomp: there are no pictures");
  const values = (await x.data()) as Float32Array;
  const bad = values.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) throw new NonFiniteError(`Decomp: the pictures hold ${values[bad]} at element ${bad}`);
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  if (most > 1.5)
    throw new ArgumentError(`Decomp: expected pictures in [0, 1], got ${most}: do they lie in 0 to 255?`);
  const outside = values.findIndex((v) => v < -SLACK || v > 1 + SLACK);
  if (outside >= 0)
    throw new ArgumentError(
      `Decomp: expected pictures in [0, 1], got ${values[outside]} at element ${outside}`,
    );
  return x;
}

/** @throws ArgumentError unless predictions of the models mean the same at the same time */
export function checkTogether(models: readonly DecompUNet[]): void {
  const [first, ...others] = models;
  if (!first) throw new ArgumentError("Decomp: there is no model");
  for (const { config } of others)
    for (const field of ["size", "schedule", "prediction"] as const)
      if (config[field] !== first.config[field])
        throw new ArgumentError(
          `Decomp: models composed must agree in their ${field}, got ${first.config[field]} and ${config[field]}`,
        );
}

/** @throws ShapeError for latents of another model, ArgumentError for components that are not there */
function checkPicks(models: readonly DecompUNet[], picks: readonly Pick[]): number {
  if (picks.every(({ components }) => components.length === 0))
    throw new ArgumentError("Decomp: no components were chosen");
  const { count } = picks[0]!.latents;
  for (const { model = 0, latents, components } of picks) {
    const config = models[model]?.config;
    if (!config) throw new ArgumentError(`Decomp: model ${model} of ${models.length}`);
    if (latents.width !== config.latent)
      throw new ShapeError(`Decomp: latents of ${latents.width} numbers, the model's have ${config.latent}`);
    const expected = latents.count * latents.components * latents.width;
    if (latents.values.length !== expected || latents.components < 1)
      throw new ShapeError(`Decomp: ${latents.values.length} numbers as latents, expected ${expected}`);
    if (latents.count !== count)
      throw new ShapeError(`Decomp: latents of ${count} pictures and of ${latents.count}`);
    const bad = latents.values.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0)
      throw new NonFiniteError(`Decomp: the latents hold ${latents.values[bad]} at element ${bad}`);
    for (const k of components)
      if (!(Number.isInteger(k) && k >= 0 && k < latents.components))
        throw new ArgumentError(`Decomp: component ${k} of ${latents.components}, which count from 0`);
  }
  if (count < 1) throw new ArgumentError("Decomp: there are no latents");
  return count;
}

/** Weights of all factors that add up to 1, in the order of the picks. */
async function weightsOf(models: readonly DecompUNet[], picks: readonly Pick[]): Promise<number[]> {
  const raw: number[] = [];
  for (const { model = 0, components, latents } of picks) {
    const known = await models[model]!.weightsFor(latents.components).data();
    // Relative to 1 / K, so that models of different K count alike.
    raw.push(...components.map((k) => latents.components * Number(known[k])));
  }
  const sum = raw.reduce((a, b) => a + b, 0);
  // Equal weights are exactly 1 / K', whatever they are made of.
  const equal = models.every(({ weightLogits }) => weightLogits === undefined);
  return raw.map((w) => (equal ? 1 / raw.length : w / sum));
}

/** The latents of all factors of a model, and their weights, of pictures `from` to `to`. */
function factorsOf(
  model: number,
  picks: readonly Pick[],
  weights: readonly number[],
  [from, to]: readonly [number, number],
): { z: Tensor; w: Tensor } | undefined {
  let at = 0;
  const chosen: { latents: Latents; k: number; weight: number }[] = [];
  for (const { model: of = 0, latents, components } of picks)
    for (const k of components) {
      const weight = weights[at++]!;
      if (of === model) chosen.push({ latents, k, weight });
    }
  if (chosen.length === 0) return undefined;
  const { width } = chosen[0]!.latents;
  const z = new Float32Array((to - from) * chosen.length * width);
  for (let i = from; i < to; i++)
    for (const [j, { latents, k }] of chosen.entries()) {
      const start = (i * latents.components + k) * width;
      z.set(latents.values.subarray(start, start + width), ((i - from) * chosen.length + j) * width);
    }
  return {
    z: fromHost("f32", [to - from, chosen.length, width], z),
    w: fromHost(
      "f32",
      [1, chosen.length],
      Float32Array.from(chosen, ({ weight }) => weight),
    ),
  };
}

interface Condition {
  readonly z: readonly (Tensor | undefined)[];
  readonly w: readonly (Tensor | undefined)[];
}

/** Σ over models and their components of w f(x, t, z), about the mean picture when that is asked for. */
function combined(
  models: readonly DecompUNet[],
  x: Tensor,
  t: Tensor,
  { z, w }: Condition,
  ratio: number,
): Tensor {
  const parts = models.flatMap((model, i) => (z[i] ? [model.denoise(x, t, z[i], w[i])] : []));
  const sum = parts.reduce((a, b) => a.add(b));
  if (ratio === 1) return sum;
  const centre = models[0]!.meanImage!.unsqueeze(0);
  return sum.sub(centre).mul(ratio).add(centre);
}

/** Models made ready to take pictures apart and to compose. @throws ArgumentError for models that do not fit */
export function openDecomposer(
  models: readonly DecompUNet[],
  { threads }: { readonly threads?: number | undefined } = {},
): Decomposer {
  checkTogether(models);
  const settings = threads === undefined ? {} : { threads };
  const encoders = models.map((model) => jit((x: Tensor) => model.encode(x), settings));
  const networks = new Map<string, ReturnType<typeof compiled>>();
  const compiled = (ratio: number, guidance: number) =>
    jit((x: Tensor, t: Tensor, condition: Condition): Tensor => {
      if (guidance === 1) return combined(models, x, t, condition, ratio);
      const none = { ...condition, z: condition.z.map((z) => z && zerosLike(z)) };
      const both = {
        w: condition.w,
        z: condition.z.map((z, i) => z && none.z[i]!.concat(z)),
      };
      const [base, towards] = combined(models, x.concat(x), t.concat(t), both, ratio).split(2);
      return extrapolate(base!, towards!, guidance);
    }, settings);
  const networkFor = (ratio: number, guidance: number) => {
    const key = `${ratio} ${guidance}`;
    const found = networks.get(key) ?? compiled(ratio, guidance);
    networks.set(key, found);
    return found;
  };

  /** K' / K where composition is shifted. */
  function ratioOf(picks: readonly Pick[], compose: ComposeOptions["compose"]): number {
    const { meanImage, config } = models[0]!;
    if (compose !== "shifted") return 1;
    if (!meanImage || config.prediction !== "x0")
      throw new ArgumentError("Decomp: shifted composition needs a model of x0 with a mean picture");
    return picks.reduce((sum, { components }) => sum + components.length, 0) / config.components;
  }

  async function* compose(picks: readonly Pick[], options: ComposeOptions = {}): Composing {
    const { method = "ddim", steps = 50, eta = 0, clip = "signed", guidance = 1, signal } = options;
    const { batch = 64 } = options;
    const count = checkPicks(models, picks);
    const { config } = models[0]!;
    if (!Number.isFinite(guidance)) throw new ArgumentError(`Decomp: the guidance is ${guidance}`);
    const unguided = guidance !== 1 && models.some((model) => !model.config.guided);
    if (unguided)
      throw new ArgumentError(
        `Decomp: a guidance of ${guidance} needs a model that was trained with latents dropped (--drop-latents)`,
      );
    const { seeds = Array.from({ length: count }, () => 0), weights = await weightsOf(models, picks) } =
      options;
    const factors = picks.reduce((sum, { components }) => sum + components.length, 0);
    if (weights.length !== factors || !weights.every(Number.isFinite))
      throw new ArgumentError(`Decomp: expected ${factors} finite weights, got [${weights.join(", ")}]`);
    if (seeds.length !== count)
      throw new ArgumentError(`Decomp: ${seeds.length} seeds for ${count} pictures`);
    const network = networkFor(ratioOf(picks, options.compose), guidance);
    const scheduler = samplingScheduler(config, { method, steps, eta, clip });
    const plane = 3 * config.size ** 2;
    const out = new Float32Array(count * plane);
    for (let first = 0; first < count; first += batch) {
      const to = Math.min(count, first + batch);
      const n = to - first;
      const parts = models.map((_, i) => factorsOf(i, picks, weights, [first, to]));
      const condition: Condition = { z: parts.map((part) => part?.z), w: parts.map((part) => part?.w) };
      const noise = seededNoise("philox", seeds.slice(first, to));
      const shape = [n, 3, config.size, config.size];
      const start = fromHost(
        "f32",
        shape,
        noise.normal(shape, { purpose: "start", step: 0 }) as Float32Array,
      );
      const run = scheduler.sample(
        (x, t) => {
          if (signal?.aborted) throw new AbortError();
          return network(x, full([n], t), condition);
        },
        scheduler.initial(start),
        { noise, ...(signal && { signal }) },
      );
      for (;;) {
        const { done, value } = await run.next();
        if (done) {
          out.set((await value.data()) as Float32Array, first * plane);
          break;
        }
        yield { step: value.step + 1, steps, finished: first, denoised: value.denoised };
      }
    }
    return out;
  }

  return {
    models,
    async encode(pictures, which = 0) {
      const model = models[which];
      if (!model) throw new ArgumentError(`Decomp: model ${which} of ${models.length}`);
      const z = await encoders[which]!(await checkPictures(pictures, model));
      const [count, components, width] = z.shape as [number, number, number];
      return { values: (await z.data()) as Float32Array, count, components, width };
    },
    compose,
    async close() {
      await Promise.all([...encoders, ...networks.values()].map((one) => one.close()));
    },
  };
}

/** Numbers of all components. */
export const allOf = ({ components }: Pick["latents"]): number[] =>
  Array.from({ length: components }, (_, k) => k);

/** All components of some pictures: their reconstruction. */
export const whole = (latents: Latents, model = 0): Pick => ({ model, latents, components: allOf(latents) });

/** Every component of every picture as the only one of a picture of its own, picture after picture. */
export const apart = (latents: Latents, model = 0): Pick => ({
  model,
  latents: { ...latents, count: latents.count * latents.components, components: 1 },
  components: [0],
});

/** The first components of each picture: to be drawn with 1, 2, ... K of them in turn. */
export const firstOf = (latents: Latents, components: number): Pick => ({
  latents,
  components: allOf(latents).slice(0, components),
});

/**
 * Which components come from the first picture (1) and which from the second (0).
 *
 * @throws ArgumentError for a mask of another length than K, or of other signs
 */
export function readMask(mask: string, components: number): boolean[] {
  if (!/^[01]+$/.test(mask)) throw new ArgumentError(`Decomp: expected a mask of 0 and 1, got "${mask}"`);
  if (mask.length !== components)
    throw new ArgumentError(`Decomp: a mask of ${mask.length} for ${components} components`);
  return [...mask].map((sign) => sign === "1");
}

/** Components of a where the mask is 1, of b elsewhere. @throws ShapeError for latents that differ in shape */
export function mixed(a: Latents, b: Latents, mask: readonly boolean[]): Pick[] {
  if (a.components !== b.components || a.width !== b.width)
    throw new ShapeError(
      `Decomp: latents [${a.components}, ${a.width}] and [${b.components}, ${b.width}] do not mix`,
    );
  if (mask.length !== a.components)
    throw new ArgumentError(`Decomp: a mask of ${mask.length} for ${a.components} components`);
  // One set of latents, so that the order of the components is theirs, whoever they are from.
  const values = a.values.slice();
  for (let i = 0; i < a.count; i++)
    for (const [k, ofA] of mask.entries()) {
      const at = (i * a.components + k) * a.width;
      if (!ofA) values.set(b.values.subarray(at, at + a.width), at);
    }
  return [whole({ ...a, values })];
}

/** All components of both: 2 K factors. */
export const added = (a: Latents, b: Latents): Pick[] => [whole(a), whole(b)];

/** Every picture of `sources` gives its component k to the one picture `base`, whose others stay. */
export function varied(base: Latents, k: number, sources: Latents): Pick[] {
  if (base.count !== 1) throw new ArgumentError(`Decomp: one picture is varied, got ${base.count}`);
  if (!(Number.isInteger(k) && k >= 0 && k < base.components))
    throw new ArgumentError(`Decomp: component ${k} of ${base.components}, which count from 0`);
  const repeated = new Float32Array(sources.count * base.values.length);
  for (let i = 0; i < sources.count; i++) repeated.set(base.values, i * base.values.length);
  const mask = allOf(base).map((j) => j !== k);
  return mixed({ ...base, count: sources.count, values: repeated }, sources, mask);
}

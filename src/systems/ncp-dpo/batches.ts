/** Pairs as batches: pictures as samples of the model, prompts as conditions, and the random parts of a step. */
import { readFile } from "node:fs/promises";
import { createDraw, picturesToTensor } from "../../data/index.ts";
import type { TrainingSchedule } from "../../diffusion/index.ts";
import { ArgumentError, NonFiniteError } from "../../errors.ts";
import { decodePicture, type Picture, probePicture } from "../../io/index.ts";
import {
  CompiledFunctions,
  encodePrompts,
  type LatentCodec,
  type PipelineComponents,
} from "../../pipelines/index.ts";
import { createNoise, fromHost, type NoiseSource, type Seed, type Tensor } from "../../tensor/index.ts";
import { epochIndices } from "../../training/index.ts";
import type { PairBatch, StepTo } from "./method.ts";
import type { PairCondition } from "./model.ts";
import type { PictureSource, PreferencePair } from "./pairs.ts";

/** Which later time features are compared at: the one before, any other, or none: the guess of the clean sample. */
export const COURSES = ["t-1", "uniform", "0"] as const;
/** Which later time features are compared at. */
export type Course = (typeof COURSES)[number];

/**
 * S(o) = stretch x + gain o + spread z from level t to t', in numbers: DDPM's step (Ho et al. 2020, eq. 6 and 7) for `t-1`,
 * else the noise that the prediction means, at another level. `later` is t' as an index; -1: no noise at all.
 */
export function stepNumbers(
  { prediction, alphas, sigmas }: TrainingSchedule,
  t: number,
  later: number,
  course: Course,
): { readonly stretch: number; readonly gain: number; readonly spread: number } {
  const [alpha, sigma] = [alphas[t]!, sigmas[t]!];
  const [alpha2, sigma2] = later < 0 ? [1, 0] : [alphas[later]!, sigmas[later]!];
  // What the clean sample is: p x + q o.
  const [p, q] = {
    epsilon: [1 / alpha, -sigma / alpha] as const,
    sample: [0, 1] as const,
    v_prediction: [alpha, -sigma] as const,
    flow_prediction: [1, -sigma] as const,
  }[prediction];
  if (!Number.isFinite(p))
    throw new ArgumentError(
      `timestep ${t} has no signal, so a model that predicts the noise means no sample there`,
    );
  const [towards, rest, spread] =
    course === "t-1" && prediction !== "flow_prediction"
      ? ancestral(alpha, sigma, alpha2, sigma2)
      : ([alpha2 - (sigma2 * alpha) / sigma, sigma2 / sigma, 0] as const);
  return { stretch: rest + towards * p, gain: towards * q, spread };
}

/** Factors of clean sample, noisy sample and fresh noise of DDPM's step between two levels. */
function ancestral(alpha: number, sigma: number, alpha2: number, sigma2: number) {
  if (alpha === alpha2) return [0, 1, 0] as const; // the last step leads nowhere
  const share = (alpha / alpha2) ** 2; // alphaBar_t / alphaBar_t'
  const beta = 1 - share;
  const spread = Math.sqrt(Math.max((beta * sigma2 ** 2) / sigma ** 2, 1e-20));
  return [(alpha2 * beta) / sigma ** 2, (Math.sqrt(share) * sigma2 ** 2) / sigma ** 2, spread] as const;
}

/** Prompts as conditions, each encoded once while it is remembered. */
export interface PromptEncoder {
  /** A row for each prompt. `sizes`: of SDXL, the pictures' own height and width, by row. */
  rows(prompts: readonly string[], sizes?: readonly Size[]): Promise<PairCondition>;
  /** What prompts were cut or not known. */
  readonly warnings: ReadonlySet<string>;
  close(): Promise<void>;
}

/** Height and width in pixels. */
export type Size = readonly [height: number, width: number];

/** Encoded prompts that are remembered. */
const REMEMBERED = 512;

interface Row {
  readonly context: Float32Array;
  readonly tokens: readonly [number, number];
  readonly pooled?: Float32Array;
}

/** @throws ArgumentError as `encodePrompts` does */
export function promptEncoder(components: PipelineComponents, size: Size): PromptEncoder {
  const functions = new CompiledFunctions();
  const known = new Map<string, Row>();
  const warnings = new Set<string>();
  const encoded = async (prompt: string): Promise<Row> => {
    const found = known.get(prompt);
    if (found) return found;
    const { positive, warnings: said } = await encodePrompts(components, prompt, undefined, {}, functions);
    for (const text of said) warnings.add(text);
    const [, tokens, width] = positive.context.shape as [number, number, number];
    const row: Row = {
      context: (await positive.context.data()) as Float32Array,
      tokens: [tokens, width],
      ...(positive.pooled && { pooled: (await positive.pooled.data()) as Float32Array }),
    };
    known.set(prompt, row);
    if (known.size > REMEMBERED) known.delete(known.keys().next().value!);
    return row;
  };
  const joined = (rows: readonly Float32Array[], shape: readonly number[]): Tensor => {
    const width = rows[0]!.length;
    const out = new Float32Array(rows.length * width);
    rows.forEach((row, i) => {
      if (row.length !== width) throw new ArgumentError("prompts of different numbers of windows in a batch");
      out.set(row, i * width);
    });
    return fromHost("f32", [rows.length, ...shape], out);
  };
  return {
    warnings,
    async rows(prompts, sizes) {
      const rows: Row[] = [];
      for (const prompt of prompts) rows.push(await encoded(prompt));
      const context = joined(
        rows.map((row) => row.context),
        rows[0]!.tokens,
      );
      if (components.kind !== "sdxl") return { context };
      const pooled = rows.map((row) => row.pooled!);
      // Original size, where it is cut, wanted size.
      const ids = prompts.map((_, i) => Float32Array.of(...(sizes?.[i] ?? size), 0, 0, ...size));
      return { context, textEmbeds: joined(pooled, [pooled[0]!.length]), timeIds: joined(ids, [6]) };
    },
    close: () => functions.close(),
  };
}

/** A picture of a pair, at the size of the model, and the size that it had. */
async function opened(
  source: PictureSource,
  [height, width]: Size,
): Promise<{ picture: Picture; size: Size }> {
  const bytes = typeof source === "string" ? await readFile(source) : source;
  const name = typeof source === "string" ? source : "picture of the table";
  const own = await probePicture(bytes, { name });
  return {
    picture: await decodePicture(bytes, { name, size: { height, width } }),
    size: [own.height, own.width],
  };
}

const mirrored = ({ width, height, channels, data }: Picture): Picture => {
  const out = data.slice();
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < channels; c++)
        out[(y * width + x) * channels + c] = data[(y * width + width - 1 - x) * channels + c]!;
  return { width, height, channels, data: out };
};

/** What the batches of a training are made of. */
export interface PairBatches {
  readonly pairs: readonly PreferencePair[];
  readonly schedule: TrainingSchedule;
  readonly codec: LatentCodec;
  readonly prompts: PromptEncoder;
  /** Height and width of the model's pictures. */
  readonly size: Size;
  /** Pairs of a step. */
  readonly batch: number;
  readonly course: Course;
  /** Pairs are mirrored with probability 1 / 2, both pictures alike. */
  readonly flip: boolean;
  readonly seed: Seed;
}

/** Batches: a pure function of the step. */
export function pairBatches(given: PairBatches): (step: number) => Promise<PairBatch<PairCondition>> {
  const { pairs, schedule, codec, prompts, size, batch, course, flip, seed } = given;
  const indices = epochIndices(pairs.length, batch, seed);
  const source = createNoise("philox", seed);
  const count = schedule.alphas.length;
  return async (step) => {
    const chosen = Array.from(indices(step), (i) => pairs[i]!);
    const draw = createDraw(seed, step, 0, "pairs");
    const t = chosen.map(() => draw.integer(count));
    const later = t.map(
      (at) => ({ "t-1": Math.max(at - 1, 0), uniform: draw.integer(count), "0": -1 })[course],
    );
    const flips = chosen.map(() => flip && draw.chance(0.5));
    const pictures = await Promise.all(
      chosen.flatMap(({ winner, loser }) => [winner, loser].map((source) => opened(source, size))),
    );
    const tensor = picturesToTensor(
      pictures.map(({ picture }, i) => (flips[i >> 1] ? mirrored(picture) : picture)),
    );
    const x0 = await codec.encode(tensor, ofStep(source, step), 2 * batch);
    checkFinite((await x0.data()) as Float32Array);
    const own = x0.shape.slice(1);
    const shared = (purpose: string): Tensor => {
      const values = source.normal([batch, ...own], { sample: 0, step, purpose });
      return fromHost("f32", [2 * batch, ...own], twice(values, batch));
    };
    const numbers = (of: (i: number) => number): Tensor =>
      fromHost(
        "f32",
        [2 * batch],
        Float32Array.from({ length: 2 * batch }, (_, i) => of(i >> 1)),
      );
    const steps = t.map((at, i) => stepNumbers(schedule, at, later[i]!, course));
    const to: StepTo = {
      stretch: numbers((i) => steps[i]!.stretch),
      gain: numbers((i) => steps[i]!.gain),
      spread: numbers((i) => steps[i]!.spread),
    };
    const told = chosen.flatMap((pair) => [pair, pair]);
    return {
      ...{ x0, noise: shared("noise"), z: shared("z"), step: to },
      level: {
        alpha: numbers((i) => schedule.alphas[t[i]!]!),
        sigma: numbers((i) => schedule.sigmas[t[i]!]!),
      },
      t: numbers((i) => schedule.timesteps[t[i]!]!),
      later: numbers((i) => schedule.timesteps[Math.max(0, later[i]!)]!),
      condition: await prompts.rows(
        told.map(({ prompt }) => prompt),
        pictures.map((one) => one.size),
      ),
    };
  };
}

/** The draws of a step in place of those of step 0. */
const ofStep = (source: NoiseSource, step: number): NoiseSource => ({
  ...source,
  normal: (shape, at) => source.normal(shape, { ...at, step }),
});

/** Each of `count` rows two times, one after the other. */
function twice(values: Float32Array, count: number): Float32Array {
  const width = values.length / count;
  const out = new Float32Array(2 * values.length);
  for (let i = 0; i < 2 * count; i++) {
    const row = i >> 1;
    out.set(values.subarray(row * width, (row + 1) * width), i * width);
  }
  return out;
}

function checkFinite(values: Float32Array): void {
  const bad = values.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0)
    throw new NonFiniteError(`pairs: the latents of a picture have ${values[bad]} at element ${bad}`);
}

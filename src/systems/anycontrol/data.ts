/** Conditions of shape-world scenes, aligned and unaligned, and batches for training. */
import {
  type Dataset,
  openShapes,
  renderShapes,
  type ShapeSample,
  withoutNearest,
} from "../../data/index.ts";
import { createDraw, type Draw } from "../../data/random-draws.ts";
import { fromHost, type Seed, type Tensor } from "../../tensor/index.ts";
import { alphaBarLevels, diffusionBatch } from "../../training/index.ts";
import type { Base } from "./base.ts";
import type { Batch, Guide } from "./method.ts";
import { type ControlType, TYPES, taskWords } from "./types.ts";

/** Colours of classes in `seg` maps: wall, floor, circle, square, triangle, person. */
export const CLASS_COLOURS: Readonly<Record<string, readonly [number, number, number]>> = {
  wall: [0.35, 0.3, 0.45],
  floor: [0.65, 0.6, 0.5],
  circle: [0.9, 0.2, 0.25],
  square: [0.2, 0.75, 0.3],
  triangle: [0.2, 0.4, 0.95],
  person: [0.95, 0.8, 0.15],
};
const PALETTE = Object.values(CLASS_COLOURS);

/** One condition: its type and its map, three values a pixel in [0, 1]. */
export interface Condition {
  readonly type: ControlType;
  readonly map: Float32Array; // [S, S, 3]
}

const spread = (values: ArrayLike<number>): Float32Array =>
  Float32Array.from({ length: 3 * values.length }, (_, i) => values[Math.floor(i / 3)]!);

/** The exact map of a scene. // [S, S, 3] */
export function exactMap({ edges, depth, classes, pose }: ShapeSample, type: ControlType): Float32Array {
  if (type === "pose") return pose;
  if (type === "seg")
    return Float32Array.from(
      { length: 3 * classes.length },
      (_, i) => PALETTE[classes[Math.floor(i / 3)]!]![i % 3]!,
    );
  return spread(type === "edge" ? edges : depth);
}

/** A scene, the same without its nearest thing, and where that thing is. */
export interface Unaligned {
  readonly full: ShapeSample;
  readonly background: ShapeSample;
  /** 1 on the nearest thing and around it. // [S, S] */
  readonly region: Float32Array;
}

/** Pixels that a region reaches beyond its thing, in pictures of 32. */
const MARGIN = 2;

/** 1 within `reach` pixels (each way) of a pixel that is 1. // [S, S] */
export function dilated(mask: ArrayLike<number>, size: number, reach: number): Float32Array {
  const along = (values: ArrayLike<number>, step: number, at: (i: number) => number): Float32Array =>
    Float32Array.from({ length: size * size }, (_, i) => {
      for (let k = -reach; k <= reach; k++)
        if (at(i) + k >= 0 && at(i) + k < size && values[i + k * step]! > 0) return 1;
      return 0;
    });
  return along(
    along(mask, 1, (i) => i % size),
    size,
    (i) => Math.floor(i / size),
  );
}

/** What unaligned conditions of a scene are made of. Nothing has to be painted over: the scene is rendered without the thing. */
export function unaligned(full: ShapeSample, size = 32): Unaligned {
  const near = 1 + full.scene.shapes.length; // number of the nearest thing
  const own = full.instances.map((instance) => (instance === near ? 1 : 0));
  const region = dilated(own, size, Math.max(1, Math.round((MARGIN * size) / 32)));
  return { full, background: renderShapes(withoutNearest(full.scene), size), region };
}

/** A map only inside a region, black elsewhere. */
export const within = (map: Float32Array, region: ArrayLike<number>): Float32Array =>
  map.map((v, i) => v * region[Math.floor(i / 3)]!);

const hasPerson = ({ scene }: ShapeSample): boolean => scene.shapes.some(({ name }) => name === "person");

/** Two conditions of one scene, of different types; the pose of a person comes first in three of four. */
function alignedPair(draw: Draw, sample: ShapeSample): Condition[] {
  const types = TYPES.filter((type) => type !== "pose" || hasPerson(sample));
  const first = types.includes("pose") && draw.chance(0.75) ? "pose" : draw.pick(types);
  const second = draw.pick(types.filter((type) => type !== first));
  return [first, second].map((type) => ({ type, map: exactMap(sample, type) }));
}

/** A condition of the place without its near thing, and one of that thing alone: the first says "nothing here". */
export function unalignedPair(draw: Draw, { full, background, region }: Unaligned): Condition[] {
  const isPerson = full.scene.shapes.at(-1)!.name === "person";
  const back = draw.pick(TYPES.filter((type) => type !== "pose"));
  const types = TYPES.filter((type) => type !== back && (type !== "pose" || isPerson));
  const fore = isPerson && draw.chance(0.75) ? "pose" : draw.pick(types);
  return [
    { type: back, map: exactMap(background, back) },
    { type: fore, map: within(exactMap(full, fore), region) },
  ];
}

/** How conditions are chosen. */
export interface PairSettings {
  /** Share of unaligned pairs. */
  readonly unaligned: number;
  /** Probability that the second condition is left out, so that one alone is seen as well. */
  readonly dropSecond: number;
  /** Probability that text and conditions are dropped, and, of the others, that the text is. */
  readonly dropAll: number;
  readonly dropText: number;
  /** Every condition of the scene, each dropped by half, all kept or dropped in a tenth: as Uni-ControlNet is trained. */
  readonly all?: boolean;
  /** Only this type: as a ControlNet of its own is trained. */
  readonly only?: ControlType;
}

/** A sample of a training. */
export interface Chosen {
  readonly caption: string;
  readonly conditions: readonly Condition[];
}

/** Conditions and caption of a scene. */
export function choose(draw: Draw, sample: ShapeSample, settings: PairSettings): Chosen {
  const { all, only, dropAll, dropText, dropSecond } = settings;
  const { caption } = sample;
  if (only)
    return {
      caption: draw.chance(dropText) ? "" : caption,
      conditions: [{ type: only, map: exactMap(sample, only) }],
    };
  if (all) {
    const u = draw.uniform(0, 1);
    const keeps = TYPES.filter(() => draw.chance(0.5));
    const types = u < 0.1 ? TYPES : u < 0.2 ? [] : keeps;
    const conditions = types.map((type) => ({ type, map: exactMap(sample, type) }));
    return { caption: draw.chance(0.5) ? "" : caption, conditions };
  }
  const pair = draw.chance(settings.unaligned)
    ? unalignedPair(draw, unaligned(sample))
    : alignedPair(draw, sample);
  if (draw.chance(dropAll)) return { caption: "", conditions: [] };
  const conditions = draw.chance(dropSecond) ? [pair[draw.integer(2)]!] : pair;
  return { caption: draw.chance(dropText) ? "" : caption, conditions };
}

/** Pixels of a map as planes in [-1, 1]. */
function writeMap(out: Float32Array, map: Float32Array): void {
  const plane = out.length / 3;
  for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) out[c * plane + i] = 2 * map[3 * i + c]! - 1;
}

/** How conditions lie in a guide: one behind the other, or each in the place of its type, as rivals want them. */
export type Layout = "packed" | "slots";

/** Many lists of conditions as a guide; `strengths` in the order of each list. // n conditions or types */
export function guideOf(
  base: Pick<Base, "textIds">,
  rows: readonly (Chosen & { readonly strengths?: readonly number[] })[],
  { size, layout, most }: { readonly size: number; readonly layout: Layout; readonly most: number },
): Guide {
  const n = layout === "slots" ? TYPES.length : Math.max(1, most);
  const conditions = new Float32Array(rows.length * n * 3 * size * size).fill(-1);
  const weights = new Float32Array(rows.length * n);
  const width = 3 * size * size;
  for (const [row, { conditions: own, strengths }] of rows.entries())
    for (const [i, { type, map }] of own.entries()) {
      const at = row * n + (layout === "slots" ? TYPES.indexOf(type) : i);
      writeMap(conditions.subarray(at * width, (at + 1) * width), map);
      weights[at] = strengths?.[i] ?? 1;
    }
  const texts = rows.map(({ caption, conditions: own }) => caption + taskWords(own.map(({ type }) => type)));
  return {
    conditions: fromHost("f32", [rows.length, n, 3, size, size], conditions),
    weights: fromHost("f32", [rows.length, n], weights),
    ...base.textIds(texts),
  };
}

/** Scenes to train on, with the captions that the base has seen. */
export const trainingScenes = (seed: Seed, count = 12_000): Dataset<ShapeSample> =>
  openShapes({ seed, count, mirror: 0.5, split: "train" });

/** Scenes of two things that judge; their captions are held out. */
export const testScenes = (count: number): Dataset<ShapeSample> =>
  openShapes({ seed: 11, count, things: 2, mirror: 0.5, split: "held-out" });

/** Pictures in [-1, 1] as planes. // [N, 3, S, S] */
export function picturesOf(samples: readonly Pick<ShapeSample, "image">[], size: number): Tensor {
  const values = new Float32Array(samples.length * 3 * size * size);
  for (const [i, { image }] of samples.entries())
    writeMap(values.subarray(3 * i * size * size, 3 * (i + 1) * size * size), image);
  return fromHost("f32", [samples.length, 3, size, size], values);
}

/** Settings of batches. */
export interface BatchSettings extends PairSettings {
  readonly batch: number;
  readonly seed: number;
  readonly layout: Layout;
}

/** Whether a scene can be used for these settings. */
const usable = (sample: ShapeSample, { only }: PairSettings): boolean => only !== "pose" || hasPerson(sample);

/** Batches of a training, a pure function of the step. */
export function anyControlBatches(base: Base, scenes: Dataset<ShapeSample>, settings: BatchSettings) {
  const { batch, seed, layout } = settings;
  const { source, levels } = { source: base.noise(seed), levels: alphaBarLevels(base.alphaBars) };
  return async (step: number): Promise<Batch> => {
    const rows: (Chosen & { readonly sample: ShapeSample })[] = [];
    for (let i = 0; i < batch; i++) {
      const draw = createDraw(seed, step * batch + i, 0, "anycontrol");
      let sample = await scenes.get(draw.integer(scenes.length));
      while (!usable(sample, settings)) sample = await scenes.get(draw.integer(scenes.length));
      rows.push({ ...choose(draw, sample, settings), sample });
    }
    const pictures = picturesOf(
      rows.map(({ sample }) => sample),
      base.size,
    );
    const x0 = await base.encode(pictures);
    const context = await base.contexts(rows.map(({ caption }) => caption));
    const { dropped: _, ...draws } = diffusionBatch(x0.shape, { source, step, levels, stratified: true });
    const guide = guideOf(base, rows, { size: base.size, layout, most: 2 });
    return { unet: base.unet, x0, context, guide, ...draws };
  };
}

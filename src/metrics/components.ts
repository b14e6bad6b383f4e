/** Pictures taken apart: whether components are the objects, keep out of each other's way, and are alive. */
import { CholeskyDecomposition, Matrix } from "ml-matrix";
import { ArgumentError, ShapeError } from "../errors.ts";
import { maskIou, matchSlots } from "./matching.ts";
import type { SampleTable } from "./sample-table.ts";

/** Where a picture [C, pixels] differs from its ground, one value per channel, by more than `threshold` in any channel. */
export function foregroundMask(
  picture: ArrayLike<number>,
  { ground, threshold = 0.3 }: { readonly ground: readonly number[]; readonly threshold?: number },
): Uint8Array {
  const pixels = picture.length / ground.length;
  if (!Number.isInteger(pixels) || pixels < 1)
    throw new ShapeError(`foregroundMask: ${picture.length} numbers in ${ground.length} channels`);
  return Uint8Array.from({ length: pixels }, (_, i) =>
    ground.some((value, c) => Math.abs(picture[c * pixels + i]! - value) > threshold) ? 1 : 0,
  );
}

/** Where any of some masks is. @throws ArgumentError without masks */
export function unionMask(masks: readonly ArrayLike<number>[]): Uint8Array {
  const [first] = masks;
  if (!first) throw new ArgumentError("unionMask: no masks");
  return Uint8Array.from(first, (_, i) => (masks.some((mask) => mask[i]) ? 1 : 0));
}

/** How well components show the objects of a picture. */
export interface ComponentScores {
  /** Mean IoU over the true masks, components matched one to one: 1 when each object is a component. */
  readonly miou: number;
  /** Mean IoU of two components: 0 when they share no pixel, 1 when all are the same. */
  readonly overlap: number;
  /** Share of the true foreground that any component shows. */
  readonly coverage: number;
  /** Share of what the components show that is not of the true foreground. */
  readonly outside: number;
}

const countOf = (mask: ArrayLike<number>): number => Array.from(mask).filter(Boolean).length;

/** Scores of the components' foregrounds in one picture, by the true masks of its objects. */
export function componentScores(
  components: readonly ArrayLike<number>[],
  truth: readonly ArrayLike<number>[],
): ComponentScores {
  const { meanIou } = matchSlots(components, truth);
  const pairs = components.flatMap((a, i) => components.slice(i + 1).map((b) => overlapOf(a, b)));
  const [shown, all] = [unionMask(components), unionMask(truth)];
  const both = countOf(shown.map((v, i) => (v && all[i] ? 1 : 0)));
  return {
    miou: meanIou,
    overlap: pairs.length === 0 ? 0 : pairs.reduce((a, b) => a + b, 0) / pairs.length,
    coverage: both / Math.max(1, countOf(all)),
    outside: 1 - both / Math.max(1, countOf(shown)),
  };
}

/** IoU of two components; two that show nothing share nothing. */
const overlapOf = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  countOf(a) + countOf(b) === 0 ? 0 : maskIou(a, b);

/** A mixed picture's foreground against all that its components show. */
export const recombinationIou = (
  mixed: ArrayLike<number>,
  components: readonly ArrayLike<number>[],
): number => maskIou(mixed, unionMask(components));

/** How many objects have a part of the foreground, or a mask of some list, with an IoU above 0.5. */
export const objectsFound = (
  masks: readonly ArrayLike<number>[],
  truth: readonly ArrayLike<number>[],
): number => matchSlots(masks, truth).iou.filter((iou) => iou > 0.5).length;

/** Signs that a decomposition has collapsed: dead latents, components that are alike or blank. */
export interface CollapseIndicators {
  /** Variance over the pictures of what each component shows, mean over pixels: near 0 where it is always the same. */
  readonly variance: readonly number[];
  /** Mean squared difference of two components of a picture: near 0 where all are the same. */
  readonly distance: number;
  /** Share of the latents that are 0 for every picture. */
  readonly dead: number;
}

/** Whether a model has collapsed, from components [N, K, pixels] and latents [N, K, width]. */
export function collapseIndicators(
  components: Float32Array,
  latents: Float32Array,
  { count, components: k }: { readonly count: number; readonly components: number },
): CollapseIndicators {
  const [plane, width] = [components.length / (count * k), latents.length / (count * k)];
  if (count < 2 || !Number.isInteger(plane) || !Number.isInteger(width))
    throw new ShapeError(
      `collapseIndicators: ${components.length} and ${latents.length} numbers of ${count} pictures with ${k} components, two or more`,
    );
  const at = (n: number, j: number, i: number): number => components[(n * k + j) * plane + i]!;
  const variance = Array.from({ length: k }, (_, j) => {
    let sum = 0;
    for (let i = 0; i < plane; i++) {
      let [mean, square] = [0, 0];
      for (let n = 0; n < count; n++) {
        mean += at(n, j, i) / count;
        square += at(n, j, i) ** 2 / count;
      }
      sum += square - mean ** 2;
    }
    return sum / plane;
  });
  let [distance, pairs] = [0, 0];
  for (let n = 0; n < count; n++)
    for (let a = 0; a < k; a++)
      for (let b = a + 1; b < k; b++, pairs++)
        for (let i = 0; i < plane; i++) distance += (at(n, a, i) - at(n, b, i)) ** 2 / plane;
  let dead = 0;
  for (let j = 0; j < k * width; j++) {
    let alive = false;
    for (let n = 0; n < count && !alive; n++) alive = latents[n * k * width + j] !== 0;
    if (!alive) dead++;
  }
  return { variance, distance: pairs === 0 ? 0 : distance / pairs, dead: dead / (k * width) };
}

/** Columns at mean 0 and deviation 1 by the rows of `support`. */
function standardised(support: SampleTable, other: SampleTable): [Matrix, Matrix] {
  const { width } = support;
  const values = support.values();
  const mean = new Float64Array(width);
  const deviation = new Float64Array(width);
  values.forEach((v, i) => {
    mean[i % width]! += v / support.size;
  });
  values.forEach((v, i) => {
    deviation[i % width]! += (v - mean[i % width]!) ** 2 / support.size;
  });
  const of = (table: SampleTable): Matrix =>
    Matrix.from1DArray(
      table.size,
      width,
      table.values().map((v, i) => (v - mean[i % width]!) / (Math.sqrt(deviation[i % width]!) + 1e-6)),
    );
  return [of(support), of(other)];
}

/** Halves of the rows of two tables of the same samples. */
export interface Halves {
  readonly latents: SampleTable;
  readonly factors: SampleTable;
}

/**
 * R² of each factor by a ridge on the latents, measured on samples that the ridge has not seen; 0 where it is no better than
 * the mean. Of a part of the latents, such as one component's, it says what that part knows.
 */
export function ridgeR2(support: Halves, query: Halves, lambda = 1): number[] {
  if (support.latents.size !== support.factors.size || query.latents.size !== query.factors.size)
    throw new ShapeError(
      `ridgeR2: ${support.latents.size} and ${query.latents.size} samples of latents, ${support.factors.size} and ${query.factors.size} of factors`,
    );
  const [x, xq] = standardised(support.latents, query.latents);
  const [y, yq] = standardised(support.factors, query.factors);
  const gram = x.transpose().mmul(x);
  for (let i = 0; i < gram.rows; i++) gram.set(i, i, gram.get(i, i) + lambda);
  const weights = new CholeskyDecomposition(gram).solve(x.transpose().mmul(y));
  const found = xq.mmul(weights);
  return Array.from({ length: yq.columns }, (_, k) => {
    const truth = yq.getColumn(k);
    const mean = truth.reduce((a, b) => a + b, 0) / truth.length;
    const [rest, all] = truth.reduce(
      ([r, a], v, i) => [r + (v - found.get(i, k)) ** 2, a + (v - mean) ** 2] as const,
      [0, 0] as readonly [number, number],
    );
    return Math.max(0, 1 - rest / all);
  });
}

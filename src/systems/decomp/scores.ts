/** What is measured of a model that takes pictures apart: how well it draws them again, and whether its parts are parts. */
import { slicePictures, tensorOf } from "../../data/index.ts";
import {
  type CollapseIndicators,
  collapseIndicators,
  componentScores,
  foregroundMask,
  meanCorrelationCoefficient,
  mutualInformationGap,
  recombinationIou,
  ridgeR2,
  SampleTable,
} from "../../metrics/index.ts";
import { mean } from "../../study/index.ts";
import { drained } from "../../work.ts";
import { COUNTS, type DecompSet } from "./data.ts";
import { apart, type ComposeOptions, type Decomposer, type Latents, mixed, whole } from "./use.ts";

/** Test pictures of a set, taken apart and drawn again. Pictures lie in [0, 1]. */
export interface Taken {
  readonly latents: Latents;
  readonly reconstruction: Float32Array; // [N, 3, S, S]
  /** Absent where there are no components. */
  readonly components?: Float32Array; // [N, K, 3, S, S]
  /** The first half of each picture's components with the others of the next picture. */
  readonly mixtures?: Float32Array; // [N, 3, S, S]
  /** Each picture drawn from the latents of the next. */
  readonly shuffled?: Float32Array; // [N, 3, S, S]
}

const clipped = (values: Float32Array): Float32Array => values.map((v) => Math.min(1, Math.max(0, v)));

/** Latents of the next picture, the last one's being those of the first. */
export function rolled(latents: Latents): Latents {
  const { values, components, width } = latents;
  const plane = components * width;
  const out = new Float32Array(values.length);
  out.set(values.subarray(plane));
  out.set(values.subarray(0, plane), values.length - plane);
  return { ...latents, values: out };
}

/** The components that a mixture keeps: the first half. */
export const halfMask = (components: number): boolean[] =>
  Array.from({ length: components }, (_, k) => k < components / 2);

/** Draws all that is scored. What a picture gets depends on its number alone. */
export async function takeApart(
  decomposer: Decomposer,
  set: DecompSet,
  options: ComposeOptions & { readonly seed?: number } = {},
): Promise<Taken> {
  const { seed = 0, ...how } = options;
  const latents = await decomposer.encode(tensorOf(set.pictures));
  const { count, components: k } = latents;
  const next = rolled(latents);
  const seeds = Array.from({ length: count }, (_, i) => seed * 1_000_003 + i);
  const draw = async (picks: Parameters<Decomposer["compose"]>[0], each = 1) => {
    const own = each === 1 ? seeds : seeds.flatMap((one) => Array.from({ length: each }, () => one));
    return clipped(await drained(decomposer.compose(picks, { ...how, seeds: own })));
  };
  const reconstruction = await draw([whole(latents)]);
  const shuffled = await draw([whole(next)]);
  if (k === 1) return { latents, reconstruction, shuffled };
  return {
    ...{ latents, reconstruction, shuffled },
    components: await draw([apart(latents)], k),
    mixtures: await draw(mixed(latents, next, halfMask(k))),
  };
}

/** The first pictures of a set, with what is known of them. */
export function firstPictures(set: DecompSet, count: number): DecompSet {
  const { pictures, factors, masks } = set;
  const few = Math.min(count, pictures.count);
  return {
    ...set,
    pictures: slicePictures(pictures, 0, few),
    ...(factors && { factors: factors.slice(0, (few * factors.length) / pictures.count) }),
    ...(masks && { masks: masks.slice(0, few) }),
  };
}

export interface Scores {
  /** Mean squared error of the reconstructions. */
  readonly error: number;
  /** The same of every picture, for intervals. */
  readonly errors: readonly number[];
  /** The same with the latents of another picture. */
  readonly shuffledError?: number;
  readonly miou?: number;
  readonly overlap?: number;
  readonly coverage?: number;
  readonly outside?: number;
  /** Foreground of the mixtures against what their components show. */
  readonly recombination?: number;
  readonly collapse?: CollapseIndicators;
  readonly mig?: number;
  readonly mcc?: number;
  /** MIG and MCC without the hue, which is circular. */
  readonly migWithoutHue?: number;
  readonly mccWithoutHue?: number;
  /** R² of each factor by each component's latents. // [K][factors] */
  readonly r2?: readonly (readonly number[])[];
}

/** Blocks lie on black. */
const GROUND = [0, 0, 0];

const errorsOf = (a: Float32Array, b: Float32Array, count: number): number[] => {
  const plane = a.length / count;
  return Array.from({ length: count }, (_, i) => {
    let sum = 0;
    for (let j = i * plane; j < (i + 1) * plane; j++) sum += (a[j]! - b[j]!) ** 2;
    return sum / plane;
  });
};

const sliceOf = (values: Float32Array, at: number, plane: number): Float32Array =>
  values.subarray(at * plane, (at + 1) * plane);

/** Scores by the true masks of blocks. */
function byMasks({ components, mixtures, latents }: Taken, masks: NonNullable<DecompSet["masks"]>) {
  const { count, components: k } = latents;
  const plane = components!.length / (count * k);
  const foreground = (values: Float32Array, at: number) =>
    foregroundMask(sliceOf(values, at, plane), { ground: GROUND });
  const shown = Array.from({ length: count }, (_, n) =>
    Array.from({ length: k }, (_, j) => foreground(components!, n * k + j)),
  );
  const all = shown.map((own, n) => componentScores(own, masks[n]!));
  const of = (name: keyof (typeof all)[number]): number => mean(all.map((one) => one[name]));
  const chosen = halfMask(k);
  const recombination = shown.map((own, n) => {
    const next = shown[(n + 1) % count]!;
    const parts = chosen.map((ofOwn, j) => (ofOwn ? own[j]! : next[j]!));
    return recombinationIou(foreground(mixtures!, n), parts);
  });
  return {
    ...{ miou: of("miou"), overlap: of("overlap"), coverage: of("coverage"), outside: of("outside") },
    recombination: mean(recombination),
  };
}

/** The lit ball's factor that no linear correlation sees. */
const HUE = 2;

function table(rows: ArrayLike<number>, width: number, columns: readonly number[]): SampleTable {
  const found = new SampleTable(columns.length);
  for (let i = 0; i < rows.length / width; i++)
    found.add(
      i,
      columns.map((j) => rows[i * width + j]!),
    );
  return found;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Scores by the factors of lit balls. */
function byFactors({ values, count, components, width }: Latents, factors: Int32Array) {
  const [wide, known] = [components * width, factors.length / count];
  const z = table(values, wide, range(0, wide));
  const of = (columns: readonly number[]) => table(factors, known, columns);
  const [all, others] = [range(0, known), range(0, known).filter((k) => k !== HUE)];
  const half = Math.floor(count / 2);
  const halves = (columns: readonly number[], from: number, to: number) => ({
    latents: table(values.subarray(from * wide, to * wide), wide, columns),
    factors: table(factors.subarray(from * known, to * known), known, all),
  });
  return {
    mig: mutualInformationGap(z, of(all)),
    mcc: meanCorrelationCoefficient(z, of(all)),
    migWithoutHue: mutualInformationGap(z, of(others)),
    mccWithoutHue: meanCorrelationCoefficient(z, of(others)),
    r2: range(0, components).map((k) => {
      const columns = range(k * width, (k + 1) * width);
      return ridgeR2(halves(columns, 0, half), halves(columns, half, count));
    }),
  };
}

const isBlocks = ({ title }: DecompSet): boolean => title.startsWith("blocks");

/** All that can be said of what was taken apart; by masks and factors where the set knows them. */
export function scoresOf(taken: Taken, set: DecompSet): Scores {
  const { pictures, masks, factors } = set;
  const { latents, components, reconstruction, shuffled } = taken;
  const { count, components: k } = latents;
  const errors = errorsOf(reconstruction, pictures.values, count);
  return {
    ...{ errors, error: mean(errors) },
    ...(shuffled && { shuffledError: mean(errorsOf(shuffled, pictures.values, count)) }),
    ...(components && masks && isBlocks(set) && byMasks(taken, masks)),
    ...(components &&
      count > 1 && { collapse: collapseIndicators(components, latents.values, { count, components: k }) }),
    ...(factors && !isBlocks(set) && count > 3 && byFactors(latents, factors)),
  };
}

/** Floors: every component shows all objects, and random masks as large as the objects. */
export function floorsOf({ masks = [] }: DecompSet): { readonly whole: number; readonly random: number } {
  let state = 1;
  const next = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  const wholes: number[] = [];
  const randoms: number[] = [];
  for (const truth of masks) {
    const all = Uint8Array.from(truth[0]!, (_, i) => (truth.some((mask) => mask[i]) ? 1 : 0));
    wholes.push(
      componentScores(
        truth.map(() => all),
        truth,
      ).miou,
    );
    const share = truth[0]!.reduce((a, b) => a + b, 0) / truth[0]!.length;
    const random = truth.map((mask) => mask.map(() => (next() < share ? 1 : 0)));
    randoms.push(componentScores(random, truth).miou);
  }
  return { whole: mean(wholes), random: mean(randoms) };
}

/** Test pictures of a made set have another seed than those of training. */
export const TEST_SEED = COUNTS.test.seed;

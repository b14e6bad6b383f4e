/**
 * Procedural lesions: data for when none is at hand. One to three wobbly ellipses, brighter than the ground and with a
 * texture of their own, among discs that are as bright and have none, under uneven light and noise.
 */

import { fillNormal, type Seed } from "../../tensor/index.ts";
import { blurPicture } from "../augment/degrade.ts";
import { type Dataset, dataset } from "../dataset.ts";
import type { SegmentedPicture, Split } from "../picture-set.ts";
import { createDraw, type Draw } from "../random-draws.ts";

/** Side of a picture. */
export const LESION_SIZE = 64;

/** Pictures per split, and the index of the first: splits share nothing. */
const SPLITS = {
  train: { first: 0, count: 2000 },
  val: { first: 1_000_000, count: 200 },
  test: { first: 2_000_000, count: 400 },
} as const satisfies Record<Split, unknown>;

interface Blob {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  /** Width over height of the ellipse, and how it is turned. */
  readonly aspect: number;
  readonly angle: number;
  readonly wobble: number;
}

const TWO_PI = 2 * Math.PI;

const blob = (draw: Draw, size: number, wobble: number, radii: readonly [number, number]): Blob => ({
  x: draw.uniform(0.12, 0.88) * size,
  y: draw.uniform(0.12, 0.88) * size,
  radius: (draw.uniform(...radii) * size) / LESION_SIZE,
  aspect: wobble > 0 ? draw.uniform(0.7, 1.4) : 1,
  angle: draw.uniform(0, TWO_PI),
  wobble,
});

/** Whether a point lies in a blob whose radius goes with the angle. */
function contains(b: Blob, x: number, y: number): boolean {
  const [dx, dy] = [x - b.x, y - b.y];
  const [c, s] = [Math.cos(b.angle), Math.sin(b.angle)];
  const [u, v] = [(c * dx + s * dy) / b.aspect, (c * dy - s * dx) * b.aspect];
  const theta = Math.atan2(v, u);
  const radius = b.radius * (1 + b.wobble * (0.18 * Math.sin(3 * theta) + 0.1 * Math.sin(5 * theta)));
  return u * u + v * v < radius * radius;
}

/** Noise of deviation 1, blurred. */
function noise(
  size: number,
  sigma: number,
  address: { seed: Seed; sample: number; purpose: string },
): Float32Array {
  const data = fillNormal(new Float32Array(size * size), address);
  const smooth = blurPicture({ width: size, height: size, channels: 1, data }, sigma).data;
  const deviation = Math.sqrt(smooth.reduce((sum, v) => sum + v * v, 0) / smooth.length);
  return smooth.map((v) => v / deviation);
}

/** Picture `index` of a seed. Values are brightness around 0.5, not cut off. */
export function lesion(index: number, seed: Seed = 0, size = LESION_SIZE): SegmentedPicture {
  const draw = createDraw(seed, index, 0, "lesion");
  const lesions = Array.from({ length: 1 + draw.integer(3) }, () => blob(draw, size, 1, [5, 14]));
  const distractors = Array.from({ length: 1 + draw.integer(3) }, () => blob(draw, size, 0, [4, 9]));
  const address = (purpose: string) => ({ seed, sample: index, purpose: `lesion ${purpose}` });
  const ground = noise(size, (6 * size) / LESION_SIZE, address("ground"));
  const texture = noise(size, 0.8, address("texture"));
  const grain = noise(size, 0, address("grain"));
  const slope = [draw.uniform(-0.25, 0.25), draw.uniform(-0.25, 0.25)] as const;
  const labels = new Int32Array(size * size);
  const data = new Float32Array(size * size);
  for (let i = 0; i < data.length; i++) {
    const [x, y] = [(i % size) + 0.5, Math.floor(i / size) + 0.5];
    const inside = lesions.some((b) => contains(b, x, y));
    const bright = inside || distractors.some((b) => contains(b, x, y));
    labels[i] = inside ? 1 : 0;
    const light = slope[0] * (x / size - 0.5) + slope[1] * (y / size - 0.5);
    const own = inside ? 0.28 * texture[i]! : 0;
    data[i] = 0.5 + 0.12 * ground[i]! + light + (bright ? 0.35 : 0) + own + 0.22 * grain[i]!;
  }
  const image = blurPicture({ width: size, height: size, channels: 1, data }, 0.6);
  return { name: `lesion-${index}`, image, labels };
}

/** A split of the lesions: 2000, 200 and 400 pictures, fewer when asked. */
export function lesions(
  split: Split,
  count: number = SPLITS[split].count,
  size = LESION_SIZE,
): Dataset<SegmentedPicture> {
  const { first } = SPLITS[split];
  return dataset(count, (i) => lesion(first + i, 0, size));
}

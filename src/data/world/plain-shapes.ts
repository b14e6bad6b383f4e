/**
 * Procedural shapes of three classes, as bright as each other: what a pixel belongs to is said by its shape alone. For
 * the demonstration of several classes.
 */

import { fillNormal, type Seed } from "../../tensor/index.ts";
import { blurPicture } from "../augment/degrade.ts";
import { type Dataset, dataset } from "../dataset.ts";
import type { SegmentedPicture, Split } from "../picture-set.ts";
import { createDraw, type Draw } from "../random-draws.ts";
import { coverage, type Distance, disc, square, triangle } from "./canvas.ts";

/** Class k of the masks is number k - 1 here; 0 is the ground. */
export const SHAPE_CLASSES = ["discs", "squares", "triangles"] as const;
/** Side of a picture. */
export const SHAPE_SIZE = 64;

const SPLITS = {
  train: { first: 0, count: 1000 },
  val: { first: 1_000_000, count: 100 },
  test: { first: 2_000_000, count: 200 },
} as const satisfies Record<Split, unknown>;

interface Placed {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

const TRIES = 30;

/** A free place for one more shape; undefined when none was found. */
function place(draw: Draw, others: readonly Placed[]): Placed | undefined {
  for (let i = 0; i < TRIES; i++) {
    const radius = draw.uniform(7, 11);
    const margin = radius + 1;
    const [x, y] = [draw.uniform(margin, SHAPE_SIZE - margin), draw.uniform(margin, SHAPE_SIZE - margin)];
    if (others.every((o) => Math.hypot(o.x - x, o.y - y) > o.radius + radius + 1)) return { x, y, radius };
  }
  return undefined;
}

/** The outline of a class within a circle of the given radius. */
function outline(kind: number, { x, y, radius }: Placed, angle: number): Distance {
  if (kind === 0) return disc(x, y, 0.85 * radius);
  if (kind === 1) return square(x, y, 0.7 * radius, angle);
  return triangle(x, y, 0.5 * radius, angle);
}

/** Picture `index` of a seed: two to four shapes that do not touch, under uneven light and noise. */
export function shapePicture(index: number, seed: Seed = 0): SegmentedPicture {
  const draw = createDraw(seed, index, 0, "sdseg shapes");
  const size = SHAPE_SIZE;
  const grain = fillNormal(new Float32Array(size * size), { seed, sample: index, purpose: "sdseg shapes" });
  const slope = [draw.uniform(-0.2, 0.2), draw.uniform(-0.2, 0.2)] as const;
  const data = grain.map(
    (v, i) =>
      0.4 + slope[0] * ((i % size) / size - 0.5) + slope[1] * (Math.floor(i / size) / size - 0.5) + 0.12 * v,
  );
  const labels = new Int32Array(size * size);
  const placed: Placed[] = [];
  for (let wanted = 2 + draw.integer(3); wanted > 0; wanted--) {
    const spot = place(draw, placed);
    const [kind, angle] = [draw.integer(SHAPE_CLASSES.length), draw.uniform(0, 2 * Math.PI)];
    if (!spot) continue;
    placed.push(spot);
    coverage(outline(kind, spot, angle), size, size).forEach((covered, i) => {
      data[i]! += 0.3 * covered;
      if (covered > 0.5) labels[i] = kind + 1;
    });
  }
  return {
    name: `shapes-${index}`,
    image: blurPicture({ width: size, height: size, channels: 1, data }, 0.6),
    labels,
  };
}

/**
 * A split of the shapes: 1000, 100 and 200 pictures. They count as slices of one volume, so that a class that is not in
 * a picture does not decide its Dice there.
 */
export function shapes(split: Split, count: number = SPLITS[split].count): Dataset<SegmentedPicture> {
  const { first } = SPLITS[split];
  return dataset(count, (i) => ({ ...shapePicture(first + i), volume: `shapes ${split}` }));
}

/**
 * Worlds of known factors for decomposition and disentanglement: tetrominoes, one lit ball, single sprites. Every
 * sample brings the picture, its factors as class numbers, and its masks.
 */
import { ArgumentError } from "../../errors.ts";
import type { Seed } from "../../tensor/index.ts";
import { type Dataset, dataset } from "../dataset.ts";
import { createDraw } from "../random-draws.ts";
import { coverage, type Distance, ellipse, heart, paint, square } from "./canvas.ts";
import { type Colour, mixColours, scaleColour } from "./materials.ts";

/** A picture with the factors that it was made of. */
export interface FactorSample {
  /** // [S, S, 3], in [0, 1] */
  readonly image: Float32Array;
  /** One class number per factor. */
  readonly factors: Int32Array;
  /** One mask per object, of 0 and 1. // [S, S] each */
  readonly masks: readonly Uint8Array[];
}

/** Options of `openBlocks`, `openLitBalls` and `openSprites`. */
export interface FactorOptions {
  readonly seed: Seed;
  readonly count: number;
  /** Picture side in pixels. */
  readonly size?: number;
}

type Cells = readonly (readonly [x: number, y: number])[];

/** The 19 fixed tetrominoes: every turn of I, O, T, S, Z, J, L that differs. */
export const TETROMINOES: readonly Cells[] = (() => {
  const bases = ["####", "##/##", "###/.#.", ".##/##.", "##./.##", "#../###", "..#/###"];
  const found = new Map<string, Cells>();
  for (const base of bases) {
    let cells = base
      .split("/")
      .flatMap((row, y) => [...row].flatMap((c, x) => (c === "#" ? [[x, y] as const] : [])));
    for (let turn = 0; turn < 4; turn++) {
      const [left, top] = [Math.min(...cells.map(([x]) => x)), Math.min(...cells.map(([, y]) => y))];
      const placed = cells
        .map(([x, y]) => [x - left, y - top] as const)
        .sort((a, b) => a[1] - b[1] || a[0] - b[0]);
      found.set(placed.join(";"), placed);
      cells = cells.map(([x, y]) => [-y, x] as const);
    }
  }
  return [...found.values()];
})();

/** Colours of blocks. */
export const BLOCK_COLOURS: readonly Colour[] = [
  [1, 0.1, 0.1],
  [0.1, 1, 0.1],
  [0.15, 0.25, 1],
  [1, 1, 0.1],
  [1, 0.1, 1],
  [0.1, 1, 1],
];

/** Tetrominoes on an 8 x 8 grid of cells, black ground, without overlap, in the given colours. Factors: shape, colour, x, y of each. */
export function openBlocks({
  seed,
  count,
  size = 16,
  objects = 3,
  colours = BLOCK_COLOURS,
}: FactorOptions & {
  readonly objects?: number;
  readonly colours?: readonly Colour[];
}): Dataset<FactorSample> {
  const cell = size / 8;
  if (!Number.isSafeInteger(cell) || cell < 1)
    throw new ArgumentError(`openBlocks: size must be a multiple of 8, got ${size}`);
  if (!(Number.isSafeInteger(objects) && objects >= 1 && objects <= 6))
    throw new ArgumentError(`openBlocks: 1 to 6 objects, got ${objects}`);
  return dataset(count, (index) => {
    const draw = createDraw(seed, index, 0, "blocks");
    const taken = new Set<number>();
    const [masks, factors]: [Uint8Array[], number[]] = [[], []];
    const image = new Float32Array(3 * size * size);
    while (masks.length < objects) {
      const [shape, colour] = [draw.integer(TETROMINOES.length), draw.integer(colours.length)];
      const cells = TETROMINOES[shape]!;
      const [w, h] = [Math.max(...cells.map(([x]) => x)) + 1, Math.max(...cells.map(([, y]) => y)) + 1];
      const [left, top] = [draw.integer(9 - w), draw.integer(9 - h)];
      const places = cells.map(([x, y]) => (top + y) * 8 + left + x);
      if (places.some((p) => taken.has(p))) continue;
      for (const p of places) taken.add(p);
      const mask = new Uint8Array(size * size);
      for (let at = 0; at < mask.length; at++) {
        const place = Math.floor(Math.floor(at / size) / cell) * 8 + Math.floor((at % size) / cell);
        if (!places.includes(place)) continue;
        mask[at] = 1;
        image.set(colours[colour]!, 3 * at);
      }
      masks.push(mask);
      factors.push(shape, colour, left, top);
    }
    return { image, masks, factors: Int32Array.from(factors) };
  });
}

/** Factors of the lit ball, ten levels each. */
export const LIT_BALL_FACTORS = ["light azimuth", "light intensity", "hue", "ball x", "horizon"] as const;
const LEVELS = 10;

/** Fully saturated colour of a hue in [0, 1). */
function hueColour(hue: number): Colour {
  const channel = (shift: number): number =>
    Math.min(1, Math.max(0, Math.abs(((hue * 6 + shift) % 6) - 3) - 1));
  return [channel(0), channel(4), channel(2)];
}

/** One Lambert ball on a plane under a sky, with a soft shadow; five global factors of ten levels. */
export function openLitBalls({ seed, count, size = 32 }: FactorOptions): Dataset<FactorSample> {
  return dataset(count, (index) => {
    const draw = createDraw(seed, index, 0, "lit ball");
    const factors = Int32Array.from(LIT_BALL_FACTORS, () => draw.integer(LEVELS));
    return { factors, ...renderLitBall(factors, size) };
  });
}

/** The picture of five factor levels, each 0 to 9. */
export function renderLitBall(factors: ArrayLike<number>, size = 32): Omit<FactorSample, "factors"> {
  const share = (k: number): number => factors[k]! / (LEVELS - 1);
  const azimuth = (-0.8 + 1.6 * share(0)) * (Math.PI / 2);
  const intensity = 0.3 + 0.7 * share(1);
  const colour = mixColours(hueColour((factors[2]! / LEVELS) % 1), [1, 1, 1], 0.15);
  const radius = 0.2 * size;
  const [cx, horizon] = [(0.3 + 0.4 * share(3)) * size, Math.round((0.3 + 0.3 * share(4)) * size)];
  const cy = horizon + 0.18 * size;
  const light = [Math.sin(azimuth) * 0.8, -0.6, Math.cos(azimuth) * 0.8] as const;
  const norm = Math.hypot(...light);
  const image = new Float32Array(3 * size * size);
  for (let at = 0; at < size * size; at++) {
    const y = Math.floor(at / size);
    const sky = mixColours([0.25, 0.45, 0.8], [0.8, 0.85, 0.95], y / Math.max(1, horizon));
    const plane = scaleColour([0.55, 0.5, 0.42], 0.5 + 0.5 * intensity);
    image.set(y < horizon ? sky : plane, 3 * at);
  }
  const [sx, sy] = [cx - light[0] * radius * 1.1, cy + radius * 0.95];
  const shadow = ellipse(sx, sy, radius * 1.15, radius * 0.35);
  for (let at = 0; at < size * size; at++) {
    if (Math.floor(at / size) < horizon) continue;
    const away = shadow((at % size) + 0.5, Math.floor(at / size) + 0.5) / (0.25 * radius);
    const dark = 0.6 * Math.min(1, Math.max(0, 0.5 - 0.5 * away));
    for (let c = 0; c < 3; c++) image[3 * at + c]! *= 1 - dark;
  }
  const ball = coverage((x, y) => Math.hypot(x - cx, y - cy) - radius, size, size);
  paint(
    image,
    ball,
    (x, y) => {
      const [nx, ny] = [(x + 0.5 - cx) / radius, (y + 0.5 - cy) / radius];
      const nz = Math.sqrt(Math.max(0, 1 - nx * nx - ny * ny));
      const lambert = Math.max(0, (nx * light[0] + ny * light[1] + nz * light[2]) / norm);
      return scaleColour(colour, 0.15 + 0.85 * intensity * lambert);
    },
    size,
  );
  return { image, masks: [Uint8Array.from(ball, (a) => (a >= 0.5 ? 1 : 0))] };
}

/** Factors of the sprites: shape 3, scale 6, turn 40, x 32, y 32 levels, as dSprites has them. */
export const SPRITE_LEVELS = [3, 6, 40, 32, 32] as const;

/** One white sprite on black: square, ellipse or heart. */
export function openSprites({ seed, count, size = 64 }: FactorOptions): Dataset<FactorSample> {
  return dataset(count, (index) => {
    const draw = createDraw(seed, index, 0, "sprites");
    const factors = Int32Array.from(SPRITE_LEVELS, (n) => draw.integer(n));
    return { factors, ...renderSprite(factors, size) };
  });
}

/** The picture of five factor levels. */
export function renderSprite(factors: ArrayLike<number>, size = 64): Omit<FactorSample, "factors"> {
  const [shape, scale, turn, x, y] = Array.from(factors) as [number, number, number, number, number];
  const r = size * (0.07 + 0.012 * scale);
  const angle = (turn / SPRITE_LEVELS[2]) * 2 * Math.PI;
  const place = (level: number): number => size * (0.2 + (0.6 * level) / (SPRITE_LEVELS[3] - 1));
  const [cx, cy] = [place(x), place(y)];
  const outlines: readonly Distance[] = [
    square(cx, cy, r, angle),
    ellipse(cx, cy, 1.3 * r, 0.8 * r, angle),
    heart(cx, cy, 1.3 * r, angle),
  ];
  const mask = coverage(outlines[shape]!, size, size);
  const image = new Float32Array(3 * size * size);
  paint(image, mask, [1, 1, 1], size);
  return { image, masks: [Uint8Array.from(mask, (a) => (a >= 0.5 ? 1 : 0))] };
}

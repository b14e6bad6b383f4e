/** Pictures made on the spot: one coloured disc, square or triangle each, on a dark ground. */
import { fillUniform, type Seed } from "../../tensor/index.ts";

export const SIZE = 16;

/** How far a point is outside a shape (negative: inside), in pixels; the shapes have radius `r` around the origin. */
const DISTANCES = [
  (x: number, y: number, r: number): number => Math.hypot(x, y) - r, // disc
  (x: number, y: number, r: number): number => Math.max(Math.abs(x), Math.abs(y)) - 0.85 * r, // square
  (x: number, y: number, r: number): number =>
    Math.max(0.894 * Math.abs(x) + 0.447 * y - 0.45 * r, -y - 0.75 * r), // triangle
] as const;

/** Saturated colour of a hue in [0, 1), channels in [0, 1]. */
const hue = (h: number, channel: number): number =>
  Math.min(1, Math.max(0, Math.abs(((h + channel / 3) % 1) * 6 - 3) - 1));

/**
 * `count` pictures [3, 16, 16] in [-1, 1], the `index`-th of a seed always being the same.
 * Returns them one after the other: [count, 3, 16, 16].
 */
export function shapes(seed: Seed, firstIndex: number, count: number): Float32Array {
  const out = new Float32Array(count * 3 * SIZE * SIZE);
  const u = new Float32Array(8);
  for (let i = 0; i < count; i++) {
    fillUniform(u, { seed, sample: firstIndex + i, purpose: "shape" });
    const distance = DISTANCES[Math.min(2, Math.floor(u[0]! * 3))]!;
    const r = 3 + 2.5 * u[1]!;
    const [cx, cy] = [SIZE / 2 + (u[2]! - 0.5) * 5, SIZE / 2 + (u[3]! - 0.5) * 5];
    for (let y = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++) {
        const cover = Math.min(1, Math.max(0, 0.5 - distance(x + 0.5 - cx, y + 0.5 - cy, r)));
        for (let c = 0; c < 3; c++) {
          const colour = 0.1 + cover * (hue(u[4]!, c) * 0.85);
          out[((i * 3 + c) * SIZE + y) * SIZE + x] = 2 * colour - 1;
        }
      }
    }
  }
  return out;
}

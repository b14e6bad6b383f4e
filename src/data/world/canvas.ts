/** A flat picture onto which shapes are painted with smooth edges, by their signed distance. */
import type { Colour } from "./materials.ts";

/** Signed distance in pixels, negative inside. */
export type Distance = (x: number, y: number) => number;

/** A disc of radius r. */
export const disc =
  (cx: number, cy: number, r: number): Distance =>
  (x, y) =>
    Math.hypot(x - cx, y - cy) - r;

/** Square of half side r, turned by an angle. */
export const square =
  (cx: number, cy: number, r: number, angle = 0): Distance =>
  (x, y) => {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const [u, v] = [Math.abs(c * (x - cx) + s * (y - cy)) - r, Math.abs(c * (y - cy) - s * (x - cx)) - r];
    return Math.hypot(Math.max(u, 0), Math.max(v, 0)) + Math.min(Math.max(u, v), 0);
  };

/** Triangle with equal sides around its centre, tip up, turned by an angle; r is the radius of its inner circle. */
export const triangle =
  (cx: number, cy: number, r: number, angle = 0): Distance =>
  (x, y) => {
    let most = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < 3; k++) {
      const turn = angle + Math.PI / 2 + (k * 2 * Math.PI) / 3;
      most = Math.max(most, Math.cos(turn) * (x - cx) + Math.sin(turn) * (y - cy) - r);
    }
    return most;
  };

/** An ellipse of half-axes rx and ry, turned by an angle in radians. Distances are exact on its edge only. */
export const ellipse =
  (cx: number, cy: number, rx: number, ry: number, angle = 0): Distance =>
  (x, y) => {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const [u, v] = [(c * (x - cx) + s * (y - cy)) / rx, (c * (y - cy) - s * (x - cx)) / ry];
    return (Math.hypot(u, v) - 1) * Math.min(rx, ry);
  };

/** The rounded stroke between two points. */
export const stroke =
  (ax: number, ay: number, bx: number, by: number, r: number): Distance =>
  (x, y) => {
    const [dx, dy] = [bx - ax, by - ay];
    const along = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(x - ax - along * dx, y - ay - along * dy) - r;
  };

/** Whichever shape is nearest. */
export const union =
  (...parts: readonly Distance[]): Distance =>
  (x, y) => {
    let least = Number.POSITIVE_INFINITY;
    for (const part of parts) least = Math.min(least, part(x, y));
    return least;
  };

/** A heart about 2 r high, turned by an angle: a square on its corner with a disc on each upper side. */
export const heart = (cx: number, cy: number, r: number, angle = 0): Distance => {
  const half = 0.56 * r;
  const lobe = (side: 1 | -1): Distance => {
    const turn = angle - Math.PI / 2 + (side * Math.PI) / 4;
    return disc(cx + half * Math.cos(turn), cy + half * Math.sin(turn), half);
  };
  return union(square(cx, cy, half, angle + Math.PI / 4), lobe(1), lobe(-1));
};

/** How much of each pixel a shape covers, 0 to 1. // [H, W] */
export function coverage(shape: Distance, width: number, height: number): Float32Array {
  const out = new Float32Array(width * height);
  for (let j = 0; j < height; j++)
    for (let i = 0; i < width; i++)
      out[j * width + i] = Math.min(1, Math.max(0, 0.5 - shape(i + 0.5, j + 0.5)));
  return out;
}

/** Paints a colour, or a colour per pixel, onto a picture by coverage. // image [H, W, 3] */
export function paint(
  image: Float32Array,
  mask: Float32Array,
  colour: Colour | ((x: number, y: number) => Colour),
  width: number,
): void {
  for (let at = 0; at < mask.length; at++) {
    const alpha = mask[at]!;
    if (alpha === 0) continue;
    const rgb = typeof colour === "function" ? colour(at % width, Math.floor(at / width)) : colour;
    for (let c = 0; c < 3; c++)
      image[3 * at + c] = image[3 * at + c]! * (1 - alpha) + Math.min(1, Math.max(0, rgb[c]!)) * alpha;
  }
}

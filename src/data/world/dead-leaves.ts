/**
 * Dead leaves (Matheron 1975; Lee, Mumford and Huang 2001): flat shapes of all sizes that cover each other. Such pictures
 * have edges at every scale and the spectrum of photographs, so what learns from them works on photographs (Achddou et
 * al. 2021), and they have no owner. Leaves are textured, have natural colours and are drawn with soft edges.
 */
import type { Seed } from "../../tensor/index.ts";
import type { FloatPicture } from "../augment/sample.ts";
import { createDraw, type Draw } from "../random-draws.ts";

type Rgb3 = readonly [number, number, number];

/** A colour whose channels go together, as in photographs: mostly gray, sometimes vivid. */
function drawColour(draw: Draw): Rgb3 {
  const light = draw.uniform() ** 0.9;
  const vivid = draw.chance(0.2) ? 0.3 : 0.08;
  const [warm, green] = [vivid * draw.normal(), 0.5 * vivid * draw.normal()];
  return [light + warm, light + green, light - warm];
}

/** One shape: a place, a form, a colour and what is drawn on it. */
interface Leaf {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  readonly aspect: number;
  readonly cos: number;
  readonly sin: number;
  /** 2: an ellipse; large: a rectangle. */
  readonly power: number;
  readonly colour: Rgb3;
  /** Slopes of the brightness over the leaf. */
  readonly slope: readonly [number, number];
  /** A wave over the leaf: strength, and turns per pixel along and across. */
  readonly wave: readonly [strength: number, u: number, v: number];
  /** Strength of grain. */
  readonly grain: number;
}

function drawLeaf(draw: Draw, size: number): Leaf {
  // Radii with density r^-3 between the bounds make the picture look the same at every scale.
  const [least, most] = [2, 0.5 * size];
  const u = draw.uniform();
  const radius = 1 / Math.sqrt(u / (most * most) + (1 - u) / (least * least));
  const angle = draw.uniform(0, Math.PI);
  const pitch = draw.uniform(0.04, 0.35);
  const direction = draw.uniform(0, Math.PI);
  const textured = draw.chance(0.4);
  return {
    x: draw.uniform(-0.1, 1.1) * size,
    y: draw.uniform(-0.1, 1.1) * size,
    radius,
    aspect: Math.exp(draw.uniform(-0.7, 0.7)),
    cos: Math.cos(angle),
    sin: Math.sin(angle),
    power: draw.pick([2, 2, 2.6, 12]),
    colour: drawColour(draw),
    slope: [0.25 * draw.normal(), 0.25 * draw.normal()],
    wave: [
      textured ? draw.uniform(0.02, 0.15) : 0,
      2 * Math.PI * pitch * Math.cos(direction),
      2 * Math.PI * pitch * Math.sin(direction),
    ],
    grain: draw.chance(0.25) ? draw.uniform(0.01, 0.08) : 0,
  };
}

/** Draws a leaf over what is there. // data [size, size, 3] */
function cover(data: Float32Array, size: number, leaf: Leaf, draw: Draw): void {
  const { x, y, radius, aspect, cos, sin, power, colour, slope, wave, grain } = leaf;
  const [a, b] = [radius * aspect, radius / aspect];
  const reach = Math.hypot(a, b) + 1;
  const [left, right] = [Math.max(0, Math.floor(x - reach)), Math.min(size - 1, Math.ceil(x + reach))];
  const [top, bottom] = [Math.max(0, Math.floor(y - reach)), Math.min(size - 1, Math.ceil(y + reach))];
  const thin = Math.min(a, b);
  for (let py = top; py <= bottom; py++)
    for (let px = left; px <= right; px++) {
      const [dx, dy] = [px + 0.5 - x, py + 0.5 - y];
      const [u, v] = [(cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b];
      const far = (Math.abs(u) ** power + Math.abs(v) ** power) ** (1 / power);
      const opacity = Math.min(1, Math.max(0, (1 - far) * thin + 0.5)); // about one pixel of soft edge
      if (opacity === 0) continue;
      const light =
        slope[0] * u +
        slope[1] * v +
        (wave[0] > 0 ? wave[0] * Math.sin(wave[1] * dx + wave[2] * dy) : 0) +
        (grain > 0 ? grain * draw.normal() : 0);
      const at = 3 * (py * size + px);
      for (let c = 0; c < 3; c++) data[at + c]! += opacity * (colour[c]! + light - data[at + c]!);
    }
}

/** Leaves per pixel: by then little of the ground is seen. */
const DENSITY = 0.06;

/** Picture `index` of a seed, [size, size, 3] in [0, 1]. */
export function deadLeaves(
  index: number,
  { seed = 0, size = 64 }: { seed?: Seed; size?: number } = {},
): FloatPicture {
  const draw = createDraw(seed, index, 0, "dead leaves");
  const data = new Float32Array(3 * size * size);
  const ground = drawColour(draw);
  for (let i = 0; i < data.length; i++) data[i] = ground[i % 3]!;
  const count = Math.round(DENSITY * size * size * draw.uniform(0.3, 1));
  for (let k = 0; k < count; k++) cover(data, size, drawLeaf(draw, size), draw);
  for (let i = 0; i < data.length; i++) data[i] = Math.min(1, Math.max(0, data[i]!));
  return { width: size, height: size, channels: 3, data };
}

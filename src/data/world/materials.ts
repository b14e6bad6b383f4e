/** Colours and textures of the scene world. Colours are RGB in [0, 1]. */
import type { Draw } from "../random-draws.ts";

/** Red, green and blue in 0 to 1. */
export type Colour = readonly [r: number, g: number, b: number];

/** Colours that have a name, for objects, surfaces and captions. */
export const COLOURS = {
  red: [0.85, 0.15, 0.15],
  orange: [0.95, 0.55, 0.1],
  yellow: [0.95, 0.85, 0.2],
  green: [0.2, 0.65, 0.25],
  teal: [0.15, 0.6, 0.6],
  blue: [0.2, 0.35, 0.85],
  purple: [0.55, 0.25, 0.7],
  pink: [0.95, 0.55, 0.7],
  brown: [0.5, 0.32, 0.18],
  gray: [0.55, 0.55, 0.55],
  white: [0.93, 0.93, 0.9],
  black: [0.12, 0.12, 0.14],
} as const satisfies Record<string, Colour>;

/** Name of a colour. */
export type ColourName = keyof typeof COLOURS;
/** Names of all colours. */
export const COLOUR_NAMES = Object.keys(COLOURS) as ColourName[];

/** Patterns of surfaces. */
export const PATTERNS = ["solid", "checker", "stripes", "bands", "blobs", "ramp"] as const;

/** A pattern of two colours over surface coordinates in metres. */
export interface Texture {
  readonly pattern: (typeof PATTERNS)[number];
  /** Metres until the pattern comes again. */
  readonly period: number;
  readonly colours: readonly [Colour, Colour];
}

/** From a (t = 0) to b (t = 1). */
export const mixColours = (a: Colour, b: Colour, t: number): Colour => [
  a[0] + (b[0] - a[0]) * t,
  a[1] + (b[1] - a[1]) * t,
  a[2] + (b[2] - a[2]) * t,
];
/** Every channel times s. */
export const scaleColour = (a: Colour, s: number): Colour => [a[0] * s, a[1] * s, a[2] * s];

/** How much of the second colour shows at (u, v), 0 to 1. */
export function patternAt({ pattern, period }: Texture, u: number, v: number): number {
  const [a, b] = [u / period, v / period];
  switch (pattern) {
    case "solid":
      return 0;
    case "checker":
      return (Math.floor(a) + Math.floor(b)) & 1;
    case "stripes":
      return Math.floor(2 * a) & 1;
    case "bands":
      return Math.floor(2 * b) & 1;
    case "blobs":
      return Math.sin(2 * Math.PI * a) * Math.sin(2 * Math.PI * b) > 0 ? 1 : 0;
    case "ramp":
      return Math.min(1, Math.max(0, 0.5 + 0.5 * Math.sin(Math.PI * (a + b)) * 1.6));
  }
}

/** A texture in a named colour; its second colour is a darker or mixed one, so that the name stays true. */
export function drawTexture(draw: Draw, colour: ColourName, [low, high]: readonly [number, number]): Texture {
  const first = scaleColour(COLOURS[colour], draw.uniform(0.85, 1.05));
  const other = COLOURS[draw.pick(COLOUR_NAMES)];
  const second = mixColours(scaleColour(first, draw.uniform(0.55, 0.8)), other, draw.uniform(0, 0.25));
  return { pattern: draw.pick(PATTERNS), period: draw.uniform(low, high), colours: [first, second] };
}

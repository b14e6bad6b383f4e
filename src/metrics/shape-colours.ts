/**
 * An exact judge of pictures of the shape world: by the colours of their pixels alone, without a network. It wants the colours
 * of the caption, no others, crisp ones, and large things.
 */
import {
  type Colour,
  floorColour,
  GROUNDS,
  type Ground,
  SHAPE_COLOURS,
  SHAPES,
  type ShapeColour,
  type ShapeName,
} from "../data/index.ts";
import { ArgumentError } from "../errors.ts";

/** What a caption asks for. */
export interface AskedShapes {
  readonly shapes: readonly { readonly name: ShapeName; readonly colour: ShapeColour }[];
  readonly ground: Ground;
}

const THING = new RegExp(`\\b(${Object.keys(SHAPE_COLOURS).join("|")}) (${SHAPES.join("|")})\\b`, "g");
const GROUND = new RegExp(`\\bon (${Object.keys(GROUNDS).join("|")})\\b`);

/** The things and the ground of a caption such as `a red person and a blue square on teal`. @throws ArgumentError for another text */
export function askedShapes(caption: string): AskedShapes {
  const text = caption.toLowerCase();
  const shapes = [...text.matchAll(THING)].map(([, colour, name]) => ({
    ...{ colour: colour as ShapeColour, name: name as ShapeName },
  }));
  const ground = GROUND.exec(text)?.[1] as Ground | undefined;
  if (shapes.length > 0 && ground) return { shapes, ground };
  throw new ArgumentError(
    `"${caption}": expected a caption of the shape world, such as "a red person and a blue square on teal"`,
  );
}

/** Shades that a thing has from its light top to its dark foot. */
const SHADES = [0.7, 0.8, 0.9, 1, 1.1];

interface Entry {
  readonly name: ShapeColour | Ground;
  readonly colour: Colour;
}

const PALETTE: readonly Entry[] = [
  ...Object.entries(SHAPE_COLOURS).flatMap(([name, [r, g, b]]) =>
    SHADES.map((s): Entry => ({ name: name as ShapeColour, colour: [r * s, g * s, b * s] })),
  ),
  ...Object.entries(GROUNDS).flatMap(([name, wall]) =>
    [wall, floorColour(wall)].map((colour): Entry => ({ name: name as Ground, colour })),
  ),
];

/** Share of the pixels that each colour is nearest to, and how far pixels are from theirs on average. */
export function colourShares(picture: Float32Array): {
  readonly shares: Readonly<Record<ShapeColour | Ground, number>>;
  readonly distance: number;
} {
  const pixels = picture.length / 3;
  const shares: Record<string, number> = Object.fromEntries(PALETTE.map(({ name }) => [name, 0]));
  let distance = 0;
  for (let at = 0; at < pixels; at++) {
    let [least, nearest] = [Number.POSITIVE_INFINITY, PALETTE[0]!.name];
    for (const { name, colour } of PALETTE) {
      let sum = 0;
      for (let c = 0; c < 3; c++) sum += ((picture[c * pixels + at]! + 1) / 2 - colour[c]!) ** 2;
      if (sum < least) [least, nearest] = [sum, name];
    }
    shares[nearest]! += 1 / pixels;
    distance += Math.sqrt(least) / pixels;
  }
  return { shares: shares as Record<ShapeColour | Ground, number>, distance };
}

/**
 * Score of a picture [3, H, W] in [-1, 1] for its caption, about -3 to 4: 2 for all wanted colours (from 4 % of the pixels on),
 * -3 for each share of others, the share of the ground, -2 for that of other grounds, -4 for the mean distance to the palette,
 * 1.5 for the share of wanted things, up to 35 %.
 */
export function colourScore(picture: Float32Array, { shapes, ground }: AskedShapes): number {
  const { shares, distance } = colourShares(picture);
  const colours = [...new Set(shapes.map(({ colour }) => colour))];
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const wanted = colours.map((name) => shares[name]);
  const others = Object.keys(SHAPE_COLOURS).filter((name) => !colours.includes(name as ShapeColour));
  const grounds = Object.keys(GROUNDS).filter((name) => name !== ground);
  const share = (names: readonly string[]): number => sum(names.map((name) => shares[name as Ground]));
  return (
    2 * (sum(wanted.map((area) => Math.min(area / 0.04, 1))) / wanted.length) -
    3 * share(others) +
    shares[ground] -
    2 * share(grounds) -
    4 * distance +
    1.5 * Math.min(sum(wanted), 0.35)
  );
}

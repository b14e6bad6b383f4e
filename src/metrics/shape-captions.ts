/** How well pictures of the shape world agree with their captions, by the shipped network of five answers (`shapes-features`). */
import { GROUNDS, SHAPE_COLOURS, SHAPES, type ShapeScene } from "../data/index.ts";
import type { ExtractedFeatures } from "./feature-network.ts";

/** Shares of pictures that are as their captions say. */
export interface CaptionAgreement {
  /** Everything: the ground, and of each thing shape and colour. */
  readonly all: number;
  readonly ground: number;
  /** How many things there are. */
  readonly count: number;
  /** The shapes of the things, in any order. */
  readonly shapes: number;
  /** Their colours, in any order. */
  readonly colours: number;
  /** One number a picture, 1 where everything is right, for paired comparisons. // [N] */
  readonly right: readonly number[];
}

const NAMES = [
  Object.keys(GROUNDS),
  SHAPES,
  Object.keys(SHAPE_COLOURS),
  SHAPES,
  Object.keys(SHAPE_COLOURS),
] as const;

/** Answers of picture i as words; undefined stands for "none". Heads: ground, near shape and colour, far shape and colour. */
function answers({ probabilities, classes, heads }: ExtractedFeatures, i: number): (string | undefined)[] {
  let at = i * classes;
  return heads.map((n, k) => {
    const row = probabilities.subarray(at, (at += n));
    return NAMES[k]![row.indexOf(Math.max(...row))];
  });
}

const sorted = (words: readonly (string | undefined)[]): string => words.filter(Boolean).sort().join();

/**
 * Compares pictures with the scenes of their captions. Which of two things is near is not asked: a caption does not say it.
 * `found` is what `extractFeatures` gives for pictures [N, 3, 32, 32] in [-1, 1].
 */
export function captionAgreement(found: ExtractedFeatures, scenes: readonly ShapeScene[]): CaptionAgreement {
  const rows = scenes.map(({ ground, shapes }, i) => {
    const [seen, near, nearColour, far, farColour] = answers(found, i);
    const things = [
      [nearColour, near],
      [farColour, far],
    ].filter(([, shape]) => shape !== undefined);
    const right = {
      ground: seen === ground,
      count: things.length === shapes.length,
      shapes: sorted(things.map(([, shape]) => shape)) === sorted(shapes.map(({ name }) => name)),
      colours: sorted(things.map(([colour]) => colour)) === sorted(shapes.map(({ colour }) => colour)),
    };
    const pairs = sorted(things.map((thing) => thing.join(" ")));
    const all = right.ground && pairs === sorted(shapes.map(({ colour, name }) => `${colour} ${name}`));
    return { ...right, all };
  });
  const share = (key: keyof (typeof rows)[number]): number =>
    rows.filter((row) => row[key]).length / rows.length;
  return {
    all: share("all"),
    ground: share("ground"),
    count: share("count"),
    shapes: share("shapes"),
    colours: share("colours"),
    right: rows.map(({ all }) => Number(all)),
  };
}

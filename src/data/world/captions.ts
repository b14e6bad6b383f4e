/** What a scene is, in plain English, and the words of that English as numbers. */
import { ArgumentError } from "../../errors.ts";
import type { Seed } from "../../tensor/index.ts";
import { createDraw } from "../random-draws.ts";
import { COLOUR_NAMES } from "./materials.ts";
import { OBJECT_CLASSES, type SceneObject } from "./objects.ts";
import type { PathKind } from "./paths.ts";
import type { Scene } from "./scene.ts";

const COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"] as const;

/** `a red` or `an orange`. */
export const withArticle = (words: string): string => `${/^[aeiou]/.test(words) ? "an" : "a"} ${words}`;

const phrase = ({ colour, className }: SceneObject): string => withArticle(`${colour} ${className}`);

/** `a red sphere, a blue cube and a green person`. */
function listing(parts: readonly string[]): string {
  if (parts.length < 2) return parts.join("");
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** All objects and the floor, the nearest to the entrance first: the longest and fullest caption. */
export function describeScene({ objects, room }: Scene): string {
  const nearest = [...objects].sort((a, b) => a.centre[2] - b.centre[2]);
  const things = objects.length === 0 ? "nothing" : listing(nearest.map(phrase));
  return `${things} on ${withArticle(room.floorColour)} floor, ${room.wallColour} walls`;
}

/** One of several true sentences, short to full, as a training set needs; `path` adds how the camera moves. */
export function captionScene(scene: Scene, seed: Seed, index: number, path?: PathKind): string {
  const draw = createDraw(seed, index, 0, "world caption");
  const { objects, room } = scene;
  const count = COUNTS[objects.length] ?? "many";
  const things = `${count} thing${objects.length === 1 ? "" : "s"}`;
  const one = objects.length > 0 ? phrase(draw.pick(objects)) : "nothing";
  const sentences = [
    `${one} on ${withArticle(room.floorColour)} floor`,
    `${withArticle(room.wallColour)} room with ${things}`,
    `${withArticle(room.wallColour)} room with ${one}`,
    describeScene(scene),
  ];
  const sentence = draw.pick(sentences);
  return path && draw.chance(0.5) ? `${sentence}, camera ${path}` : sentence;
}

const WORDS = [
  ...[
    "a",
    "an",
    "and",
    "on",
    "with",
    "floor",
    "walls",
    "room",
    "thing",
    "things",
    "nothing",
    "many",
    "camera",
    ",",
  ],
  ...["person", "circle", "square", "triangle", ...OBJECT_CLASSES],
  ...COUNTS,
  ...COLOUR_NAMES,
  ...["wander", "orbit", "pan", "walk", "truck"],
];

/** Number 0 fills up, 1 stands for a word that is not known. */
export const VOCABULARY: readonly string[] = ["<pad>", "<unknown>", ...new Set(WORDS)];
const NUMBER_OF = new Map(VOCABULARY.map((word, i) => [word, i]));

/** Words and commas of a caption as numbers, filled up to `length`. @throws ArgumentError when it is too long. */
export function encodeCaption(caption: string, length: number): Int32Array {
  const words = caption.toLowerCase().match(/[a-z]+|,/g) ?? [];
  if (words.length > length)
    throw new ArgumentError(
      `encodeCaption: ${words.length} words and commas do not fit in ${length}: "${caption}"`,
    );
  const out = new Int32Array(length);
  words.forEach((word, i) => {
    out[i] = NUMBER_OF.get(word) ?? 1;
  });
  return out;
}

/** The words of numbers, fill left out. */
export function decodeCaption(numbers: ArrayLike<number>): string {
  const words = Array.from(numbers, (n) => VOCABULARY[n] ?? "<unknown>").filter((word) => word !== "<pad>");
  return words.join(" ").replaceAll(" ,", ",");
}

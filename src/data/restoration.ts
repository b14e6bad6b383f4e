/** Pairs of a degraded picture and the truth: made on the spot, the same for the same seed, or read from folders. */
import { basename, extname, relative } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Picture } from "../io/picture-codec.ts";
import type { Seed } from "../tensor/index.ts";
import { downUp, gaussianNoise, jpeg, motionBlur, rain } from "./augment/degrade.ts";
import { bandingNoise, correlatedNoise, impulseNoise, lowLight } from "./augment/noise.ts";
import { type Augmentation, type FloatPicture, inOrder, toFloatPicture } from "./augment/sample.ts";
import { type Dataset, dataset } from "./dataset.ts";
import { listPictures, readPictureFile } from "./folders.ts";
import { createDraw } from "./random-draws.ts";

/** A degraded picture in [0, 1] (unclipped noise may leave it) and what it was before. */
export interface RestorationPair {
  readonly name: string;
  readonly clean: FloatPicture;
  readonly degraded: FloatPicture;
}

/** What can happen to a picture. */
export interface Degradation {
  /** One line. */
  readonly about: string;
  readonly step: Augmentation;
}

const level = (v: number): number => v / 255;
/** Eight levels of noise on top, as every sensor has. */
const sensor = gaussianNoise([level(8), level(8)]);

/** Degradations by name. Noise of a known strength is `noiseOf`. */
export const DEGRADATIONS = {
  noise: {
    about: "white noise of sigma 5 to 50 of 255, not cut off",
    step: gaussianNoise([level(5), level(50)], { clip: false }),
  },
  "correlated-noise": {
    about: "noise of 10 to 40 of 255, alike in neighbours and colours, stronger where it is bright",
    step: correlatedNoise({ strength: [level(10), level(40)], blur: [0, 1.6] }),
  },
  banding: {
    about: "rows that are off by 16 to 20 of 255",
    step: bandingNoise([level(16), level(20)]),
  },
  impulses: { about: "2 to 20 % of the pixels black or white", step: impulseNoise([0.02, 0.2]) },
  rain: {
    about: "150 to 300 streaks per 100 x 100 pixels, and noise of 8 of 255",
    step: inOrder(rain({ density: [150, 300], length: [6, 16], lean: 20, strength: [0.15, 0.5] }), sensor),
  },
  blur: {
    about: "a straight movement over 3 to 9 pixels, and noise of 2 of 255",
    step: inOrder(motionBlur([3, 9]), gaussianNoise([level(2), level(2)])),
  },
  "low-light": {
    about: "15 to 40 % of the light after a gamma of 1.6, and noise of 8 of 255",
    step: inOrder(lowLight(), sensor),
  },
  "low-resolution": { about: "a quarter of the width and height, and back", step: downUp([0.25, 0.25]) },
  jpeg: { about: "JPEG at quality 10 to 40", step: jpeg([10, 40]) },
} as const satisfies Readonly<Record<string, Degradation>>;

/** Name of a degradation. */
export type DegradationName = keyof typeof DEGRADATIONS;
/** Names of all degradations. */
export const DEGRADATION_NAMES = Object.keys(DEGRADATIONS) as [DegradationName, ...DegradationName[]];

/** White noise of one strength on the scale of 0 to 255, not cut off: the usual benchmark. */
export const noiseOf = (sigma: number): Degradation => ({
  about: `white noise of sigma ${sigma} of 255`,
  step: gaussianNoise([level(sigma), level(sigma)], { clip: false }),
});

/** Nothing happens to a picture. */
export const UNCHANGED: Degradation = { about: "nothing", step: (sample) => sample };

/** Clean pictures with a degraded twin, by (seed, index, epoch): every epoch degrades anew. */
export const degradedPairs = (
  source: Dataset<{ readonly image: Picture; readonly name?: string }>,
  { step }: Degradation,
  seed: Seed,
): Dataset<RestorationPair> =>
  dataset(source.length, async (index, epoch) => {
    const { image, name = `picture ${index}` } = await source.get(index, epoch);
    const clean = toFloatPicture(image);
    const { image: degraded } = await step(
      { image: { ...clean, data: clean.data.slice() } },
      createDraw(seed, index, epoch, "degradation"),
    );
    return { name, clean, degraded };
  });

/** The middle of both pictures of a pair, at most `side` pixels wide and high. */
export function middleOf({ name, clean, degraded }: RestorationPair, side: number): RestorationPair {
  const { width, height } = clean;
  const [w, h] = [Math.min(side, width), Math.min(side, height)];
  const [left, top] = [(width - w) >> 1, (height - h) >> 1];
  const cut = ({ data, channels }: FloatPicture): FloatPicture => {
    const out = new Float32Array(w * h * channels);
    for (let y = 0; y < h; y++) {
      const from = ((top + y) * width + left) * channels;
      out.set(data.subarray(from, from + w * channels), y * w * channels);
    }
    return { width: w, height: h, channels, data: out };
  };
  return { name, clean: cut(clean), degraded: cut(degraded) };
}

const DEGRADED_WORDS = /^(rainy|rain|noisy|noise|blur|blurred|input|low|lq|degraded|lr|real)$/i;
const CLEAN_WORDS = /^(clean|norain|gt|sharp|target|high|hq|groundtruth|hr|mean)$/i;
/** As names of folders these say nothing. */
const ENDINGS_ONLY = /^(real|mean)$/i;

/** Which side of a pair a file is, by a word of its path, and what its partner's path has in common with it. */
function sideOf(path: string): { side: "degraded" | "clean"; key: string } | undefined {
  const stem = path.slice(0, -extname(path).length || undefined);
  const parts = stem.split(/([/\\_-]|(?<=[a-z])(?=\d+$))/i);
  const isName = (i: number): boolean => !parts.slice(i).some((part) => /[/\\]/.test(part));
  for (const [side, words] of [
    ["degraded", DEGRADED_WORDS],
    ["clean", CLEAN_WORDS],
  ] as const) {
    const at = parts.findIndex((part, i) => words.test(part) && (isName(i) || !ENDINGS_ONLY.test(part)));
    if (at < 0) continue;
    return { side, key: parts.filter((part, i) => i !== at && !/^[/\\_-]?$/.test(part)).join(" ") };
  }
  return undefined;
}

/** The files of a folder in pairs, by the words in their paths. @throws ArgumentError that lists files without a partner */
export function pairedFiles(paths: readonly string[]): { name: string; degraded: string; clean: string }[] {
  const found = { degraded: new Map<string, string>(), clean: new Map<string, string>() };
  for (const path of paths) {
    const { side, key } = sideOf(path) ?? {};
    if (side === undefined || key === undefined) continue;
    const other = found[side].get(key);
    if (other !== undefined)
      throw new ArgumentError(`${path} and ${other} are both the ${side} side of "${key}"`);
    found[side].set(key, path);
  }
  const { degraded, clean } = found;
  const lonely = [
    ...[...degraded].filter(([key]) => !clean.has(key)),
    ...[...clean].filter(([key]) => !degraded.has(key)),
  ].map(([, path]) => path);
  if (lonely.length > 0)
    throw new ArgumentError(
      `${lonely.length} files have no partner: ${lonely.slice(0, 5).join(", ")}${lonely.length > 5 ? ", …" : ""}`,
    );
  return [...degraded].map(([name, path]) => ({ name, degraded: path, clean: clean.get(name)! }));
}

/**
 * Pairs of files below a folder: `rainy/1.png` and `clean/1.png`, `a_real.png` and `a_mean.png`, `b_blur1.png` and
 * `b_sharp1.png`, or `input` and `target`. Files that no such word is in are left out. Colours, or gray repeated.
 *
 * @throws ArgumentError without pairs and for files without a partner, FormatError for pairs of two sizes
 */
export async function openRestorationPairs(folder: string): Promise<Dataset<RestorationPair>> {
  const paths = new Map((await listPictures(folder)).map((path) => [relative(folder, path), path]));
  const pairs = pairedFiles([...paths.keys()]);
  if (pairs.length === 0)
    throw new ArgumentError(
      `${folder}: no pairs; expected pictures in folders such as rainy and clean, or named such as a_real and a_mean`,
    );
  return dataset(pairs.length, async (i) => {
    const { name, ...files } = pairs[i]!;
    const [degraded, clean] = await Promise.all(
      [files.degraded, files.clean].map(async (file) =>
        toFloatPicture(await readPictureFile(paths.get(file)!)),
      ),
    );
    if (degraded!.width !== clean!.width || degraded!.height !== clean!.height)
      throw new FormatError(
        `${basename(files.degraded)}: is ${degraded!.width}x${degraded!.height}, its truth ${clean!.width}x${clean!.height}`,
      );
    return { name, degraded: degraded!, clean: clean! };
  });
}

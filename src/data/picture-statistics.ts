/** What pictures of a data set have in common, to tell when another one is unlike them. */
import type { FloatPicture } from "./augment/sample.ts";

/** Of one picture: mean and deviation of its values, their skew, and how rough it is: mean step between neighbours over the deviation. */
export interface PictureStatistics {
  readonly mean: number;
  readonly deviation: number;
  readonly skew: number;
  readonly roughness: number;
}

const MEASURES = ["mean", "deviation", "skew", "roughness"] as const;

/** Least and greatest of each measure over the pictures of a set. */
export type SetStatistics = Readonly<
  Record<keyof PictureStatistics, readonly [least: number, greatest: number]>
>;

/** All channels count alike. A picture of one value has skew and roughness 0. */
export function pictureStatistics({ data, width, height, channels }: FloatPicture): PictureStatistics {
  const n = data.length;
  let sum = 0;
  for (const v of data) sum += v;
  const mean = sum / n;
  let [second, third, steps] = [0, 0, 0];
  for (const v of data) {
    second += (v - mean) ** 2;
    third += (v - mean) ** 3;
  }
  const row = width * channels;
  for (let y = 0; y < height; y++)
    for (let i = channels; i < row; i++)
      steps += Math.abs(data[y * row + i]! - data[y * row + i - channels]!);
  const deviation = Math.sqrt(second / n);
  const flat = deviation < 1e-6;
  return {
    mean,
    deviation,
    skew: flat ? 0 : third / n / deviation ** 3,
    roughness: flat || width < 2 ? 0 : steps / (height * (row - channels)) / deviation,
  };
}

/** Of all pictures of a set. */
export function setStatistics(pictures: readonly PictureStatistics[]): SetStatistics {
  const of = (name: keyof PictureStatistics): readonly [number, number] => {
    const values = pictures.map((one) => one[name]).sort((a, b) => a - b);
    return [values[0]!, values.at(-1)!];
  };
  return { mean: of("mean"), deviation: of("deviation"), skew: of("skew"), roughness: of("roughness") };
}

/** How far outside a set's values a picture is unlike it: this share of their span, and at least so much. */
const MARGIN = 0.25;
const LEAST: PictureStatistics = { mean: 0.1, deviation: 0.1, skew: 0.5, roughness: 0.1 };

const WORDS: Readonly<Record<keyof PictureStatistics, readonly [below: string, above: string]>> = {
  mean: ["darker", "brighter"],
  deviation: ["of less contrast", "of more contrast"],
  skew: ["darker where those are bright", "brighter where those are dark"],
  roughness: ["smoother", "rougher"],
};

/** How a picture differs from those of a set, in words; none where it is like them. */
export const unlike = (picture: PictureStatistics, set: SetStatistics): string[] =>
  MEASURES.flatMap((name) => {
    const [least, greatest] = set[name];
    const margin = Math.max(LEAST[name], MARGIN * (greatest - least));
    if (picture[name] < least - margin) return [WORDS[name][0]];
    return picture[name] > greatest + margin ? [WORDS[name][1]] : [];
  });

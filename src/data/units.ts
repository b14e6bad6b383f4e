/** Numbers of any unit, such as Hounsfield's or counts of a camera, as brightness. */
import { ArgumentError, NonFiniteError } from "../errors.ts";
import type { Picture } from "../io/index.ts";

/** The values that become black and white: in the file's own unit, or as percentiles of the values that are there. */
export interface IntensityRange {
  readonly low: number;
  readonly high: number;
  readonly unit: "value" | "percentile";
}

/** Leaves out the half percent at both ends, so that one bright corner does not decide how bright the rest is. */
export const ROBUST_RANGE: IntensityRange = { low: 0.5, high: 99.5, unit: "percentile" };

/** Reads "-125:275", or in percentiles "0.5%:99.5%". @throws ArgumentError for anything else */
export function intensityRange(text: string): IntensityRange {
  const [, from, percent, to, other] =
    /^([+-]?[\d.]+(?:e[+-]?\d+)?)(%?):([+-]?[\d.]+(?:e[+-]?\d+)?)(%?)$/i.exec(text) ?? [];
  const [low, high, unit] = [Number(from), Number(to), percent ? "percentile" : "value"] as const;
  const fits = percent === other && low < high && (unit === "value" || (low >= 0 && high <= 100));
  if (from !== undefined && fits) return { low, high, unit };
  throw new ArgumentError(`range: expected LOW:HIGH as in -125:275, or 1%:99%, got ${JSON.stringify(text)}`);
}

/** Values between two percentiles of all pictures, by the nearest ranks. */
function percentiles(pictures: readonly Picture[], { low, high }: IntensityRange): [number, number] {
  const all = new Float32Array(pictures.reduce((n, { data }) => n + data.length, 0));
  let at = 0;
  for (const { data } of pictures) {
    all.set(data, at);
    at += data.length;
  }
  all.sort();
  const value = (percent: number): number => all[Math.round((percent / 100) * (all.length - 1))]!;
  return [value(low), value(high)];
}

/** The least and the greatest value. @throws NonFiniteError naming the first that is no finite number */
function extremes(pictures: readonly Picture[], name: string): [low: number, high: number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [z, { data, width, channels }] of pictures.entries())
    for (let i = 0; i < data.length; i++) {
      const v = data[i]!;
      if (!Number.isFinite(v)) {
        const pixel = Math.floor(i / channels);
        const place = `(${pixel % width}, ${Math.floor(pixel / width)})`;
        throw new NonFiniteError(
          `${name}: the value ${v} at ${place}${pictures.length > 1 ? ` of slice ${z}` : ""}`,
        );
      }
      if (v < low) low = v;
      if (v > high) high = v;
    }
  return [low, high];
}

/** Options of `inUnits`. */
export interface UnitOptions {
  /** For any numbers, bytes too. Values beyond it are cut off. */
  readonly range?: IntensityRange | undefined;
  /** The same for floats outside of [0, 1] where there is no `range`. Default: from the least to the greatest value. */
  readonly otherwise?: IntensityRange;
}

/**
 * Floats outside of [0, 1] scaled over all the pictures, which share a unit, to [0, 1]; floats within, bytes and 16-bit
 * numbers stay, unless a range is given. @throws NonFiniteError naming the first value that is no finite number
 */
export function inUnits(
  pictures: readonly Picture[],
  name: string,
  { range, otherwise }: UnitOptions = {},
): readonly Picture[] {
  const floats = pictures.every(({ data }) => data instanceof Float32Array);
  if (!floats && !range) return pictures;
  const [least, greatest] = extremes(pictures, name);
  if (!range && least >= 0 && greatest <= 1) return pictures;
  const chosen = range ?? otherwise;
  const [from, to] =
    chosen?.unit === "percentile"
      ? percentiles(pictures, chosen)
      : chosen
        ? [chosen.low, chosen.high]
        : [least, greatest];
  // Where nearly all values are one, percentiles say nothing.
  const [low, high] = to > from ? [from, to] : [least, greatest];
  const scale = high > low ? 1 / (high - low) : 0;
  return pictures.map((picture) => ({
    ...picture,
    data: Float32Array.from(picture.data, (v) => Math.max(0, Math.min(1, (v - low) * scale))),
  }));
}

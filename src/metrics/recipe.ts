/** The recipe of a number: what must be known to compute it again. Printed beside every number. */

export interface Recipe {
  /** Name of the metric, such as `FID`. */
  readonly metric: string;
  /** Feature extractor and the hash of its weights. */
  readonly extractor?: { readonly name: string; readonly hash: string };
  /** How pictures were brought to the extractor's size, such as `bilinear to 64x64`. */
  readonly resize?: string;
  /** How many samples went in, by name: `{ real: 1000, generated: 1000 }`. */
  readonly counts?: Readonly<Record<string, number>>;
  readonly seed?: number | string;
  /** Whatever else decides the value: window, range, threshold. */
  readonly options?: Readonly<Record<string, number | string | boolean>>;
}

/** A number with its recipe and, where there is one, its confidence interval. */
export interface Measurement {
  readonly value: number;
  readonly recipe: Recipe;
  readonly interval?: readonly [low: number, high: number];
}

/** `FID 12.34 [11.8, 12.9] (extractor scene-features 1f3a…, 1000 real, 1000 generated, seed 0)`. */
export function describeMeasurement({ value, recipe, interval }: Measurement, digits = 4): string {
  const { metric, extractor, resize, counts = {}, seed, options = {} } = recipe;
  const parts = [
    ...(extractor ? [`extractor ${extractor.name} ${extractor.hash.slice(0, 12)}`] : []),
    ...(resize ? [`resize ${resize}`] : []),
    ...Object.entries(counts).map(([name, n]) => `${n} ${name}`),
    ...Object.entries(options).map(([name, setting]) => `${name} ${setting}`),
    ...(seed === undefined ? [] : [`seed ${seed}`]),
  ];
  const number = (x: number): string =>
    Number.isFinite(x) ? String(Number(x.toPrecision(digits))) : String(x);
  const range = interval ? ` [${number(interval[0])}, ${number(interval[1])}]` : "";
  return `${metric} ${number(value)}${range}${parts.length ? ` (${parts.join(", ")})` : ""}`;
}

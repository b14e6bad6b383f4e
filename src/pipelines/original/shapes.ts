/** What the shapes of a file's tensors say of the network that they belong to. */
import { ArgumentError, FormatError } from "../../errors.ts";
import { ditPreset, vitPreset } from "../../networks/index.ts";
import type { Config } from "../components.ts";
import type { WeightSource } from "../weights.ts";

/** The shape of a tensor with so many axes. @throws {FormatError} when it is not there, or has others */
export function shapeOf(source: WeightSource, name: string, rank: number): readonly number[] {
  const shape = source.entries.get(name)?.shape;
  if (shape?.length === rank) return shape;
  const got = shape ? `[${shape.join(", ")}]` : "none";
  throw new FormatError(`${source.path}: "${name}": expected ${rank} axes, got ${got}`);
}

/** How many numbered modules there are: one more than the largest number that the pattern's group finds. */
export function countOf(source: WeightSource, pattern: RegExp): number {
  let largest = -1;
  for (const name of source.entries.keys())
    largest = Math.max(largest, Number(pattern.exec(name)?.[1] ?? -1));
  return largest + 1;
}

/** Points along one side of a square grid of tokens. @throws {FormatError} when they are none */
export function gridOf(source: WeightSource, name: string, tokens: number): number {
  const side = Math.sqrt(tokens);
  if (Number.isInteger(side)) return side;
  throw new FormatError(`${source.path}: "${name}": expected positions of a square grid, got ${tokens}`);
}

const DIT_SIZES = (["S/2", "B/2", "L/2", "XL/2"] as const).map((size) => ditPreset(size));
const VIT_SIZES = (["Ti/16", "S/16", "B/16", "L/16", "H/16"] as const).map((size) => vitPreset(size));

/** Attention heads by width, of the published sizes: shapes do not tell them. */
export const HEADS = {
  dit: new Map(DIT_SIZES.map(({ heads, headDim }) => [heads * headDim, heads])),
  vit: new Map(VIT_SIZES.map(({ dim, heads }) => [dim, heads])),
  /** The decoder of masked autoencoders. */
  maeDecoder: new Map([[512, 16]]),
} as const;

/** The number of heads that is given, or that of the published size of this width. @throws {ArgumentError} without either */
export function headsOf(
  { path }: WeightSource,
  dim: number,
  key: string,
  given: Config,
  known: ReadonlyMap<number, number>,
): number {
  const told = given[key];
  if (typeof told === "number") return told;
  const heads = known.get(dim);
  if (heads !== undefined) return heads;
  throw new ArgumentError(
    `${path}: its width of ${dim} is none of the published ones (${[...known.keys()].join(", ")}), so that its ` +
      `shapes do not tell the number of attention heads: give it in the configuration as "${key}"`,
  );
}

/** Values of options: text to what it means, or an error that names the option and what it takes. */
import type { Seed } from "../tensor/index.ts";
import { UsageError } from "./errors.ts";
import { suggestion } from "./nearest.ts";

const MAX_SEED = 2n ** 64n - 1n;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** A range with words for it. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
}

function rangeText({ min, max }: Range): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return ` from ${min} up`;
  return max === undefined ? "" : ` up to ${max}`;
}

/** A finite number within a range. */
export function numberValue(option: string, text: string, range: Range = {}): number {
  const value = NUMBER.test(text.trim()) ? Number(text) : Number.NaN;
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = range;
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  throw new UsageError(`--${option} needs a number${rangeText(range)}, got "${text}"`);
}

/** A whole number within a range. */
export function integerValue(option: string, text: string, range: Range = {}): number {
  const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
  const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = range;
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new UsageError(`--${option} needs a whole number${rangeText(range)}, got "${text}"`);
}

/** One of several words; what is near is suggested. */
export function choiceValue<T extends string>(option: string, text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice.toLowerCase() === text.toLowerCase());
  if (found !== undefined) return found;
  const meant = suggestion(text, choices);
  throw new UsageError(`--${option} does not know "${text}"${meant || `; it takes ${choices.join(", ")}`}`);
}

/** A seed: a number where that is exact, a bigint above. */
export function seedValue(option: string, text: string): Seed {
  const value = /^\d{1,20}$/.test(text.trim()) ? BigInt(text) : -1n;
  if (value < 0n || value > MAX_SEED)
    throw new UsageError(`--${option} needs a whole number from 0 to 2^64 - 1, got "${text}"`);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

/** The seed `n` after another, beginning again at 0 after the last. */
export function seedAfter(seed: Seed, n: number): Seed {
  const value = (BigInt(seed) + BigInt(n)) & MAX_SEED;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** `WxH`. */
export function sizeValue(option: string, text: string): Size {
  const match = /^\s*(\d{1,5})\s*[x×*]\s*(\d{1,5})\s*$/i.exec(text);
  const [width, height] = [Number(match?.[1]), Number(match?.[2])];
  if (match && width > 0 && height > 0) return { width, height };
  throw new UsageError(`--${option} needs WIDTHxHEIGHT, such as 512x768, got "${text}"`);
}

const TRAILING_NUMBER = /^(.+):([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i;
/** A path with a colon in it only behind the letter of a Windows drive. */
const PATH = String.raw`(?:[A-Za-z]:[\\/])?[^:]+`;
const TWO_PATHS = new RegExp(`^(${PATH}):(${PATH})$`);

/** `PATH[:NUMBER]`, the number being 1 by default. */
export function pathAndNumber(text: string): { path: string; number: number } {
  const match = TRAILING_NUMBER.exec(text);
  return match ? { path: match[1]!, number: Number(match[2]) } : { path: text, number: 1 };
}

/** `PATH:PATH[:NUMBER]`, the number being 1 by default. */
export function twoPathsAndNumber(
  option: string,
  text: string,
): { first: string; second: string; number: number } {
  const { path, number } = pathAndNumber(text);
  const match = TWO_PATHS.exec(path);
  if (!match) throw new UsageError(`--${option} needs PATH:IMAGE or PATH:IMAGE:SCALE, got "${text}"`);
  return { first: match[1]!, second: match[2]!, number };
}

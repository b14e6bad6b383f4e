/** Shares of a job that several processes or machines do together. */
import { ArgumentError } from "../errors.ts";

/** One of `count` parts of a job, from 1 up. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Reads `I/N`. @throws ArgumentError unless 1 <= I <= N */
export function shardOf(text: string): Shard {
  const [, index, count] = (/^(\d{1,9})\/(\d{1,9})$/.exec(text) ?? []).map(Number);
  if (index === undefined || count === undefined || index < 1 || index > count)
    throw new ArgumentError(`shard: expected I/N with 1 <= I <= N, such as 1/4, got "${text}"`);
  return { index, count };
}

/** Every `count`-th item, from number `index` on. The items must be the whole job in the same order everywhere. */
export const partOf = <T>(items: readonly T[], { index, count }: Shard): T[] =>
  items.filter((_, i) => i % count === index - 1);

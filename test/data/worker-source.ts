/** The dataset that the worker tests open in threads. */
import { threadId } from "node:worker_threads";
import { type Dataset, dataset } from "../../src/data/dataset.ts";
import { FormatError } from "../../src/errors.ts";

/** Squares; multiples of `bad` are damaged. */
export function squares(
  length: number,
  bad: number,
): Dataset<{ value: Float32Array; thread: number; epoch: number }> {
  return dataset(length, async (i, epoch) => {
    if (i > 0 && i % bad === 0) throw new FormatError(`sample ${i} is damaged`);
    await new Promise((resolve) => setTimeout(resolve, (i % 3) * 2));
    return { value: Float32Array.of(i * i), thread: threadId, epoch };
  });
}

export const fails = (): never => {
  throw new FormatError("no such folder");
};

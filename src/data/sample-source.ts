/** What the threads of `openInWorkers` run: a dataset of their own, asked for its length and its samples. */
import { ArgumentError } from "../errors.ts";
import type { Dataset } from "./dataset.ts";

/** A sample's index and epoch; without them, the length. */
export type SampleQuestion = readonly [] | readonly [index: number, epoch: number];

export async function openSource(
  module: string,
  name: string,
  args: readonly unknown[],
): Promise<(...question: SampleQuestion) => unknown> {
  const open: unknown = (await import(module))[name];
  if (typeof open !== "function")
    throw new ArgumentError(`dataset worker: ${module} exports no function "${name}"`);
  const source = (await open(...args)) as Dataset<unknown>;
  return (...question) => (question.length === 0 ? source.length : source.get(...question));
}

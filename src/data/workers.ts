/** A dataset whose samples are read and augmented in worker threads, beside the thread that trains. */
import { extname } from "#node";
import { openWorkers } from "../workers/index.ts";
import { type Dataset, dataset } from "./dataset.ts";
import type { SampleQuestion } from "./sample-source.ts";

/** How a worker gets its dataset: a module's exported function, called with `args` (plain data). */
export interface DatasetRecipe {
  readonly module: URL;
  /** Default `default`. */
  readonly name?: string;
  readonly args?: readonly unknown[];
}

/** A dataset that is read in threads. Close it when done. */
export type WorkerDataset<T> = Dataset<T> & {
  /** Ends the threads, each when the samples it computes are done; samples still under way are rejected at once. */
  close(): Promise<void>;
};

/** Opens a dataset in `threads` workers; each request goes to the one with the least to do. */
export async function openInWorkers<T>(
  { module, name = "default", args = [] }: DatasetRecipe,
  threads = 2,
): Promise<WorkerDataset<T>> {
  const source = new URL(`./sample-source${extname(new URL(import.meta.url).pathname)}`, import.meta.url);
  const workers = await openWorkers<SampleQuestion, unknown>(
    { module: source, name: "openSource", setup: [module.href, name, args] },
    { threads },
  );
  const length = (await workers.run()) as number;
  const samples = dataset(length, (index, epoch) => workers.run(index, epoch) as Promise<T>);
  return { ...samples, close: workers.close };
}

/** A dataset whose samples are read and augmented in worker threads, beside the thread that trains. */
import { createRequire } from "node:module";
import { extname } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { ArgumentError, FormatError } from "../errors.ts";
import { type Dataset, dataset } from "./dataset.ts";

/** How a worker gets its dataset: a module's exported function, called with `args` (plain data). */
export interface DatasetRecipe {
  readonly module: URL;
  /** Default `default`. */
  readonly name?: string;
  readonly args?: readonly unknown[];
}

/** What goes to a worker and comes back. */
export interface SampleRequest {
  readonly id: number;
  readonly index: number;
  readonly epoch: number;
}
export type SampleReply =
  | { readonly length: number }
  | { readonly id: number; readonly sample: unknown }
  | { readonly id: number; readonly error: { readonly message: string; readonly format: boolean } };

interface Pending {
  readonly resolve: (sample: unknown) => void;
  readonly reject: (error: Error) => void;
}

export type WorkerDataset<T> = Dataset<T> & {
  /** Ends the threads; samples still under way are rejected. */
  close(): Promise<void>;
};

/** The worker's thread. Sources in TypeScript run through tsx, which threads do not inherit from `--import`. */
function startWorker(workerData: unknown): Worker {
  const extension = extname(new URL(import.meta.url).pathname);
  const entry = new URL(`./sample-worker${extension}`, import.meta.url);
  if (extension !== ".ts") return new Worker(entry, { workerData });
  const require = createRequire(import.meta.url);
  const api: string = require("tsx/package.json").exports["./esm/api"].import.default;
  const tsx = new URL(api, pathToFileURL(require.resolve("tsx/package.json"))).href;
  const start = `import(${JSON.stringify(tsx)}).then((t) => { t.register(); return import(${JSON.stringify(entry.href)}); })`;
  return new Worker(start, { eval: true, workerData });
}

/** One thread with the samples that were asked of it. */
class SampleThread {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private readonly opened: Promise<number>;
  private count = 0;
  private closing = false;

  constructor({ module, name = "default", args = [] }: DatasetRecipe) {
    this.worker = startWorker({ module: module.href, name, args });
    this.opened = new Promise((resolve, reject) => {
      this.worker.on("message", (reply: SampleReply) => {
        if ("length" in reply) {
          resolve(reply.length);
          this.rest();
        } else this.settle(reply);
      });
      const fail = (error: Error): void => {
        reject(error);
        for (const { reject: rejectSample } of this.pending.values()) rejectSample(error);
        this.pending.clear();
      };
      this.worker.on("error", fail);
      this.worker.on("exit", (code) => fail(new ArgumentError(`dataset worker ended (exit code ${code})`)));
    });
    this.opened.catch(() => {}); // reported by `length`
  }

  /** Length of the dataset that the thread opened. */
  get length(): Promise<number> {
    return this.opened;
  }

  get load(): number {
    return this.pending.size;
  }

  request(index: number, epoch: number): Promise<unknown> {
    const id = this.count++;
    this.worker.ref();
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, index, epoch } satisfies SampleRequest);
    });
  }

  /** An idle thread does not keep the program alive. */
  private rest(): void {
    if (this.pending.size === 0 && !this.closing) this.worker.unref();
  }

  private settle(reply: Exclude<SampleReply, { length: number }>): void {
    const waiting = this.pending.get(reply.id);
    this.pending.delete(reply.id);
    this.rest();
    if ("sample" in reply) waiting?.resolve(reply.sample);
    else {
      const { message, format } = reply.error;
      waiting?.reject(format ? new FormatError(message) : new Error(message));
    }
  }

  close(): Promise<unknown> {
    this.closing = true;
    this.worker.ref(); // the program waits for its end
    return this.worker.terminate();
  }
}

/** Opens a dataset in `threads` workers; each request goes to the one with the least to do. */
export async function openInWorkers<T>(recipe: DatasetRecipe, threads = 2): Promise<WorkerDataset<T>> {
  if (!(Number.isSafeInteger(threads) && threads >= 1))
    throw new ArgumentError(`openInWorkers: threads must be a positive integer, got ${threads}`);
  const pool = Array.from({ length: threads }, () => new SampleThread(recipe));
  const close = async (): Promise<void> => {
    await Promise.all(pool.map((thread) => thread.close()));
  };
  const [length] = await Promise.all(pool.map((thread) => thread.length)).catch(async (error) => {
    await close();
    throw error;
  });
  const samples = dataset(length!, (index, epoch) => {
    const thread = pool.reduce((least, t) => (t.load < least.load ? t : least));
    return thread.request(index, epoch) as Promise<T>;
  });
  return { ...samples, close };
}

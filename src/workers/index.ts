/**
 * Functions in threads of their own. Computing holds up the thread that it happens in, although a promise comes back: a
 * server answers and a page moves while others compute.
 */
import { createRequire, extname, pathToFileURL, Worker } from "#node";
import { ArgumentError, LifetimeError } from "../errors.ts";
import { type FromThread, packed, revived, type ThreadTask, type ToThread, unpacked } from "./messages.ts";

/** Which function runs in the threads. */
export interface WorkerRecipe {
  /** The module that exports it. */
  readonly module: URL;
  /** Default `default`. */
  readonly name?: string;
  /**
   * Makes the export a maker: each thread calls it once with these (plain data, typed arrays), and runs what it gives (or
   * promises). So a thread loads its model once. Without it the export itself runs.
   */
  readonly setup?: readonly unknown[];
}

/** Options of `openWorkers`. */
export interface WorkerOptions {
  /** Threads; each call goes to the one with the least to do. Default 1. */
  readonly threads?: number;
}

/** Threads that run one function; calls wait for a free one. */
export interface Workers<Args extends readonly unknown[], R> {
  /**
   * Calls the function in a thread. Arguments and results are plain data, typed arrays and tensors (in arrays and plain
   * objects), which are copied. Errors of Tweedie keep their class.
   *
   * @throws LifetimeError when the threads are closed meanwhile, or have ended
   */
  run(...args: Args): Promise<R>;
  /** Ends the threads, each when what it computes is done; calls still under way are rejected at once. */
  close(): Promise<void>;
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The worker's thread. Sources in TypeScript run through tsx, which threads do not inherit from `--import`. */
function startThread(workerData: ThreadTask): Worker {
  const extension = extname(new URL(import.meta.url).pathname);
  const entry = new URL(`./thread${extension}`, import.meta.url);
  if (extension !== ".ts") return new Worker(entry, { workerData });
  const require = createRequire(import.meta.url);
  const api: string = require("tsx/package.json").exports["./esm/api"].import.default;
  const tsx = new URL(api, pathToFileURL(require.resolve("tsx/package.json"))).href;
  const start = `import(${JSON.stringify(tsx)}).then((t) => { t.register(); return import(${JSON.stringify(entry.href)}); })`;
  return new Worker(start, { eval: true, workerData });
}

/** One thread with the calls that were asked of it. */
class Thread {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private readonly closing = new Int32Array(new SharedArrayBuffer(4));
  /** Resolves when the function is there. */
  readonly ready: Promise<void>;
  private readonly idle: Promise<void>;
  private count = 0;
  private ended: Error | undefined;

  constructor({ module, name = "default", setup }: WorkerRecipe) {
    this.worker = startThread({ module: module.href, name, setup, closing: this.closing });
    let idle!: () => void;
    this.idle = new Promise((resolve) => {
      idle = resolve;
    });
    this.ready = new Promise((resolve, reject) => {
      this.worker.on("message", (reply: FromThread) => {
        if ("ready" in reply) {
          resolve();
          this.rest();
        } else if ("idle" in reply) idle();
        else this.settle(reply);
      });
      const fail = (error: Error): void => {
        reject(error);
        idle();
        this.rejectAll(error);
      };
      this.worker.on("error", fail);
      this.worker.on("exit", (code) => fail(new LifetimeError(`the worker ended (exit code ${code})`)));
    });
    this.ready.catch(() => {}); // reported to whoever opens or calls
  }

  get load(): number {
    return this.pending.size;
  }

  async call(args: readonly unknown[]): Promise<unknown> {
    const sent = await packed(args);
    if (this.ended) throw this.ended;
    const id = this.count++;
    this.worker.ref();
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      try {
        this.worker.postMessage({ id, args: sent } satisfies ToThread);
      } catch (cause) {
        this.pending.delete(id);
        this.rest();
        reject(new ArgumentError(`worker: the arguments cannot be sent to a thread: ${cause}`, { cause }));
      }
    });
  }

  /** An idle thread does not keep the program alive. */
  private rest(): void {
    if (this.pending.size === 0 && !this.ended) this.worker.unref();
  }

  private rejectAll(error: Error): void {
    this.ended ??= error;
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }

  private settle(reply: Extract<FromThread, { id: number }>): void {
    const waiting = this.pending.get(reply.id);
    this.pending.delete(reply.id);
    this.rest();
    if ("result" in reply) waiting?.resolve(unpacked(reply.result));
    else waiting?.reject(revived(reply.error));
  }

  async close(): Promise<void> {
    this.worker.ref(); // the program waits for its end
    Atomics.store(this.closing, 0, 1);
    this.rejectAll(new LifetimeError("the worker ended: it was closed"));
    this.worker.postMessage({ close: true } satisfies ToThread);
    await this.idle;
    await this.worker.terminate();
  }
}

/** Starts threads that run a function of a module. Throws what the module throws. Node only. */
export async function openWorkers<Args extends readonly unknown[], R>(
  recipe: WorkerRecipe,
  { threads = 1 }: WorkerOptions = {},
): Promise<Workers<Args, R>> {
  if (!(Number.isSafeInteger(threads) && threads >= 1))
    throw new ArgumentError(`openWorkers: threads must be a positive integer, got ${threads}`);
  const pool = Array.from({ length: threads }, () => new Thread(recipe));
  const close = async (): Promise<void> => {
    await Promise.all(pool.map((thread) => thread.close()));
  };
  await Promise.all(pool.map((thread) => thread.ready)).catch(async (error) => {
    await close();
    throw error;
  });
  return {
    run: (...args) => {
      const thread = pool.reduce((least, t) => (t.load < least.load ? t : least));
      return thread.call(args) as Promise<R>;
    },
    close,
  };
}

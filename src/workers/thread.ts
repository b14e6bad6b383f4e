/** The thread behind `openWorkers`: finds its function, and answers calls until it is told to end. */
import { parentPort, workerData } from "node:worker_threads";
import { ArgumentError } from "../errors.ts";
import { type FromThread, packed, plainError, type ThreadTask, type ToThread, unpacked } from "./messages.ts";

const port = parentPort!;
const reply = (message: FromThread): void => port.postMessage(message);
const { module, name, setup, closing } = workerData as ThreadTask;

type Called = (...args: unknown[]) => unknown;

const exported: unknown = (await import(module))[name];
if (typeof exported !== "function")
  throw new ArgumentError(`worker: ${module} exports no function "${name}"`);
const called = (setup ? await exported(...setup) : exported) as Called;
if (typeof called !== "function")
  throw new ArgumentError(`worker: "${name}" of ${module} was to give a function, got ${typeof called}`);

let running = 0;
let told = false;
/** A thread must not be ended while the runtime computes in it: that would end the whole process. */
const endIfIdle = (): void => {
  if (told && running === 0) reply({ idle: true });
};

async function answer(id: number, args: unknown): Promise<void> {
  if (Atomics.load(closing, 0) === 1) return; // rejected already
  running++;
  try {
    reply({ id, result: await packed(await called(...(unpacked(args) as unknown[]))) });
  } catch (error) {
    reply({ id, error: plainError(error) });
  } finally {
    running--;
    endIfIdle();
  }
}

port.on("message", (message: ToThread) => {
  if ("close" in message) {
    told = true;
    endIfIdle();
  } else void answer(message.id, message.args);
});
reply({ ready: true });

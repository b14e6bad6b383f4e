/** The thread behind `openInWorkers`: opens the dataset of its recipe and answers requests for samples. */
import { parentPort, workerData } from "node:worker_threads";
import { ArgumentError, FormatError } from "../errors.ts";
import type { Dataset } from "./dataset.ts";
import type { SampleReply, SampleRequest } from "./workers.ts";

const port = parentPort!;
const reply = (message: SampleReply): void => port.postMessage(message);
const { module, name, args } = workerData as { module: string; name: string; args: unknown[] };

const open: unknown = (await import(module))[name];
if (typeof open !== "function")
  throw new ArgumentError(`dataset worker: ${module} exports no function "${name}"`);
const source = (await open(...args)) as Dataset<unknown>;

port.on("message", async ({ id, index, epoch }: SampleRequest) => {
  try {
    reply({ id, sample: await source.get(index, epoch) });
  } catch (error) {
    reply({ id, error: { message: String((error as Error).message), format: error instanceof FormatError } });
  }
});
reply({ length: source.length });

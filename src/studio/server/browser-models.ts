/** Models for the page: made by a process of their own, kept by tool, checkpoint and size. */
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import manifest from "../../../package.json" with { type: "json" };
import type { CatalogSettings, Tool } from "../tool.ts";
import { openGate } from "./gate.ts";
import { HttpError } from "./http-error.ts";
import type { BuildOrder } from "./messages.ts";
import { startWorker } from "./process.ts";
import { sweep } from "./retention.ts";
import type { FindCheckpoint } from "./tool-info.ts";

export interface BrowserModelRequest {
  readonly tool: string;
  readonly checkpoint: string | undefined;
  readonly size: number;
}

/** Where the model lies, once it is made. */
export type BrowserModels = (request: BrowserModelRequest) => Promise<string>;

/** Longest time that making a model may take, in milliseconds. */
const TIME_LIMIT = 120_000;
/** They can be made again at any time. */
const RETENTION = { hours: 24 * 30, bytes: 512 * 2 ** 20 };

export function openBrowserModels(
  root: string,
  tools: readonly Tool[],
  catalog: string,
  settings: CatalogSettings,
  find: FindCheckpoint,
): BrowserModels {
  const folder = join(root, "browser-models");
  const building = new Map<string, Promise<void>>();
  const inTurn = openGate(1); // a process each: a crowd of sizes must not become a crowd of processes

  async function build(order: BuildOrder): Promise<void> {
    await mkdir(folder, { recursive: true });
    const worker = startWorker({ type: "build", catalog, settings, build: order }, () => {});
    const timer = setTimeout(() => worker.abort(0), TIME_LIMIT);
    const end = await worker.ended;
    clearTimeout(timer);
    sweep(folder, (file) => join(folder, file) === order.path, RETENTION);
    if (end.how !== "done")
      throw new HttpError(500, `making the model: ${end.how === "failed" ? end.error : "stopped"}`);
  }

  return async ({ tool: name, checkpoint: wanted, size }) => {
    const tool = tools.find((t) => t.name === name);
    if (!tool?.inPage) throw new HttpError(404, "this system does not run in the page");
    const { sizes } = tool.inPage;
    if (!sizes.includes(size))
      throw new HttpError(422, `size: expected one of ${sizes.join(", ")}, got ${size}`);
    const chosen = wanted ?? tool.checkpoints[0]?.name;
    const checkpoint = chosen === undefined ? undefined : await find(name, chosen);
    if (checkpoint === undefined)
      throw new HttpError(
        409,
        chosen === undefined ? "there is no trained checkpoint yet" : `there is no "${chosen}"`,
      );
    // All parts come from the server's own lists; a checkpoint that was made anew gives another name.
    const { mtimeMs } = await stat(checkpoint);
    const path = join(folder, `${manifest.version}.${name}.${chosen}.${size}.${Math.round(mtimeMs)}.onnx`);
    if (!(await stat(path).catch(() => undefined))) {
      const job = building.get(path) ?? inTurn(() => build({ tool: name, checkpoint, size, path }));
      building.set(path, job);
      await job.finally(() => building.delete(path));
    }
    return path;
  };
}

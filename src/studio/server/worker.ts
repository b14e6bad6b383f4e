/** A job's process: runs one task, writes its results into the job's folder, says what happens. */
import { copyFile, link, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import manifest from "../../../package.json" with { type: "json" };
import { AbortError, ArgumentError, TweedieError } from "../../errors.ts";
import { encodePicture, pictureSize, withPngText, writeFileAtomic } from "../../io/index.ts";
import { toRgb } from "../../report/index.ts";
import type { ArtifactInfo, MetricsRow } from "../api-types.ts";
import type { Catalog, TaskEvent, Tool } from "../tool.ts";
import type { BuildOrder, FromWorker, JobOrder, ToWorker } from "./messages.ts";
import { artifactFile } from "./store.ts";

/** Milliseconds between two pictures in the making, and between two words on progress. */
const PREVIEW_EVERY = 250;
const PROGRESS_EVERY = 100;
const METRICS_EVERY = 500;

const controller = new AbortController();

/** Resolves once the message has left: the process may end then. */
const say = (message: FromWorker): Promise<void> =>
  new Promise((resolve) => {
    if (process.connected) process.send!(message, undefined, undefined, () => resolve());
    else resolve();
  });

function findTool(tools: readonly Tool[], name: string): Tool {
  const tool = tools.find((t) => t.name === name);
  if (!tool) throw new ArgumentError(`there is no system "${name}"`);
  return tool;
}

/** What a picture carries: enough to make it again. */
function settingsOf({ tool, task, inputs, options, checkpoint }: JobOrder): string {
  const hashes = Object.fromEntries(Object.entries(inputs).map(([name, { hash }]) => [name, hash]));
  return JSON.stringify({ version: manifest.version, tool, task, inputs: hashes, options, checkpoint });
}

type Result = Extract<TaskEvent, { type: "picture" | "table" | "file" }>;

/** Sizes of the given pictures: results of the same size are shown over them. */
async function sizesOf(paths: Readonly<Record<string, string>>) {
  const sizes = new Map<string, { width: number; height: number }>();
  for (const [name, path] of Object.entries(paths)) sizes.set(name, await pictureSize(path));
  return sizes;
}

class Reporter {
  private rows: MetricsRow[] = [];
  private lastPreview = 0;
  private lastProgress = 0;
  private lastFlush = 0;
  private readonly artifacts: ArtifactInfo[];
  private readonly job: JobOrder;
  private readonly sizes: ReadonlyMap<string, { width: number; height: number }>;

  constructor(job: JobOrder, sizes: Reporter["sizes"]) {
    this.job = job;
    this.sizes = sizes;
    this.artifacts = [...job.artifacts];
  }

  async report(event: TaskEvent): Promise<void> {
    const now = Date.now();
    if (event.type === "progress") {
      const { done, total, note } = event;
      if (now - this.lastProgress < PROGRESS_EVERY && done < total) return;
      this.lastProgress = now;
      await this.flush();
      await say({ type: "progress", progress: { done, total, note } });
    } else if (event.type === "metrics") {
      this.rows.push({ step: event.step, values: finite(event.values) });
      if (now - this.lastFlush >= METRICS_EVERY) await this.flush();
    } else if (event.type === "message") await say({ type: "message", text: event.text });
    else if (event.type === "preview") {
      if (now - this.lastPreview < PREVIEW_EVERY) return;
      this.lastPreview = now;
      await writeFileAtomic(join(this.job.folder, "preview.png"), await encodePicture(toRgb(event.picture)));
      await say({ type: "preview" });
    } else await this.keep(event);
  }

  async flush(): Promise<void> {
    const { rows } = this;
    this.rows = [];
    this.lastFlush = Date.now();
    if (rows.length > 0) await say({ type: "metrics", rows });
  }

  /** Writes a result; one of the same name and kind is replaced. */
  private async keep(event: Result): Promise<void> {
    const { type: kind, name, label } = event;
    const found = this.artifacts.findIndex((a) => a.kind === kind && a.name === name);
    const index = found < 0 ? this.artifacts.length : found;
    const version = found < 0 ? 0 : this.artifacts[found]!.version + 1;
    const details = await this.write(event, join(this.job.folder, artifactFile(index, kind)));
    const artifact: ArtifactInfo = { kind, version, name, label, ...details };
    this.artifacts[index] = artifact;
    await say({ type: "artifact", index, artifact });
  }

  private async write(event: Result, path: string): Promise<Partial<ArtifactInfo>> {
    if (event.type === "table") {
      await writeFileAtomic(path, new TextEncoder().encode(JSON.stringify(event.table)));
      return {};
    }
    if (event.type === "file") {
      await rm(path, { force: true });
      await link(event.path, path).catch(() => copyFile(event.path, path)); // some file systems have no links
      return { bytes: (await stat(path)).size };
    }
    const { width, height } = event.picture;
    const text = { keyword: "tweedie-studio", text: settingsOf(this.job), utf8: true };
    await writeFileAtomic(path, withPngText(await encodePicture(event.picture), [text]));
    const over = [...this.sizes].find(([, size]) => size.width === width && size.height === height)?.[0];
    return { width, height, over };
  }
}

/** JSON has no infinities; a curve has a gap there. */
const finite = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => Number.isFinite(value)));

async function runJob(tools: readonly Tool[], job: JobOrder): Promise<void> {
  const task = findTool(tools, job.tool).tasks[job.task];
  if (!task) throw new ArgumentError(`${job.tool} has no task "${job.task}"`);
  const paths = Object.fromEntries(Object.entries(job.inputs).map(([name, { path }]) => [name, path]));
  const reporter = new Reporter(job, await sizesOf(paths));
  try {
    const events = task.run({
      inputs: paths,
      options: task.options.parse(job.options),
      checkpoint: job.checkpointFile,
      folder: job.folder,
      signal: controller.signal,
    });
    for await (const event of events) await reporter.report(event);
  } finally {
    await reporter.flush();
  }
}

async function runBuild(tools: readonly Tool[], { tool, checkpoint, size, path }: BuildOrder): Promise<void> {
  const { inPage } = findTool(tools, tool);
  if (!inPage) throw new ArgumentError(`${tool} does not run in the page`);
  await writeFileAtomic(path, await inPage.build({ checkpoint, size }));
}

async function start(message: Extract<ToWorker, { catalog: string }>): Promise<void> {
  try {
    const module = (await import(message.catalog)) as { catalog: Catalog };
    const tools = await module.catalog(message.settings);
    if (message.job) await runJob(tools, message.job);
    if (message.build) await runBuild(tools, message.build);
    await say({ type: "end", how: controller.signal.aborted ? "aborted" : "done" });
  } catch (error) {
    const aborted = error instanceof AbortError || (error as Error).name === "AbortError";
    if (aborted && controller.signal.aborted) await say({ type: "end", how: "aborted" });
    else {
      const defect = !(error instanceof TweedieError);
      await say({ type: "end", how: "failed", error: (error as Error).message, defect });
      if (defect) console.error(error);
    }
  }
  process.exit(0); // what a task left open must not keep the queue waiting
}

process.on("message", (message: ToWorker) => {
  if (message.type === "abort") controller.abort();
  else void start(message);
});
// The server is gone: stop after the step at hand, and at once if that takes too long.
process.on("disconnect", () => {
  controller.abort();
  setTimeout(() => process.exit(1), 10_000).unref();
});
// Ctrl-C on a terminal goes to all processes; the server says what is to be done.
process.on("SIGINT", () => {});

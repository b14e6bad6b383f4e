/** A job's process: runs one task, writes its results into the job's folder, says what happens. */
import { copyFile, link, mkdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import manifest from "../../../package.json" with { type: "json" };
import { AbortError, ArgumentError, TweedieError } from "../../errors.ts";
import { encodePicture, type Picture, pictureSize, withPngText, writeFileAtomic } from "../../io/index.ts";
import { toRgb } from "../../report/index.ts";
import type { ArtifactInfo, MetricsRow } from "../api-types.ts";
import type { Catalog, GivenPath, GridEvent, Task, TaskEvent, Tool } from "../tool.ts";
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
  const given = Object.entries(inputs).map(([name, files]) => [
    name,
    files.map(({ path: _, ...file }) => file),
  ]);
  return JSON.stringify({
    ...{ version: manifest.version, tool, task, inputs: Object.fromEntries(given), options, checkpoint },
  });
}

type Result = Extract<TaskEvent, { type: "picture" | "album" | "grid" | "chart" | "table" | "file" }>;

/** Sizes of pictures that were given alone: results of the same size are shown over them. */
async function sizesOf(task: Task, inputs: JobOrder["inputs"]) {
  const sizes = new Map<string, { width: number; height: number }>();
  for (const [name, [file]] of Object.entries(inputs))
    if (file && task.inputs[name]?.kind === "picture") sizes.set(name, await pictureSize(file.path));
  return sizes;
}

/** Letters that file names have on every system. */
const plainName = (name: string): string =>
  name
    .replaceAll(/[^\p{L}\p{N}._-]+/gu, "-")
    .replace(/^[.-]+/, "")
    .slice(-80);

/**
 * What was brought, under the names that its owner knows: results are named after them. The uploads themselves are named
 * by their content.
 */
async function namedInputs({ inputs, folder }: JobOrder): Promise<Record<string, GivenPath[]>> {
  const found: Record<string, GivenPath[]> = {};
  for (const [input, files] of Object.entries(inputs)) {
    found[input] = [];
    for (const [i, { path, name, type }] of files.entries()) {
      const plain = name === undefined ? "" : plainName(name);
      const named = plain === "" ? path : join(folder, "given", input, String(i), plain);
      if (named !== path) {
        await mkdir(dirname(named), { recursive: true });
        await rm(named, { force: true });
        await link(path, named).catch(() => copyFile(path, named)); // some file systems have no links
      }
      found[input].push({ path: named, name, type });
    }
  }
  return found;
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
      const { done, total, note, secondsLeft } = event;
      if (now - this.lastProgress < PROGRESS_EVERY && done < total) return;
      this.lastProgress = now;
      await this.flush();
      await say({ type: "progress", progress: { done, total, note, secondsLeft } });
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
    const { name, label } = event;
    const kind = event.type === "grid" ? "album" : event.type;
    const found = this.artifacts.findIndex((a) => a.kind === kind && a.name === name);
    const index = found < 0 ? this.artifacts.length : found;
    const version = found < 0 ? 0 : this.artifacts[found]!.version + 1;
    const details = await this.write(event, (part) => join(this.job.folder, artifactFile(index, kind, part)));
    const artifact: ArtifactInfo = { kind, version, name, label, ...details };
    this.artifacts[index] = artifact;
    await say({ type: "artifact", index, artifact });
  }

  private async writePicture(path: string, picture: Picture): Promise<void> {
    const text = { keyword: "tweedie-studio", text: settingsOf(this.job), utf8: true };
    await writeFileAtomic(path, withPngText(await encodePicture(picture), [text]));
  }

  /** Writes the pictures of one result, and says the size of the first. */
  private async writeParts(
    pictures: readonly Picture[],
    fileOf: (part: number) => string,
  ): Promise<{ width: number; height: number }> {
    for (const [i, picture] of pictures.entries()) await this.writePicture(fileOf(i), picture);
    const { width, height } = pictures[0]!;
    return { width, height };
  }

  private async write(event: Result, fileOf: (part?: number) => string): Promise<Partial<ArtifactInfo>> {
    if (event.type === "album") {
      const { view, rate, parts } = event;
      const size = await this.writeParts(
        parts.map(({ picture }) => picture),
        fileOf,
      );
      return { ...size, view, rate, parts: parts.map(({ label, weight }) => ({ label, weight })) };
    }
    if (event.type === "grid") {
      const { pictures, columns, rows } = event;
      const size = await this.writeParts(pictures, fileOf);
      const parts = pictures.map((_, i) => ({ label: cellName(event, i) }));
      return { ...size, view: "grid", columns, rows, parts };
    }
    const path = fileOf();
    if (event.type === "chart") {
      await writeFileAtomic(path, Buffer.from(event.svg));
      return {};
    }
    if (event.type === "table") {
      await writeFileAtomic(path, new TextEncoder().encode(JSON.stringify(event.table)));
      return {};
    }
    if (event.type === "file") {
      await rm(path, { force: true });
      await link(event.path, path).catch(() => copyFile(event.path, path)); // some file systems have no links
      return { bytes: (await stat(path)).size };
    }
    await this.writePicture(path, event.picture);
    const { width, height } = event.picture;
    const over = [...this.sizes].find(([, size]) => size.width === width && size.height === height)?.[0];
    return { width, height, over };
  }
}

/** Where a picture of a grid stands, in words. */
function cellName({ columns, rows = [] }: GridEvent, index: number): string {
  const count = typeof columns === "number" ? columns : columns.length;
  const [row, column] = [Math.floor(index / count), index % count];
  const heading = typeof columns === "number" ? String(column + 1) : columns[column]!;
  return rows.length > 0 ? `${rows[row]}, ${heading}` : heading;
}

/** JSON has no infinities; a curve has a gap there. */
const finite = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => Number.isFinite(value)));

async function runJob(tools: readonly Tool[], job: JobOrder): Promise<void> {
  const task = findTool(tools, job.tool).tasks[job.task];
  if (!task) throw new ArgumentError(`${job.tool} has no task "${job.task}"`);
  const reporter = new Reporter(job, await sizesOf(task, job.inputs));
  try {
    const events = task.run({
      inputs: await namedInputs(job),
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

/**
 * Jobs on the disk: a folder each, whose `job.json` is the truth, and an index that makes starting fast. Every file
 * appears whole or not at all, so a kill at any moment loses no job that was answered for.
 */
import { randomBytes } from "node:crypto";
import { appendFile, mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { FormatError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import type { JobRecord, MetricsRow } from "../api-types.ts";

const ID = /^[0-9a-z]{9}-[0-9a-f]{8}$/;

/** @see GivenFile */
export const givenFile = z.object({
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string().max(300).optional(),
  type: z.string().max(100).optional(),
});

const recordSchema = z.object({
  id: z.string().regex(ID),
  tool: z.string(),
  task: z.string(),
  title: z.string(),
  subject: z.string().optional(),
  started: z.number().optional(),
  state: z.enum(["queued", "running", "paused", "done", "failed", "cancelled", "interrupted"]),
  created: z.number(),
  ended: z.number().optional(),
  seconds: z.number(),
  inputs: z.record(
    z.string(),
    // Jobs of earlier versions hold one hash for each input.
    z.union([z.string().transform((hash) => [{ hash }]), z.array(givenFile)]),
  ),
  options: z.record(z.string(), z.unknown()),
  checkpoint: z.string().optional(),
  resumable: z.boolean(),
  progress: z
    .object({
      done: z.number(),
      total: z.number(),
      note: z.string().optional(),
      secondsLeft: z.number().optional(),
    })
    .optional(),
  preview: z.int(),
  artifacts: z.array(
    z.object({
      kind: z.enum(["picture", "album", "chart", "table", "file"]),
      version: z.int(),
      name: z.string().regex(/^[a-z0-9][a-z0-9.-]*$/),
      label: z.string(),
      width: z.int().optional(),
      height: z.int().optional(),
      over: z.string().optional(),
      view: z.enum(["grid", "mask", "comparison", "components", "frames", "scene"]).optional(),
      parts: z.array(z.object({ label: z.string(), weight: z.number().optional() })).optional(),
      rate: z.number().optional(),
      columns: z.union([z.int(), z.array(z.string())]).optional(),
      rows: z.array(z.string()).optional(),
      bytes: z.int().optional(),
    }),
  ),
  metrics: z.int(),
  messages: z.array(z.string()),
  error: z.string().optional(),
});

export type { JobRecord };

/** A new name: they sort by time. */
export const newJobId = (now: number): string =>
  `${now.toString(36).padStart(9, "0")}-${randomBytes(4).toString("hex")}`;

export const isJobId = (text: string): boolean => ID.test(text);

const ENDINGS = { picture: "png", album: "png", chart: "svg", table: "json", file: "bin" } as const;

/** File of result `index`, of an album of one of its parts; made of what the server chose alone. */
export const artifactFile = (index: number, kind: keyof typeof ENDINGS, part = 0): string =>
  `result-${String(index).padStart(3, "0")}${kind === "album" ? `.${part}` : ""}.${ENDINGS[kind]}`;

/** File of the curves in a job's folder. */
export const METRICS = "metrics.jsonl";
const json = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value)}\n`);

/** Whether nothing will happen to a job unless somebody asks. */
export const isSettled = ({ state }: JobRecord): boolean => state !== "queued" && state !== "running";

async function readRecord(path: string): Promise<JobRecord> {
  try {
    return recordSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (cause) {
    throw new FormatError(`${path}: no job (${(cause as Error).message})`, { cause });
  }
}

/** A job in the index, and when its file was written that says the same. */
const indexSchema = z.array(z.object({ stamp: z.number(), record: recordSchema }));

async function readIndex(path: string): Promise<Map<string, { stamp: number; record: JobRecord }>> {
  try {
    const entries = indexSchema.parse(JSON.parse(await readFile(path, "utf8")));
    return new Map(entries.map((entry) => [entry.record.id, entry]));
  } catch {
    return new Map(); // missing or damaged: the folders know everything
  }
}

/** When a file was written last; undefined when there is none. */
const stampOf = async (path: string): Promise<number | undefined> =>
  (await stat(path).catch(() => undefined))?.mtimeMs;

/** How many steps there are; a line cut off by a kill does not count. */
async function readRows(path: string): Promise<MetricsRow[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => {
    try {
      return line === "" ? [] : [JSON.parse(line) as MetricsRow];
    } catch {
      return [];
    }
  });
}

export interface JobStore {
  /** Newest first. */
  list(): JobRecord[];
  get(id: string): JobRecord | undefined;
  folder(id: string): string;
  /** Writes a new or changed job; once the promise is kept, it survives a kill. */
  save(record: JobRecord): Promise<void>;
  /** Changes what is not worth a write of its own, such as progress. */
  touch(record: JobRecord): void;
  /** Puts a job aside; it is gone for good when the trash is emptied. */
  remove(id: string): Promise<void>;
  /** Takes a job back that was removed. Undefined: it is gone. */
  restore(id: string): Promise<JobRecord | undefined>;
  /** Empties the trash of what has lain there so many milliseconds. */
  emptyTrash(age: number): Promise<void>;
  /** Without rows: waits until those before are written. */
  addMetrics(id: string, rows: readonly MetricsRow[]): Promise<void>;
  metrics(id: string): Promise<MetricsRow[]>;
  clearMetrics(id: string): Promise<void>;
  /** Folders that hold no readable job, and why. */
  readonly damaged: readonly string[];
  /** Waits for writes under way. */
  flush(): Promise<void>;
}

/** Opens the jobs below a folder. Jobs that ran when the server died are `interrupted`; waiting ones still wait. */
export async function openJobStore(root: string): Promise<JobStore> {
  const jobs = join(root, "jobs");
  const indexPath = join(root, "index.json");
  await mkdir(jobs, { recursive: true });
  const indexed = await readIndex(indexPath);
  const records = new Map<string, JobRecord>();
  const stamps = new Map<string, number>();
  const damaged: string[] = [];
  const trash = join(root, "trash");
  const removed = new Map<string, { record: JobRecord; time: number }>();
  await rm(trash, { recursive: true, force: true }); // of an earlier run: nobody can take it back any more
  const folder = (id: string): string => join(jobs, id);
  for (const id of (await readdir(jobs)).filter(isJobId)) {
    const known = indexed.get(id);
    const path = join(folder(id), "job.json");
    const stamp = await stampOf(path);
    try {
      records.set(id, known && known.stamp === stamp ? known.record : await readRecord(path));
      if (stamp !== undefined) stamps.set(id, stamp);
    } catch (error) {
      damaged.push((error as Error).message);
    }
  }

  const pending = new Map<string, Promise<void>>();
  /** Writes to one file one after the other. */
  function inOrder(key: string, write: () => Promise<void>): Promise<void> {
    const next = (pending.get(key) ?? Promise.resolve()).catch(() => {}).then(write);
    pending.set(key, next);
    const forget = (): void => {
      if (pending.get(key) === next) pending.delete(key);
    };
    next.then(forget, forget);
    return next;
  }

  let indexDue: NodeJS.Timeout | undefined;
  const newestFirst = (): JobRecord[] => [...records.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
  const writeIndex = (): Promise<void> =>
    inOrder("index", () => {
      const entries = newestFirst()
        .filter(isSettled)
        .map((record) => ({ stamp: stamps.get(record.id) ?? 0, record }));
      return writeFileAtomic(indexPath, json(entries));
    });
  const indexSoon = (): void => {
    indexDue ??= setTimeout(() => {
      indexDue = undefined;
      writeIndex().catch(() => {}); // the next start reads the folders
    }, 500).unref();
  };

  const store: JobStore = {
    list: newestFirst,
    get: (id) => records.get(id),
    folder,
    damaged,
    async save(record) {
      records.set(record.id, record);
      await inOrder(record.id, async () => {
        if (!records.has(record.id)) return; // removed meanwhile
        await mkdir(folder(record.id), { recursive: true });
        const path = join(folder(record.id), "job.json");
        await writeFileAtomic(path, json(records.get(record.id)));
        stamps.set(record.id, (await stampOf(path)) ?? 0);
      });
      if (isSettled(record)) indexSoon();
    },
    touch: (record) => {
      if (records.has(record.id)) records.set(record.id, record);
    },
    async remove(id) {
      const record = records.get(id);
      records.delete(id);
      stamps.delete(id);
      if (record) removed.set(id, { record, time: Date.now() });
      await inOrder(id, async () => {
        await mkdir(trash, { recursive: true });
        await rename(folder(id), join(trash, id));
      });
      indexSoon();
    },
    async restore(id) {
      const found = removed.get(id);
      if (!found) return undefined;
      removed.delete(id);
      await inOrder(id, () => rename(join(trash, id), folder(id)));
      await store.save(found.record);
      return found.record;
    },
    async emptyTrash(age) {
      const old = [...removed].filter(([, { time }]) => Date.now() - time >= age).map(([id]) => id);
      for (const id of old) {
        removed.delete(id);
        await inOrder(id, () => rm(join(trash, id), { recursive: true, force: true }));
      }
    },
    addMetrics: (id, rows) =>
      inOrder(`${id} metrics`, () =>
        rows.length === 0
          ? Promise.resolve()
          : appendFile(join(folder(id), METRICS), rows.map((row) => `${JSON.stringify(row)}\n`).join("")),
      ),
    metrics: (id) => readRows(join(folder(id), METRICS)),
    clearMetrics: (id) => inOrder(`${id} metrics`, () => rm(join(folder(id), METRICS), { force: true })),
    async flush() {
      clearTimeout(indexDue);
      await Promise.allSettled([...pending.values(), writeIndex()]);
    },
  };

  for (const record of records.values()) {
    if (record.state !== "running") continue;
    const metrics = (await store.metrics(record.id)).length;
    await store.save({ ...record, state: "interrupted", metrics, ended: Date.now() });
  }
  return store;
}

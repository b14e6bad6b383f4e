/** The queue: jobs one after the other, each in a process of its own, so that the server always answers. */
import { mkdir } from "node:fs/promises";
import type { GivenFile, JobRecord } from "../api-types.ts";
import type { CatalogSettings } from "../tool.ts";
import { HttpError } from "./http-error.ts";
import type { FromWorker, JobOrder } from "./messages.ts";
import { startWorker, type WorkerProcess } from "./process.ts";
import { isSettled, type JobStore, newJobId } from "./store.ts";

/** Jobs that may wait. */
const MAX_QUEUED = 100;
/** How long a job may take to stop, in milliseconds; training saves a checkpoint first. */
const GRACE = { cancel: 10_000, pause: 60_000 } as const;
/** Milliseconds between two writes of a running job's progress. */
const PROGRESS_SAVED_EVERY = 2000;
const MAX_MESSAGES = 100;

export interface QueueOptions {
  readonly store: JobStore;
  /** Jobs at a time. */
  readonly concurrency: number;
  readonly catalog: string;
  readonly settings: CatalogSettings;
  /** File of an uploaded picture. */
  readonly inputPath: (hash: string) => Promise<string | undefined>;
  /** File of a checkpoint by name. */
  readonly checkpointPath: (tool: string, checkpoint: string) => Promise<string | undefined>;
  readonly onChange: (id: string) => void;
}

/** What a new job is made of. */
export type NewJob = Pick<
  JobRecord,
  "tool" | "task" | "title" | "subject" | "inputs" | "options" | "checkpoint" | "resumable"
>;

type Wish = "cancelled" | "paused" | "interrupted";

export interface Queue {
  add(job: NewJob): Promise<JobRecord>;
  cancel(id: string): Promise<JobRecord>;
  pause(id: string): Promise<JobRecord>;
  resume(id: string): Promise<JobRecord>;
  remove(id: string): Promise<void>;
  /** Takes back a job that was just removed. */
  restore(id: string): Promise<JobRecord>;
  readonly running: number;
  readonly queued: number;
  /** Stops everything; what can be resumed can be resumed after the next start. */
  close(): Promise<void>;
}

export function openQueue(options: QueueOptions): Queue {
  const { store, concurrency, catalog, settings, inputPath, checkpointPath, onChange } = options;
  const running = new Map<string, WorkerProcess>();
  /** Jobs that have a place: those that run, and those whose process is about to start. */
  const placed = new Set<string>();
  const wishes = new Map<string, { wish: Wish; grace: number }>();
  const runs = new Set<Promise<void>>();
  let closing = false;

  const need = (id: string): JobRecord => {
    const record = store.get(id);
    if (!record) throw new HttpError(404, `there is no job ${id}`);
    return record;
  };

  async function change(id: string, fields: Partial<JobRecord>): Promise<JobRecord> {
    const record = { ...need(id), ...fields };
    await store.save(record);
    onChange(id);
    return record;
  }

  /** Changes the memory's record at once and the disk's later. */
  function touch(id: string, fields: Partial<JobRecord>): void {
    const record = store.get(id);
    if (!record) return;
    store.touch({ ...record, ...fields });
    onChange(id);
  }

  async function orderOf(record: JobRecord): Promise<JobOrder> {
    const { id, tool, task, options: given, checkpoint, artifacts } = record;
    const located = async (name: string, file: GivenFile) => {
      const path = await inputPath(file.hash);
      if (!path) throw new HttpError(409, `the file of "${name}" is not there any more`);
      return { ...file, path };
    };
    const inputs: Record<string, JobOrder["inputs"][string]> = {};
    for (const [name, files] of Object.entries(record.inputs))
      inputs[name] = await Promise.all(files.map((file) => located(name, file)));
    const checkpointFile = checkpoint === undefined ? undefined : await checkpointPath(tool, checkpoint);
    if (checkpoint !== undefined && !checkpointFile)
      throw new HttpError(409, `the checkpoint "${checkpoint}" is not there any more`);
    const folder = store.folder(id);
    await mkdir(folder, { recursive: true });
    return { id, tool, task, folder, inputs, options: given, checkpoint, artifacts, checkpointFile };
  }

  function hear(id: string, savedAt: { time: number }, message: Exclude<FromWorker, { type: "end" }>): void {
    const record = store.get(id);
    if (!record) return;
    if (message.type === "progress") {
      touch(id, { progress: message.progress });
      if (Date.now() - savedAt.time < PROGRESS_SAVED_EVERY) return;
      savedAt.time = Date.now();
      store.save(store.get(id)!).catch(() => {});
    } else if (message.type === "preview") touch(id, { preview: record.preview + 1 });
    else if (message.type === "message")
      touch(id, { messages: [...record.messages, message.text].slice(-MAX_MESSAGES) });
    else if (message.type === "artifact") {
      const artifacts = [...record.artifacts];
      artifacts[message.index] = message.artifact; // a new one, or a newer version
      touch(id, { artifacts });
      store.save(store.get(id)!).catch(() => {});
    } else {
      const { rows } = message;
      store.addMetrics(id, rows).then(
        () => touch(id, { metrics: (store.get(id)?.metrics ?? 0) + rows.length }),
        (error) => touch(id, { messages: [...record.messages, `curves: ${(error as Error).message}`] }),
      );
    }
  }

  async function run(record: JobRecord): Promise<void> {
    const { id } = record;
    const started = Date.now();
    try {
      const job = await orderOf(record);
      await store.clearMetrics(id); // a run that goes on tells its curves anew
      await change(id, { state: "running", started, error: undefined, ended: undefined, metrics: 0 });
      const savedAt = { time: started };
      const worker = startWorker({ type: "job", catalog, settings, job }, (message) =>
        hear(id, savedAt, message),
      );
      running.set(id, worker);
      const early = wishes.get(id);
      if (early) worker.abort(early.grace);
      const end = await worker.ended;
      running.delete(id);
      await store.addMetrics(id, []); // those before it are written by then
      const wished = end.how !== "done" && wishes.get(id)?.wish;
      const state = wished || (end.how === "done" ? "done" : "failed");
      const error = !wished && end.how === "failed" ? end.error : undefined;
      const seconds = record.seconds + (Date.now() - started) / 1000;
      if (store.get(id)) await change(id, { state, error, seconds, stopping: undefined, ended: Date.now() });
    } catch (error) {
      if (store.get(id))
        await change(id, {
          ...{ state: "failed", error: (error as Error).message, stopping: undefined, ended: Date.now() },
        });
    } finally {
      running.delete(id);
      placed.delete(id);
      wishes.delete(id);
      pump();
    }
  }

  const waiting = (): JobRecord[] =>
    store
      .list()
      .filter((r) => r.state === "queued" && !placed.has(r.id))
      .reverse();

  function pump(): void {
    if (closing) return;
    for (const record of waiting()) {
      if (placed.size >= concurrency) return;
      placed.add(record.id);
      const work = run(record).finally(() => runs.delete(work));
      runs.add(work);
    }
  }

  function stop(id: string, wish: Wish, grace: number): JobRecord {
    wishes.set(id, { wish, grace });
    touch(id, { stopping: wish });
    running.get(id)?.abort(grace);
    return need(id);
  }

  pump();
  return {
    get running() {
      return running.size;
    },
    get queued() {
      return waiting().length;
    },
    async add(job) {
      if (waiting().length >= MAX_QUEUED)
        throw new HttpError(429, `${MAX_QUEUED} jobs are waiting already; cancel some or try again later`);
      const created = Date.now();
      const fresh = {
        state: "queued",
        created,
        seconds: 0,
        preview: 0,
        artifacts: [],
        metrics: 0,
        messages: [],
      };
      const record = { id: newJobId(created), ...job, ...fresh } as JobRecord;
      await store.save(record);
      onChange(record.id);
      pump();
      return need(record.id);
    },
    async cancel(id) {
      const record = need(id);
      if (record.state === "running" || (record.state === "queued" && placed.has(id)))
        return stop(id, "cancelled", GRACE.cancel);
      else if (record.state === "queued" || record.state === "paused")
        return change(id, { state: "cancelled", ended: Date.now() });
      else if (isSettled(record)) throw new HttpError(409, `this job is ${record.state} already`);
      return record;
    },
    async pause(id) {
      const record = need(id);
      if (!record.resumable) throw new HttpError(409, "this kind of job cannot be paused; cancel it instead");
      if (record.state === "queued" && !placed.has(id)) return change(id, { state: "paused" });
      if (record.state !== "running") throw new HttpError(409, `this job is ${record.state}`);
      return stop(id, "paused", GRACE.pause);
    },
    async resume(id) {
      const record = need(id);
      if (!record.resumable) throw new HttpError(409, "this kind of job cannot be resumed; run it again");
      if (record.state === "done" || !isSettled(record))
        throw new HttpError(409, `this job is ${record.state}`);
      await change(id, { state: "queued", error: undefined });
      pump();
      return need(id);
    },
    async remove(id) {
      const record = need(id);
      if (!isSettled(record) || running.has(id))
        throw new HttpError(409, `this job is ${record.state}; cancel it first`);
      await store.remove(id);
      onChange(id);
    },
    async restore(id) {
      const record = await store.restore(id);
      if (!record) throw new HttpError(404, "this job is gone for good");
      onChange(id);
      return record;
    },
    async close() {
      closing = true;
      for (const id of placed) stop(id, "interrupted", GRACE.pause);
      await Promise.all(runs);
    },
  };
}

/**
 * A study: models and measurements that are made once and kept in a folder. A file is called NAME-ID, and ID is a fingerprint
 * of everything that decides the result, so other settings are another file: a result can be missing, never false.
 */
import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AbortError, ArgumentError, LifetimeError } from "../errors.ts";
import { lockDirectory } from "../io/directory-lock.ts";
import type { Work } from "../work.ts";
import { canonical, fileFingerprint, fingerprint } from "./fingerprint.ts";
import {
  type CellRecord,
  codeVersion,
  decoded,
  encoded,
  type Provenance,
  readRecord,
  thisMachine,
  writeRecord,
} from "./record.ts";
import { partOf, shardOf } from "./shard.ts";

/** What a cell holds, and what it is called. Give it as `from` to the cells that are made of it. */
export interface Made<T> {
  readonly value: T;
  readonly name: string;
  readonly id: string;
  /** When it was made, in ISO 8601. */
  readonly date: string;
}

/** What decides a cell beside its name and the study's version. */
export interface CellInputs {
  /**
   * Plain data: settings as they are, fingerprints of data, of feature extractors and of other files. Everything that
   * would change the result belongs here; what does not (threads, folders) does not.
   */
  readonly given?: object;
  /** Cells that it is made of: their ids count. */
  readonly from?: readonly Made<unknown>[];
}

export interface ModelCell<M> extends CellInputs {
  /** Makes the model; `folder` is its own, for the checkpoints of a training that may be stopped and go on. */
  make(folder: string): Work<M>;
  /** Writes a model that was made. */
  save(path: string, model: M): Promise<void>;
  /** Reads one that was made before. */
  load(path: string): Promise<M>;
  /** Ending of its file. Default ".safetensors". */
  readonly ending?: string;
}

export interface MeasureCell<T> extends CellInputs {
  /** Numbers, texts, lists and objects. */
  measure(): Promise<T> | Work<T>;
}

/** A folder of models and measurements, each made once. */
export interface Study {
  /** A trained model: made when there is none. What is returned was read from its file, the first time as well. */
  model<M extends object>(name: string, cell: ModelCell<M>): Work<Made<M>>;
  /** A measurement: made when there is none. */
  measure<T>(name: string, cell: MeasureCell<T>): Work<Made<T>>;
  /**
   * The part of a list that this process is to do, with `shard`; without, all of it. The list must be the same everywhere.
   * When all shards are done, a run without `shard` finds everything and writes the page.
   */
  share<C>(items: readonly C[]): readonly C[];
  /** Whether this is one shard of several, which sees only a part of the results. */
  readonly partial: boolean;
  /** Everything that was asked for so far, in order, each once. */
  readonly used: readonly Provenance[];
}

/** Options of `openStudy`. */
export interface StudyOptions {
  /** Raised by hand when the same settings give other numbers than before: a mended error, another algorithm. */
  readonly version: number;
  /** `I/N`: this process does only its share. */
  readonly shard?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Milliseconds between two looks whether another process is done with a cell. */
const WAIT = 500;

/** A name as part of a file name. */
const inFileName = (name: string): string =>
  name
    .replaceAll(/[^\p{L}\p{N}._]+/gu, "-")
    .replaceAll(/^[-.]+|-+$/g, "")
    .slice(0, 80) || "cell";

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

/** Takes a cell for this process; waits while another one, also of a study in the same folder, makes it. */
async function* claimed(folder: string, stem: string, signal?: AbortSignal): Work<() => Promise<void>> {
  const place = join(folder, "claims", stem);
  for (let said = false; ; ) {
    if (signal?.aborted) throw new AbortError();
    try {
      await mkdir(place, { recursive: true });
      const release = await lockDirectory(place);
      return async () => {
        await release();
        await rmdir(place).catch(() => undefined); // another process waits in it, or has removed it
      };
    } catch (error) {
      if (isGone(error)) continue; // the one before has just removed the folder
      if (!(error instanceof LifetimeError)) throw error;
      if (!said) yield { type: "message", text: `${stem}: waiting, ${error.message}` };
      said = true;
      await delay(WAIT, undefined, { signal }).catch(() => undefined);
    }
  }
}

/** How a kind of cell is read from what lies on the disk, and made. */
interface Kind<T> {
  /** The value, or undefined when what lies there is not what was written. */
  read(record: CellRecord, stem: string): Promise<{ value: T } | undefined>;
  /** Makes it and returns the record's content. */
  make(stem: string): Work<unknown>;
}

/** Opens a study in a folder, which is made when it is not there. @throws ArgumentError for a shard or version that is none */
export async function openStudy(folder: string, options: StudyOptions): Promise<Study> {
  const { version, signal } = options;
  if (!Number.isInteger(version) || version < 1)
    throw new ArgumentError(`study: expected a version from 1 up, got ${version}`);
  const shard = options.shard === undefined ? undefined : shardOf(options.shard);
  await mkdir(folder, { recursive: true });
  const used = new Map<string, Provenance>();

  async function* cell<T>(kind: string, name: string, inputs: CellInputs, does: Kind<T>): Work<Made<T>> {
    const { given = {}, from = [] } = inputs;
    const sources = from.map((made) => `${made.name} ${made.id}`);
    const id = fingerprint({ kind, name, version, given, from: sources });
    const stem = `${inFileName(name)}-${id}`;
    const path = join(folder, `${stem}.json`);
    const look = async (): Promise<{ record: CellRecord; value: T } | "damaged" | undefined> => {
      const record = await readRecord(path, id);
      if (record === undefined || record === "damaged") return record;
      const found = await does.read(record, stem);
      return found ? { record, ...found } : "damaged";
    };
    let found = await look();
    if (found === "damaged") yield { type: "warning", text: `${stem}: damaged, and made anew` };
    if (found === undefined || found === "damaged") {
      const release = yield* claimed(folder, stem, signal);
      try {
        found = await look(); // another process may have made it
        if (found === undefined || found === "damaged") {
          const content = yield* does.make(stem);
          await writeRecord(path, {
            name,
            id,
            date: new Date().toISOString(),
            machine: thisMachine(),
            code: codeVersion(version),
            given: canonical(given),
            from: sources,
            content,
          });
          found = await look();
        }
      } finally {
        await release();
      }
    }
    if (found === undefined || found === "damaged")
      throw new ArgumentError(`study: ${stem} was made, but what was written cannot be read`);
    const { record, value } = found;
    const { date, machine, code } = record;
    used.set(id, { name, id, date, machine, code });
    return { value, name, id, date };
  }

  return {
    model: <M extends object>(
      name: string,
      { make, save, load, ending = ".safetensors", ...inputs }: ModelCell<M>,
    ) => {
      if (ending === ".json")
        throw new ArgumentError(`study: ${name} cannot end in .json, as its record does`);
      return cell<M>("model", name, inputs, {
        async read({ content }, stem) {
          const path = join(folder, stem + ending);
          const whole = await fileFingerprint(path).then(
            (print) => print === content,
            (error) => {
              if (isGone(error)) return false;
              throw error;
            },
          );
          return whole ? { value: await load(path) } : undefined;
        },
        async *make(stem) {
          const own = join(folder, `${stem}-run`);
          await mkdir(own, { recursive: true });
          const path = join(folder, stem + ending);
          await save(path, yield* make(own));
          await rmdir(own).catch(() => undefined); // stays when something is in it
          return await fileFingerprint(path);
        },
      });
    },
    measure: <T>(name: string, { measure, ...inputs }: MeasureCell<T>) =>
      cell<T>("measure", name, inputs, {
        read: async ({ content }) => ({ value: decoded(content) as T }),
        async *make() {
          yield { type: "progress", stage: name, done: 0, total: 1 };
          const work = measure();
          const value = Symbol.asyncIterator in work ? yield* work : await work;
          yield { type: "progress", stage: name, done: 1, total: 1 };
          return encoded(value, name);
        },
      }),
    share: (items) => (shard ? partOf(items, shard) : items),
    partial: shard !== undefined && shard.count > 1,
    get used() {
      return [...used.values()];
    },
  };
}

/** Where weights come from: one interface over files, shards and renamed checkpoints; values are read one by one. */
import { stat } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import {
  decodeFloat8,
  type HostTensor,
  isRawTensor,
  openSafetensors,
  openSharded,
  type StoredTensor,
} from "../io/index.ts";
import {
  changed,
  changedShape,
  concatRows,
  type KeyRule,
  type Layout,
  splitRows,
  type Translation,
  translateKey,
} from "./key-maps/engine.ts";

/** What a header says of a tensor. */
export interface WeightEntry {
  /** Name in safetensors, such as `F16`. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** Tensors by name, none of which has been read yet. */
export interface WeightSource {
  /** Name for messages. */
  readonly path: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly entries: ReadonlyMap<string, WeightEntry>;
  /** The values of one tensor. @throws ArgumentError for a name that is not there */
  read(name: string): Promise<HostTensor>;
  /** Closes its files. */
  close(): Promise<void>;
}

/** 8-bit floats are widened; anything else that has no tensor type here is refused. */
function asHost(path: string, name: string, t: StoredTensor): HostTensor {
  if (!isRawTensor(t)) return t;
  if (t.dtype === "F8_E4M3" || t.dtype === "F8_E5M2") return decodeFloat8(t);
  throw new FormatError(`${path}: tensor "${name}" is of type ${t.dtype}, which no network here uses`);
}

/** Opens a safetensors file, or shards by their `….safetensors.index.json`. Close the result when done. */
export async function openWeights(path: string): Promise<WeightSource> {
  const reader = await (/\.json$/i.test(path) ? openSharded(path) : openSafetensors(path));
  return {
    path,
    metadata: reader.metadata,
    entries: reader.entries,
    read: async (name) => asHost(path, name, await reader.read(name)),
    close: () => reader.close(),
  };
}

/** Tensors in memory as a source, for models that are not in a file. */
export function weightsInMemory(
  tensors: ReadonlyMap<string, HostTensor>,
  entryOf: (t: HostTensor) => WeightEntry,
  path = "memory",
): WeightSource {
  return {
    path,
    metadata: new Map(),
    entries: new Map([...tensors].map(([name, t]) => [name, entryOf(t)])),
    read: async (name) => {
      const t = tensors.get(name);
      if (!t) throw new ArgumentError(`${path}: no tensor is named "${name}"`);
      return t;
    },
    close: async () => undefined,
  };
}

/** A part of a source, or a source under other names. Closing it leaves the source open. */
export interface RenamedSource extends WeightSource {
  /** Full names that lie in this part but that no rule knows. */
  readonly unknown: readonly string[];
}

interface RenamedEntry extends WeightEntry {
  read(): Promise<HostTensor>;
}

/** How the names of a source change. */
export interface RenameOptions {
  readonly rules: readonly KeyRule[];
  readonly to: Layout;
  /** Only names below this one count, and lose it. */
  readonly from?: string;
  /** Put before every new name. */
  readonly below?: string;
}

/** The same values under the names (and in the shapes) of another layout. Only headers are looked at now. */
export function renamed(source: WeightSource, options: RenameOptions): RenamedSource {
  const { rules, to, from = "", below = "" } = options;
  const [head, lead] = [from && `${from}.`, below && `${below}.`];
  const entries = new Map<string, RenamedEntry>();
  const unknown: string[] = [];
  for (const name of source.entries.keys()) {
    if (!name.startsWith(head)) continue;
    const translation = translateKey(name.slice(head.length), rules, to);
    const sources = translation?.sources.map((s) => head + s) ?? [];
    if (!translation || sources.some((s) => !source.entries.has(s))) unknown.push(name);
    else if (sources[0] === name)
      for (const [target, entry] of renamedEntries(source, sources, translation, to))
        entries.set(lead + target, entry);
  }
  return {
    path: source.path,
    metadata: source.metadata,
    entries,
    unknown,
    read: async (name) => {
      const entry = entries.get(name);
      if (!entry) throw new ArgumentError(`${source.path}: no tensor is named "${name}" after renaming`);
      return entry.read();
    },
    close: async () => undefined,
  };
}

function* renamedEntries(
  source: WeightSource,
  sources: readonly string[],
  { targets, change }: Translation,
  to: Layout,
): Generator<[string, RenamedEntry]> {
  const name = sources[0]!;
  const first = source.entries.get(name)!;
  if (sources.length > 1) {
    const rows = sources.reduce((n, s) => n + (source.entries.get(s)!.shape[0] ?? 0), 0);
    const shape = [rows, ...first.shape.slice(1)];
    const read = async (): Promise<HostTensor> => {
      const parts: HostTensor[] = [];
      for (const s of sources) parts.push(await source.read(s));
      return changed(name, concatRows(name, parts), change, to);
    };
    yield [targets[0]!, { dtype: first.dtype, shape: changedShape(name, shape, change, to), read }];
    return;
  }
  const whole = changedShape(name, first.shape, change, to);
  const shape = targets.length > 1 ? [whole[0]! / targets.length, ...whole.slice(1)] : whole;
  const parts = sharedReads(targets.length, async () =>
    splitRows(name, changed(name, await source.read(name), change, to), targets.length),
  );
  for (const [i, target] of targets.entries()) {
    const read =
      targets.length > 1
        ? async () => (await parts())[i]!
        : async () => changed(name, await source.read(name), change, to);
    yield [target, { dtype: first.dtype, shape, read }];
  }
}

/** One read serves that many askers, whose results are views of it; then it is forgotten. */
function sharedReads<T>(askers: number, read: () => Promise<T>): () => Promise<T> {
  let pending: Promise<T> | undefined;
  let asked = 0;
  return () => {
    pending ??= read();
    const result = pending;
    if (++asked % askers === 0) pending = undefined;
    return result;
  };
}

/** Some entries under other names, or left out where `rename` gives undefined. */
export function selected(
  source: WeightSource,
  rename: (name: string) => string | undefined,
  entryOf: (entry: WeightEntry) => WeightEntry = (entry) => entry,
): WeightSource {
  const names = new Map<string, string>();
  for (const name of source.entries.keys()) {
    const as = rename(name);
    if (as !== undefined) names.set(as, name);
  }
  return {
    ...source,
    entries: new Map([...names].map(([as, name]) => [as, entryOf(source.entries.get(name)!)])),
    read: (as) => source.read(names.get(as) ?? as),
    close: async () => undefined,
  };
}

/** Several sources as one. @throws {FormatError} when two hold the same name */
export function merged(path: string, sources: readonly WeightSource[]): WeightSource {
  const owner = new Map<string, WeightSource>();
  for (const source of sources) {
    for (const name of source.entries.keys()) {
      if (owner.has(name)) throw new FormatError(`${path}: two parts hold a tensor "${name}"`);
      owner.set(name, source);
    }
  }
  return {
    path,
    metadata: new Map(sources.flatMap((s) => [...s.metadata])),
    entries: new Map([...owner].map(([name, source]) => [name, source.entries.get(name)!])),
    read: async (name) => {
      const source = owner.get(name);
      if (!source) throw new ArgumentError(`${path}: no tensor is named "${name}"`);
      return source.read(name);
    },
    close: async () => {
      for (const source of sources) await source.close();
    },
  };
}

/** Whether something is there, and what. */
export async function kindOfPath(path: string): Promise<"file" | "folder" | undefined> {
  try {
    return (await stat(path)).isDirectory() ? "folder" : "file";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * Run directory of a training: checkpoints that survive a crash, a kill or a power failure at any moment.
 *
 * A save writes `step-000123.tmp/` with its files and a manifest, flushes them, renames the folder to
 * `step-000123`, flushes the parent, and only then removes old checkpoints. Loading takes the newest folder whose
 * manifest verifies.
 */

import { join, mkdir, readdir, rename, rm } from "#node";
import { ArgumentError, FormatError, LifetimeError } from "../errors.ts";
import { syncDirectory } from "./atomic.ts";
import { lockDirectory } from "./directory-lock.ts";
import { isPlainFileName } from "./file-names.ts";
import { quote } from "./json-scanner.ts";
import { type FileDigest, MANIFEST_NAME, verifyManifest, writeDigested, writeManifest } from "./manifest.ts";
import { type NamedTensors, safetensorsChunks } from "./safetensors.ts";

/** A file of a checkpoint: bytes, or tensors to be stored as safetensors without a second copy. */
export type CheckpointFile =
  | Uint8Array
  | { readonly tensors: NamedTensors; readonly metadata?: Readonly<Record<string, string>> };

/** A checkpoint folder that was passed over, and why. */
export interface SkippedCheckpoint {
  readonly directory: string;
  readonly reason: string;
}

/** A checkpoint whose manifest verified. */
export interface Checkpoint {
  readonly step: number;
  readonly directory: string;
  /** Names of its files. */
  readonly files: readonly string[];
  /** Newer folders that were damaged, and saves that never finished. */
  readonly skipped: readonly SkippedCheckpoint[];
}

/** A run directory held by this process. */
export interface RunDirectory {
  /**
   * Saves a checkpoint and returns its folder once it is safely on the disk. A step that exists is replaced. Saves
   * are done one after the other. When a save fails, the earlier checkpoints stay as they were.
   */
  save(step: number, files: Readonly<Record<string, CheckpointFile>>): Promise<string>;
  /** As {@link latestCheckpoint}. */
  latest(): Promise<Checkpoint | undefined>;
  /** Waits for a running save and releases the lock. */
  close(): Promise<void>;
}

/** `step-000123`, or `step-000123.replaced` while a save of the same step takes its place. */
const STEP_FOLDER = /^step-(\d{6,16})(\.replaced)?$/;
const UNFINISHED = /^step-\d{6,16}(?:\.replaced)?\.tmp$/;

const folderName = (step: number): string => `step-${String(step).padStart(6, "0")}`;

/**
 * Opens a run directory, creates it when needed, and locks it against other processes. The lock of a dead process
 * is taken over.
 *
 * @param options `keep`: how many checkpoints to keep, 1 or more; `takeOverLock`: also take over a lock of another
 * machine, whose process cannot be looked up from here
 * @throws {LifetimeError} when a live process holds the directory; the message names its process id
 */
export async function openRunDirectory(
  path: string,
  { keep, takeOverLock = false }: { keep: number; takeOverLock?: boolean },
): Promise<RunDirectory> {
  if (!Number.isSafeInteger(keep) || keep < 1)
    throw new ArgumentError(`expected keep of 1 or more, got ${keep}`);
  await mkdir(path, { recursive: true });
  const unlock = await lockDirectory(path, { takeOver: takeOverLock });
  let queue: Promise<unknown> = Promise.resolve();
  let closing: Promise<void> | undefined;
  return {
    save(step, files) {
      if (closing !== undefined) return Promise.reject(new LifetimeError(`${path}: save after close()`));
      const saved = queue.then(() => save(path, step, files, keep));
      queue = saved.catch(() => undefined); // a failed save must not stop the next one
      return saved;
    },
    latest: () => latestCheckpoint(path),
    close() {
      closing ??= queue.then(unlock);
      return closing;
    },
  };
}

/**
 * The newest checkpoint of a run directory whose files match their manifest; needs no lock. `undefined` when there
 * is none at all.
 *
 * @throws {FormatError} when there are checkpoints but every one is damaged: starting anew would hide the loss
 */
export async function latestCheckpoint(path: string): Promise<Checkpoint | undefined> {
  const names = await readdir(path);
  const skipped: SkippedCheckpoint[] = names
    .filter((name) => UNFINISHED.test(name))
    .map((name) => ({ directory: join(path, name), reason: "its save or removal never finished" }));
  const damaged: SkippedCheckpoint[] = [];
  for (const { name, step } of newestFirst(names)) {
    const directory = join(path, name);
    try {
      const { files } = await verifyManifest(directory, step);
      return { step, directory, files: [...files.keys()], skipped: [...damaged, ...skipped] };
    } catch (error) {
      damaged.push({ directory, reason: (error as Error).message });
    }
  }
  if (damaged.length === 0) return undefined;
  const reasons = damaged.map(({ directory, reason }) => `${directory}: ${reason}`).join("; ");
  throw new FormatError(`${path}: no checkpoint is intact: ${reasons}`);
}

interface StepFolder {
  readonly name: string;
  readonly step: number;
}

/** Checkpoint folders by descending step; of two with one step, the replaced one is older and comes second. */
function newestFirst(names: readonly string[]): StepFolder[] {
  const folders: (StepFolder & { replaced: boolean })[] = [];
  for (const name of names) {
    const match = STEP_FOLDER.exec(name);
    if (match) folders.push({ name, step: Number(match[1]), replaced: match[2] !== undefined });
  }
  return folders.sort((a, b) => b.step - a.step || Number(a.replaced) - Number(b.replaced));
}

async function save(
  path: string,
  step: number,
  files: Readonly<Record<string, CheckpointFile>>,
  keep: number,
): Promise<string> {
  if (!Number.isSafeInteger(step) || step < 0)
    throw new ArgumentError(`expected a step of 0 or more, got ${step}`);
  for (const name of Object.keys(files)) {
    if (!isPlainFileName(name) || name === MANIFEST_NAME) {
      throw new ArgumentError(`expected a plain file name other than ${MANIFEST_NAME}, got ${quote(name)}`);
    }
  }
  await removeUnfinished(path);
  const name = folderName(step);
  const temporary = join(path, `${name}.tmp`);
  try {
    await fill(temporary, step, files);
    await moveAside(path, name, step);
    await rename(temporary, join(path, name));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined); // report the first error
    throw error;
  }
  await syncDirectory(path);
  await prune(path, name, keep);
  return join(path, name);
}

async function fill(
  folder: string,
  step: number,
  files: Readonly<Record<string, CheckpointFile>>,
): Promise<void> {
  await mkdir(folder);
  const digests = new Map<string, FileDigest>();
  for (const [name, file] of Object.entries(files)) {
    const content = file instanceof Uint8Array ? file : safetensorsChunks(file.tensors, file.metadata);
    digests.set(name, await writeDigested(join(folder, name), content));
  }
  await writeManifest(folder, step, digests);
  await syncDirectory(folder);
}

/**
 * Makes room for a step that exists. An intact folder is renamed, not removed, so that at every moment one of the
 * two is there to be loaded.
 */
async function moveAside(path: string, name: string, step: number): Promise<void> {
  const current = join(path, name);
  const replaced = `${current}.replaced`;
  const intact = await verifyManifest(current, step).then(
    () => true,
    () => false,
  );
  if (!intact) return rm(current, { recursive: true, force: true });
  await rm(replaced, { recursive: true, force: true });
  await rename(current, replaced);
}

/** Removes all checkpoints but the one just saved and the newest others, `keep` in all; damaged ones do not count. */
async function prune(path: string, saved: string, keep: number): Promise<void> {
  let kept = 1;
  for (const { name, step } of newestFirst(await readdir(path))) {
    if (name === saved) continue;
    const superseded = name === `${saved}.replaced`;
    if (!superseded && kept < keep) {
      const intact = await verifyManifest(join(path, name), step, { digests: false }).then(
        () => true,
        () => false,
      );
      if (intact) kept++;
      continue;
    }
    // Renamed first, so that a half-removed folder is never taken for a checkpoint.
    const condemned = join(path, `${name}.tmp`);
    await rename(join(path, name), condemned);
    await rm(condemned, { recursive: true, force: true });
  }
}

async function removeUnfinished(path: string): Promise<void> {
  for (const name of await readdir(path)) {
    if (UNFINISHED.test(name)) await rm(join(path, name), { recursive: true, force: true });
  }
}

/**
 * A lock against two processes that write into one folder. Each holder or contender owns one file
 * `.lock-<random>` that names its process. Every contender first creates its file and then looks for others, so of
 * two that race at least one sees the other and gives way. Files of dead processes are removed on the way.
 */

import { delay, hostname, join, randomBytes, readdir, readFile, rm } from "#node";
import { LifetimeError } from "../errors.ts";
import { writeFileAtomic } from "./atomic.ts";

const LOCK_FILE = /^\.lock-[0-9a-f]{16}$/;
/** Tries before giving up: two processes that start together both give way and must both try again. */
const TRIES = 4;
/** Longest pause between tries, in milliseconds; random, so that one of two racers comes first. */
const MAX_PAUSE = 100;

interface Owner {
  readonly pid: number;
  readonly host: string;
  /** When the process started, in an opaque form; `""` where the system does not tell. */
  readonly started: string;
}

/** Lock files of this process, to tell them from those of an earlier process with the same id. */
const held = new Set<string>();

/**
 * Takes the lock of a folder.
 *
 * @param options `takeOver`: also take over locks of other machines, whose processes cannot be looked up from here
 * @returns a function that releases the lock
 * @throws {LifetimeError} naming the process that holds the lock
 */
export async function lockDirectory(
  folder: string,
  { takeOver = false }: { takeOver?: boolean } = {},
): Promise<() => Promise<void>> {
  for (let attempt = 1; ; attempt++) {
    const name = `.lock-${randomBytes(8).toString("hex")}`;
    const path = join(folder, name);
    held.add(name);
    let holder: string | undefined;
    try {
      const owner: Owner = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
      await writeFileAtomic(path, new TextEncoder().encode(`${JSON.stringify(owner)}\n`));
      holder = await findHolder(folder, name, takeOver);
    } catch (error) {
      await release(path, name);
      throw error;
    }
    if (holder === undefined) return () => release(path, name);
    await release(path, name);
    if (attempt === TRIES) throw new LifetimeError(`${folder} is in use by ${holder}`);
    await delay(Math.random() * MAX_PAUSE);
  }
}

async function release(path: string, name: string): Promise<void> {
  await rm(path, { force: true });
  held.delete(name);
}

/** Describes another live holder, if there is one, and removes the files of dead ones. */
async function findHolder(folder: string, own: string, takeOver: boolean): Promise<string | undefined> {
  for (const name of await readdir(folder)) {
    if (name === own || !LOCK_FILE.test(name)) continue;
    const path = join(folder, name);
    const owner = await readOwner(path);
    if (owner === "gone") continue;
    if (owner === undefined)
      return `an unknown process: the lock file ${path} is unreadable. If none runs, delete it`;
    const here = owner.host === hostname();
    if (here ? await isAlive(owner, name) : !takeOver) {
      const advice = here
        ? ""
        : ` (lock file ${path}; if that process is gone, take the lock over or delete the file)`;
      return `process ${owner.pid} on ${here ? "this machine" : `machine ${owner.host}`}${advice}`;
    }
    await rm(path, { force: true });
  }
  return undefined;
}

async function readOwner(path: string): Promise<Owner | "gone" | undefined> {
  try {
    const value = JSON.parse(await readFile(path, "utf8")) as Partial<Owner> | null;
    const { pid, host, started } = value ?? {};
    const valid =
      Number.isSafeInteger(pid) && pid! > 0 && typeof host === "string" && typeof started === "string";
    return valid ? { pid: pid!, host: host!, started: started! } : undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "gone" : undefined;
  }
}

async function isAlive({ pid, started }: Owner, name: string): Promise<boolean> {
  try {
    process.kill(pid, 0); // signal 0 only asks
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  // Process ids are used again, in containers even at once: compare the start as well where it is known.
  const now = await startOf(pid);
  if (started !== "" && now !== "") return started === now;
  return pid !== process.pid || held.has(name);
}

/** Boot id and start time of a process in clock ticks since boot; `""` outside Linux. */
async function startOf(pid: number): Promise<string> {
  try {
    const status = await readFile(`/proc/${pid}/stat`, "utf8");
    const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    // The second field is the command in parentheses and may hold spaces; the state is field 3, the start field 22.
    const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return "ended"; // killed, but its parent has not noticed yet
    return fields[19] === undefined ? "" : `${boot}/${fields[19]}`;
  } catch {
    return "";
  }
}

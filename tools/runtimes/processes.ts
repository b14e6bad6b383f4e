/** Processes of the matrix: installed by this user, run by another. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdir } from "node:fs/promises";

/** After this a process hangs, on the slowest machine and emulated. In milliseconds. */
const LIMIT = 600_000;

/** The user `nobody`: one who owns nothing and may write nowhere. Only root can become it. */
const NOBODY = 65534;
export const isRoot = process.getuid?.() === 0;

export interface Ended {
  /** Exit code, or the signal that ended it. */
  readonly code: number | string;
  readonly output: string;
  readonly seconds: number;
}

interface Start {
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  /** As `nobody`, with no home but `cwd`. */
  readonly unprivileged?: boolean;
}

/** Runs a process to its end. */
export async function run(command: string, args: readonly string[], start: Start): Promise<Ended> {
  const { cwd, env = {}, unprivileged = false } = start;
  const began = performance.now();
  const child = spawn(command, args, {
    cwd,
    timeout: LIMIT,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "pipe"],
    ...(unprivileged && isRoot && { uid: NOBODY, gid: NOBODY }),
    env: unprivileged
      ? { PATH: process.env.PATH, HOME: cwd, TMPDIR: cwd, NO_COLOR: "1", ...env }
      : { ...process.env, ...env },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data) => {
      output += data;
    });
  const [code, signal] = await once(child, "close").catch((error: Error) => [error.message, undefined]);
  return { code: code ?? signal, output, seconds: (performance.now() - began) / 1000 };
}

/** Installs packages into a folder of their own, without their scripts. @throws with npm's words */
export async function install(
  folder: string,
  packages: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const args = ["install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"];
  const { code, output } = await run("npm", [...args, ...options, ...packages], { cwd: folder });
  if (code !== 0) throw new Error(`npm could not install ${packages.join(", ")}:\n${output}`);
}

/** Changes the rights to all of a folder, as `chmod` writes them: `a-w` for what nobody may write to. */
export async function setRights(folder: string, mode: string): Promise<void> {
  const { code, output } = await run("chmod", ["-R", mode, folder], { cwd: folder });
  if (code !== 0) throw new Error(`chmod -R ${mode} ${folder}: ${output}`);
}

/** A new folder that `nobody` may write to. */
export async function folderForNobody(path: string): Promise<string> {
  await mkdir(path, { recursive: true });
  if (isRoot) await chown(path, NOBODY, NOBODY);
  return path;
}

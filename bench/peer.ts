/** Programs that the benchmarks compare with, and how a case is run in a process of its own. */
import { execFile, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** One side of a case: the best time, and the peak memory of its process. */
export interface Measured {
  readonly seconds: number;
  readonly peakBytes: number;
  readonly flops?: number;
  readonly version?: string;
}

/** The better time and the smaller memory of two runs. */
export const better = <T extends Measured>(a: T | undefined, b: T): T =>
  a && a.seconds <= b.seconds ? { ...a, peakBytes: Math.min(a.peakBytes, b.peakBytes) } : b;

/** The last line that a program of ours prints, as JSON. All of its sessions have so many threads. */
export async function runOurs<T>(
  script: string,
  args: readonly string[],
  { threads }: { readonly threads: number },
): Promise<T> {
  const program = ["--import", "tsx", path(script), ...args];
  const env = { ...process.env, TWEEDIE_THREADS: String(threads) };
  const { stdout } = await promisify(execFile)(process.execPath, program, { env });
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

/**
 * What a Python program prints, as JSON, after a request on its standard input. With `passive`, idle OpenMP threads
 * sleep: PyTorch builds whose matrix products come from another library with threads of its own need that to be fast.
 */
export async function runPython<T>(
  python: string,
  script: string,
  request: unknown,
  { passive = false } = {},
): Promise<T> {
  const env: NodeJS.ProcessEnv = { ...process.env, ...(passive && { OMP_WAIT_POLICY: "PASSIVE" }) };
  for (const name of ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]) delete env[name]; // they hold kernels back
  const child = spawn(python, [path(script)], { stdio: ["pipe", "pipe", "inherit"], env });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  child.stdin.end(JSON.stringify(request));
  let text = "";
  for await (const chunk of child.stdout) text += chunk;
  const code = await ended;
  if (code !== 0) throw new Error(`${script} ended with ${code}`);
  return JSON.parse(text);
}

/** A Python that has torch: TWEEDIE_PYTHON, or one on the path. */
export async function findTorch(): Promise<string | undefined> {
  for (const python of [process.env.TWEEDIE_PYTHON, "python3", "/usr/bin/python3"]) {
    if (!python) continue;
    const found = await promisify(execFile)(python, ["-c", "import torch"]).then(
      () => true,
      () => false,
    );
    if (found) return python;
  }
  console.error("PyTorch not found: set TWEEDIE_PYTHON to a Python that has it, to compare");
  return undefined;
}

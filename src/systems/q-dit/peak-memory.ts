/** Peak memory of drawing with a model, measured in a process of its own. The file is that process's program, too. */
import { fork } from "node:child_process";
import { createRequire } from "node:module";
import { extname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { drained } from "../../work.ts";
import { loadDiT } from "./model.ts";
import { draw } from "./use.ts";

const KIBIBYTE = 1024;

/** Draws a few pictures in two steps. */
async function drawOnce(file: string, count: number): Promise<void> {
  const { model } = await loadDiT(file);
  await drained(draw(model, { count, batch: count, steps: 2, seed: 0, threads: 1 }));
}

/** Bytes that a process holds at most while it reads a model and draws with it; Node and the runtime included. */
export function peakMemory(file: string, count: number): Promise<number> {
  const program = fileURLToPath(import.meta.url);
  const tsx = extname(program) === ".ts" ? [createRequire(import.meta.url).resolve("tsx")] : [];
  return new Promise((resolve, reject) => {
    const child = fork(program, [file, String(count)], {
      execArgv: tsx.flatMap((path) => ["--import", pathToFileURL(path).href]),
    });
    let bytes: number | undefined;
    child.on("message", (message) => {
      bytes = Number(message);
    });
    child.on("error", reject);
    child.on("exit", (code) => {
      if (code === 0 && bytes !== undefined) resolve(bytes);
      else reject(new Error(`peak memory of ${file}: the process that measures ended with code ${code}`));
    });
  });
}

if (process.send && fileURLToPath(import.meta.url) === process.argv[1]) {
  await drawOnce(process.argv[2]!, Number(process.argv[3]));
  process.send(process.resourceUsage().maxRSS * KIBIBYTE);
}

/** Starts the process of a job. */
import { type ChildProcess, fork } from "node:child_process";
import { createRequire } from "node:module";
import { extname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { FromWorker, ToWorker } from "./messages.ts";

export interface WorkerProcess {
  /** Ends the work after the step at hand; the process is ended when that takes longer than `graceMs`. */
  abort(graceMs: number): void;
  /** How it ended. */
  readonly ended: Promise<Extract<FromWorker, { type: "end" }>>;
}

/** What the end of a process's own output says is kept, for errors. */
const KEPT_OUTPUT = 4000;

/** Flags for Node: sources in TypeScript run through tsx. */
function execArgv(entry: string): string[] {
  if (extname(entry) !== ".ts") return [];
  return ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];
}

function whyEnded(
  code: number | null,
  signal: string | null,
  output: string,
): Extract<FromWorker, { type: "end" }> {
  const how = signal ? `by signal ${signal}` : `with exit code ${code}`;
  const memory = signal === "SIGKILL" ? "; was there too little memory?" : "";
  const last = output.trim().split("\n").at(-1) ?? "";
  const error = `the process of this job ended ${how}${memory}${last ? ` (${last})` : ""}`;
  return { type: "end", how: "failed", error, defect: true };
}

/** Starts a process, gives it its order, and passes on what it says. */
export function startWorker(
  order: Exclude<ToWorker, { type: "abort" }>,
  onMessage: (message: Exclude<FromWorker, { type: "end" }>) => void,
): WorkerProcess {
  const extension = extname(fileURLToPath(import.meta.url));
  const entry = fileURLToPath(new URL(`./worker${extension}`, import.meta.url));
  const child: ChildProcess = fork(entry, [], {
    execArgv: execArgv(entry),
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    serialization: "advanced",
  });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-KEPT_OUTPUT);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  const ended = new Promise<Extract<FromWorker, { type: "end" }>>((resolve) => {
    let end: Extract<FromWorker, { type: "end" }> | undefined;
    child.on("message", (message: FromWorker) => {
      if (message.type === "end") end = message;
      else onMessage(message);
    });
    child.on("error", (error) => resolve({ type: "end", how: "failed", error: error.message, defect: true }));
    child.on("close", (code, signal) => resolve(end ?? whyEnded(code, signal, output)));
  });
  child.send(order, () => {}); // a process that died before is reported by its end
  let killing: NodeJS.Timeout | undefined;
  return {
    ended,
    abort(graceMs) {
      if (child.connected) child.send({ type: "abort" } satisfies ToWorker, () => {});
      killing ??= setTimeout(() => child.kill("SIGKILL"), graceMs);
      void ended.then(() => clearTimeout(killing));
    },
  };
}

/** Runs `save-loop.child.ts` in a process of its own. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface Child {
  readonly pid: number;
  /** Everything that it printed so far. */
  output(): string;
  /** Resolves once it has printed the text. @throws when it ends before */
  printed(text: string): Promise<void>;
  /** Sends SIGKILL and waits for the end. */
  kill(): Promise<void>;
}

export function startChild(path: string, mode: "loop" | "hold"): Child {
  const script = fileURLToPath(new URL("./save-loop.child.ts", import.meta.url));
  const child: ChildProcess = spawn(process.execPath, ["--import", "tsx", script, path, mode]);
  let output = "";
  let errors = "";
  child.stdout!.on("data", (data) => (output += data));
  child.stderr!.on("data", (data) => (errors += data));
  const ended = once(child, "close");
  return {
    pid: child.pid!,
    output: () => output,
    async printed(text) {
      while (!output.includes(text)) {
        await Promise.race([once(child.stdout!, "data"), ended]);
        if (child.exitCode !== null && !output.includes(text)) throw new Error(`the child ended: ${errors}`);
      }
    },
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

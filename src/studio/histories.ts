/** Curves of trainings: what is appended to the `history.jsonl` files below a folder. */
import { open, readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { HISTORY_NAME } from "../report/index.ts";
import type { TaskEvent } from "./tool.ts";

type Metrics = Extract<TaskEvent, { type: "metrics" }>;

/** Milliseconds between two looks. */
const LOOK_EVERY = 1000;

function metricsOf(line: string, prefix: string): Metrics[] {
  try {
    const { step, ...values } = JSON.parse(line) as { step: number } & Record<string, number | null>;
    const known = Object.entries(values).filter((entry): entry is [string, number] => entry[1] !== null);
    return [{ type: "metrics", step, values: Object.fromEntries(known.map(([k, v]) => [prefix + k, v])) }];
  } catch {
    return []; // a line that is being written, or was cut off by a kill
  }
}

/**
 * Watches the files below a folder, from their beginnings: a run that goes on tells its curves anew, without what it lost
 * since its last checkpoint.
 */
export function watchHistories(folder: string) {
  const positions = new Map<string, number>();
  const lastStep = new Map<string, number>();
  let looked = 0;

  async function* read(path: string, prefix: string): AsyncGenerator<Metrics> {
    const file = await open(path).catch(() => undefined);
    if (!file) return;
    try {
      const { size } = await file.stat();
      const from = positions.get(path) ?? 0;
      const start = size < from ? 0 : from; // rewritten by a run that goes on from an earlier step
      const buffer = Buffer.alloc(size - start);
      await file.read(buffer, 0, buffer.length, start);
      const end = buffer.lastIndexOf(10) + 1;
      positions.set(path, start + end);
      for (const line of buffer.subarray(0, end).toString("utf8").split("\n")) {
        for (const row of line ? metricsOf(line, prefix) : []) {
          if (row.step < (lastStep.get(path) ?? 0)) continue;
          lastStep.set(path, row.step);
          yield row;
        }
      }
    } finally {
      await file.close();
    }
  }

  async function* all(): AsyncGenerator<Metrics> {
    const names = await readdir(folder, { recursive: true }).catch(() => [] as string[]);
    const paths = names.filter((name) => basename(name) === HISTORY_NAME).map((name) => join(folder, name));
    for (const path of paths.sort()) {
      const prefix =
        paths.length > 1 || basename(dirname(path)) !== "out" ? `${basename(dirname(path))} ` : "";
      yield* read(path, prefix);
    }
  }

  return {
    /** What is new, at most once a second; `now`: in any case. */
    async *rows(now = false): AsyncGenerator<Metrics> {
      if (!now && Date.now() - looked < LOOK_EVERY) return;
      looked = Date.now();
      yield* all();
    },
  };
}

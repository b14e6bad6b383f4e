/** The suite of the systems: every model that ships, with the options that `tweedie run` has by default. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { encodePicture } from "../../io/index.ts";
import { type Action, finish, optionSchemas, SYSTEMS, type System } from "../../systems/index.ts";
import { formatBytes } from "../../tensor/index.ts";
import { UsageError } from "../errors.ts";
import { nodeFlags } from "../node-flags.ts";

export interface BenchRow {
  readonly name: string;
  /** Of the best run, the loading of the model included. */
  readonly seconds: number;
  readonly peer: string | null;
  readonly peerSeconds: number | null;
  /** The peer's time over ours. */
  readonly ratio: number | null;
  /** Of the process. */
  readonly peakBytes: number;
}

interface Case {
  readonly name: string;
  readonly system: System;
  readonly action: Action;
  readonly checkpoint: string;
}

/** Systems whose needs a sample picture meets, once for each of their checkpoints. */
export function systemCases(systems: readonly System[] = SYSTEMS): Case[] {
  return systems.flatMap((system) => {
    const action = system.actions.run;
    const needs = action ? optionSchemas(action).filter((o) => o.required) : [];
    if (!action || needs.some(({ path }) => !path?.startsWith("file") || !system.samples?.length)) return [];
    return system.checkpoints.map(({ name: checkpoint }) => ({
      name: `${system.name} run, ${checkpoint}`,
      system,
      action,
      checkpoint,
    }));
  });
}

/** Options for a case: a sample picture for what must be given, a folder of its own for what is written. */
async function optionsOf(
  { system, action, checkpoint }: Case,
  folder: string,
): Promise<Record<string, unknown>> {
  const options: Record<string, unknown> = { model: checkpoint };
  for (const { name, required, path, type } of optionSchemas(action)) {
    if (path === "output") options[name] = join(folder, name, "out.png");
    if (name === "force" && type === "boolean") options[name] = true;
    if (!required) continue;
    const sample = system.samples!.find((s) => s.checkpoint === checkpoint) ?? system.samples![0]!;
    options[name] = join(folder, "sample.png");
    await writeFile(join(folder, "sample.png"), await encodePicture(await sample.make()));
  }
  return options;
}

/** Runs one case in this process for at least `seconds`. @throws UsageError when there is no such case */
export async function measureSystem(name: string, seconds: number): Promise<BenchRow> {
  const found = systemCases().find((c) => c.name === name);
  if (!found)
    throw new UsageError(
      `no case "${name}"; there are: ${systemCases()
        .map((c) => c.name)
        .join("; ")}`,
    );
  const folder = await mkdtemp(join(tmpdir(), "tweedie-bench-"));
  try {
    const options = found.action.options.parse(await optionsOf(found, folder));
    let best = Number.POSITIVE_INFINITY;
    for (
      const end = performance.now() + seconds * 1000;
      best === Number.POSITIVE_INFINITY || performance.now() < end;
    ) {
      const startedAt = performance.now();
      await finish(found.action.run(options, {}));
      best = Math.min(best, (performance.now() - startedAt) / 1000);
    }
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    return { name, seconds: best, peer: null, peerSeconds: null, ratio: null, peakBytes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Measures all cases, each in a process of its own, so that its peak of memory is its own. */
export async function benchSystems(options: {
  readonly filter: string | undefined;
  readonly seconds: number;
}): Promise<BenchRow[]> {
  const main = fileURLToPath(new URL(`../main${/\.[jt]s$/.exec(import.meta.url)![0]}`, import.meta.url));
  const rows: BenchRow[] = [];
  const names = systemCases().map(({ name }) => name);
  const wanted = names.filter((name) => name.includes(options.filter ?? ""));
  if (wanted.length === 0)
    throw new UsageError(`--filter ${options.filter}: no such case; there are: ${names.join("; ")}`);
  for (const name of wanted) {
    const args = ["bench", "systems", "--case", name, "--seconds", String(options.seconds)];
    const { stdout } = await promisify(execFile)(process.execPath, [...nodeFlags(main), main, ...args]);
    const row: BenchRow = JSON.parse(stdout.trim().split("\n").at(-1)!);
    rows.push(row);
    console.log(`${name}: ${row.seconds.toFixed(2)} s, at most ${formatBytes(row.peakBytes)}`);
  }
  return rows;
}

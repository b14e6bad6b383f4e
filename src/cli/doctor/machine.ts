/** What there is on this machine. */

import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { arch, availableParallelism, cpus, release, totalmem } from "node:os";
import { basename, join } from "node:path";
import manifest from "../../../package.json" with { type: "json" };
import { checkModel } from "../../pipelines/index.ts";
import { SYSTEMS } from "../../systems/index.ts";
import { HOW_TO_GET_SHIPPED, shippedFile, shippedFolder } from "../../systems/shipped.ts";
import { SHIPPED_PIPELINES } from "../../trainings/index.ts";

const require = createRequire(import.meta.url);

/** The version in the package.json above a package's entry: not every package exports that file. */
function installedVersion(name: string): string | undefined {
  try {
    const entry = require.resolve(name);
    const folder = entry.slice(
      0,
      entry.lastIndexOf(join("node_modules", name)) + join("node_modules", name).length,
    );
    return require(join(folder, "package.json")).version;
  } catch {
    return undefined;
  }
}

/** Major versions of the runtimes that the package is tested on (tools/runtimes/runtimes.ts). */
export const TESTED: Readonly<Record<string, readonly number[]>> = {
  node: [20, 22, 24, 26],
  bun: [1],
  deno: [2],
};

/** The runtime that this is, whatever version of Node it says it is compatible with. */
export function runtimeOf(versions: Readonly<Record<string, string | undefined>> = process.versions) {
  const name = versions.bun ? "bun" : versions.deno ? "deno" : "node";
  const version = versions[name] ?? "unknown";
  return { name, version, tested: TESTED[name]!.includes(Number.parseInt(version, 10)) };
}

export interface Machine {
  readonly versions: Readonly<Record<"tweedie" | "node" | "onnxruntime" | "system", string>>;
  readonly runtime: ReturnType<typeof runtimeOf>;
  readonly processor: string;
  /** Processors of the machine that this process may run on. */
  readonly processors: number;
  /** What this process may use, a container's limit included. */
  readonly memoryBytes: number;
  readonly freeBytes: number;
}

/** Memory that this process may have: the machine's, or a container's share of it. */
function memory(): number {
  const share = process.constrainedMemory();
  return share > 0 && share < totalmem() ? share : totalmem();
}

export const machine = (): Machine => ({
  versions: {
    tweedie: manifest.version,
    node: process.version,
    onnxruntime: installedVersion("onnxruntime-node") ?? "not installed",
    system: `${process.platform} ${release()} ${arch()}`,
  },
  runtime: runtimeOf(),
  processor: cpus()[0]?.model.trim() ?? "unknown",
  processors: availableParallelism(),
  memoryBytes: memory(),
  freeBytes: process.availableMemory(),
});

export interface ShippedCheckpoint {
  readonly file: string;
  readonly intact: boolean;
  /** What is wrong with it. */
  readonly problem?: string;
}

/** Every checkpoint that ships, read to the last value. */
export async function shippedCheckpoints(): Promise<ShippedCheckpoint[]> {
  const folder = await shippedFolder();
  const pipelines = SHIPPED_PIPELINES.map(({ name }) => `checkpoints/${name}`);
  const declared = [
    ...SYSTEMS.flatMap(({ checkpoints }) => checkpoints.map(({ file }) => file)),
    ...pipelines,
  ];
  if (folder === undefined) {
    const problem = `is not there; ${HOW_TO_GET_SHIPPED}`;
    return declared.map((file) => ({ file, intact: false, problem }));
  }
  const present = (await readdir(folder))
    .map((name) => `checkpoints/${name}`)
    .filter((file) => file.endsWith(".safetensors") || pipelines.includes(file));
  const files = [...new Set([...declared, ...present])].sort();
  return Promise.all(
    files.map(async (file) => {
      if (!present.includes(file)) return { file, intact: false, problem: "is not there" };
      const { findings } = await checkModel(await shippedFile(file), { values: true });
      const problem = findings.find(({ level }) => level !== "note")?.message;
      return { file, intact: problem === undefined, ...(problem && { problem }) };
    }),
  );
}

export interface Peer {
  readonly name: string;
  /** What it is for. */
  readonly about: string;
  /** Absent: it is not installed. */
  readonly version?: string;
}

const PEERS = { "@huggingface/hub": "downloads of models by name, with --hub" } as const;

export const peers = (): Peer[] =>
  Object.entries(PEERS).map(([name, about]) => {
    const version = installedVersion(name);
    return { name, about, ...(version && { version }) };
  });

export const shortName = (file: string): string => basename(file, ".safetensors");

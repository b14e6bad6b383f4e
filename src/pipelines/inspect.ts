/** What a model is made of, from headers and configurations alone. */
import { sizeOf } from "../tensor/index.ts";
import { buildNetwork } from "./build-network.ts";
import { detectFile } from "./detect.ts";
import { resolveModelPath } from "./hub.ts";
import { type OpenOptions, openModel, openPipeline } from "./load.ts";
import { kindOf } from "./model-files.ts";
import { openWeights, type WeightSource } from "./weights.ts";

/** Number of tensors, of values, of bytes, and of values by element type. */
export interface WeightSummary {
  readonly tensors: number;
  readonly values: number;
  readonly bytes: number;
  readonly dtypes: Readonly<Record<string, number>>;
}

export interface ComponentReport extends WeightSummary {
  /** Folder of the component, or "model" for a lone network. */
  readonly name: string;
  readonly className: string;
  /** Why the weights do not fit the configuration, when they do not. */
  readonly problem?: string;
}

/** What a model is made of. */
export interface ModelReport {
  readonly path: string;
  /** `pipeline`, `network`, or `weights` for a file of no known architecture. */
  readonly what: "pipeline" | "network" | "weights";
  /** Class of the pipeline. */
  readonly className?: string;
  readonly layout: "diffusers" | "single file";
  readonly components: readonly ComponentReport[];
  readonly total: WeightSummary;
  /** Class of the scheduler and what the network predicts. */
  readonly scheduler?: string;
  readonly prediction?: string;
  readonly tokenizers?: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** Why the architecture is not known, for `weights`. */
  readonly note?: string;
}

/** Bits per value of element types that are not whole bytes of a known width. */
const BITS: Readonly<Record<string, number>> = { F4: 4, F6_E2M3: 6, F6_E3M2: 6 };
const bitsOf = (dtype: string): number => BITS[dtype] ?? Number(/\d+/.exec(dtype)?.[0] ?? 8);

/** Counts the tensors of a source. */
export function summarize({ entries }: Pick<WeightSource, "entries">): WeightSummary {
  const dtypes: Record<string, number> = {};
  let [values, bits] = [0, 0];
  for (const { dtype, shape } of entries.values()) {
    const size = sizeOf(shape);
    dtypes[dtype] = (dtypes[dtype] ?? 0) + size;
    values += size;
    bits += size * bitsOf(dtype);
  }
  return { tensors: entries.size, values, bytes: bits / 8, dtypes };
}

function sum(parts: readonly WeightSummary[]): WeightSummary {
  const dtypes: Record<string, number> = {};
  for (const part of parts)
    for (const [dtype, count] of Object.entries(part.dtypes)) dtypes[dtype] = (dtypes[dtype] ?? 0) + count;
  const add = (of: (part: WeightSummary) => number): number => parts.reduce((n, part) => n + of(part), 0);
  return { tensors: add((p) => p.tensors), values: add((p) => p.values), bytes: add((p) => p.bytes), dtypes };
}

type Openable = Parameters<typeof buildNetwork>[0];

function componentReport(name: string, network: Openable): ComponentReport {
  let problem: string | undefined;
  try {
    buildNetwork(network);
  } catch (error) {
    problem = (error as Error).message;
  }
  const { className } = network;
  return { name, className, ...summarize(network.weights), ...(problem !== undefined && { problem }) };
}

async function inspectPipeline(path: string, options: OpenOptions, single: boolean): Promise<ModelReport> {
  const pipeline = await openPipeline(path, options);
  try {
    const components = [...pipeline.networks].map(([name, network]) => componentReport(name, network));
    const { _class_name: scheduler, prediction_type: prediction = "epsilon" } = pipeline.scheduler;
    return {
      path,
      what: "pipeline",
      className: pipeline.className,
      layout: single ? "single file" : "diffusers",
      components,
      total: sum(components),
      scheduler: String(scheduler),
      prediction: String(prediction),
      tokenizers: pipeline.tokenizers.length,
      metadata: Object.fromEntries(pipeline.metadata),
    };
  } finally {
    await pipeline.close();
  }
}

async function inspectNetwork(path: string, options: OpenOptions, single: boolean): Promise<ModelReport> {
  const network = await openModel(path, options);
  try {
    const components = [componentReport("model", network)];
    return {
      path,
      what: "network",
      layout: single ? "single file" : "diffusers",
      components,
      total: sum(components),
      metadata: Object.fromEntries(network.weights.metadata),
    };
  } finally {
    await network.weights.close();
  }
}

/** A weight file, however little is known of it. */
async function inspectFile(path: string, options: OpenOptions): Promise<ModelReport> {
  const source = await openWeights(path);
  let note: string;
  try {
    const { kind } = detectFile(source, options.family);
    if (kind === "checkpoint") return await inspectPipeline(path, options, true);
    return await inspectNetwork(path, options, kind !== "diffusers");
  } catch (error) {
    note = (error as Error).message;
  } finally {
    await source.close();
  }
  const metadata = Object.fromEntries(source.metadata);
  return {
    path,
    what: "weights",
    layout: "single file",
    components: [],
    total: summarize(source),
    metadata,
    note,
  };
}

/**
 * Says what a file or a folder holds. No weight is read, so that this is quick for files of any size.
 *
 * @throws {FormatError | ArgumentError} when it is not there, or no model at all
 */
export async function inspectModel(given: string, options: OpenOptions = {}): Promise<ModelReport> {
  const path = await resolveModelPath(given, options);
  const kind = await kindOf(path);
  if (kind === "file") return inspectFile(path, options);
  return kind === "pipeline" ? inspectPipeline(path, options, false) : inspectNetwork(path, options, false);
}

/** Compilation: a function over trees becomes one session per signature. */
import { ArgumentError, TreeError } from "../errors.ts";
import { DTYPES, type DType, sizeOf } from "./dtype.ts";
import { evaluate, toDevice, wrapHost } from "./eager.ts";
import { assertFits } from "./memory.ts";
import { type Capabilities, PLAIN_ONNX } from "./onnx/builder.ts";
import { type LoweredGraph, lowerGraph } from "./onnx/lower.ts";
import { input } from "./ops/create.ts";
import {
  checkDevice,
  type Device,
  type DeviceTensor,
  defaultDevice,
  type Runtime,
  runtime,
  type Session,
  type SessionSettings,
} from "./runtime/runtime.ts";
import { Node, Tensor } from "./tensor.ts";
import { flatten, type TreeDef } from "./tree.ts";

export interface JitOptions extends SessionSettings {
  /**
   * Indices of arguments that the caller gives up: their memory becomes the results' memory of the next call, so a
   * training state is double-buffered without copies. Using a donated tensor afterwards throws `LifetimeError`.
   */
  readonly donate?: readonly number[];
  /** Where to run; default: the default device. */
  readonly device?: Device;
  /** Signatures kept compiled (least recently used ones are closed). Default 8. */
  readonly maxSignatures?: number;
}

interface Compiled {
  readonly session: Session | undefined;
  readonly graph: LoweredGraph;
  readonly result: TreeDef;
  /** For each output: which argument leaf it is, when it is passed through unchanged. */
  readonly passes: ReadonlyMap<Tensor, number>;
}

/** A compiled function. Call it like the original; results come as a promise. */
export interface Jitted<Args extends unknown[], R> {
  (...args: Args): Promise<R>;
  /** Number of signatures compiled so far. */
  readonly signatures: number;
  /** Frees all sessions. */
  close(): Promise<void>;
}

/** Traces a function with placeholders of the given avals in place of its leaves. */
export function trace<Args extends unknown[], R>(f: (...args: Args) => R, args: Args) {
  const { leaves, def } = flatten(args);
  const inputs = leaves.map((t) => input(t.shape, t.dtype));
  const result = f(...(def.unflatten(inputs) as Args));
  if (result instanceof Promise)
    throw new ArgumentError("jit: the traced function must not be async: values do not exist while tracing");
  const { leaves: outputs, def: resultDef } = flatten(result);
  return { inputs, outputs, resultDef };
}

async function compile(
  f: (...args: never[]) => unknown,
  args: unknown[],
  device: Device,
  settings: SessionSettings,
): Promise<Compiled> {
  const rt = await runtime();
  const { inputs, outputs, resultDef } = trace(f as (...a: unknown[]) => unknown, args);
  const graph = lowerGraph(outputs, { capabilities: rt.capabilities(device), inputs, data: "embed" });
  const fed = inputs.reduce((n, t) => n + t.bytes, 0);
  assertFits(graph.peakBytes + fed, "this compiled function");
  const session = graph.outputs.some((o) => "name" in o)
    ? await rt.createSession(graph.model, device, settings)
    : undefined;
  return { session, graph, result: resultDef, passes: new Map(inputs.map((t, i) => [t, i])) };
}

/** Spare memory by dtype and size. */
class BufferPool {
  private readonly spare = new Map<string, DeviceTensor[]>();
  private key = (dtype: DType, shape: readonly number[]): string => `${dtype}[${shape}]`;

  take(rt: Runtime, dtype: DType, shape: readonly number[]): DeviceTensor {
    return (
      this.spare.get(this.key(dtype, shape))?.pop() ??
      wrapHost(rt, dtype, shape, new DTYPES[dtype].array(sizeOf(shape)))
    );
  }
  give(dtype: DType, shape: readonly number[], buffer: DeviceTensor): void {
    const key = this.key(dtype, shape);
    const list = this.spare.get(key);
    if (list) list.push(buffer);
    else this.spare.set(key, [buffer]);
  }
  clear(): void {
    this.spare.clear();
  }
}

/**
 * Compiles a function of trees (tensors inside arrays, objects, modules). It is traced once per signature: structure,
 * static values, shapes and dtypes of the arguments. Tensors that it captures from outside are embedded as constants,
 * so pass what changes as an argument. One call is one run of one session.
 *
 * Throws `TreeError` when a donated argument's structure changes between calls.
 */
export function jit<Args extends unknown[], R>(
  f: (...args: Args) => R,
  options: JitOptions = {},
): Jitted<Args, R> {
  const compiled = new Map<string, Promise<Compiled>>();
  const donated = new Set(options.donate ?? []);
  const donatedKeys = new Map<number, string>();
  const pool = new BufferPool();

  async function find(key: string, args: Args, device: Device): Promise<Compiled> {
    let entry = compiled.get(key);
    compiled.delete(key);
    entry ??= compile(f as never, args, device, options);
    compiled.set(key, entry);
    entry.catch(() => compiled.delete(key));
    if (compiled.size > (options.maxSignatures ?? 8)) {
      const [oldest, stale] = compiled.entries().next().value!;
      compiled.delete(oldest);
      await (await stale).session?.close();
    }
    return entry;
  }

  /** A state that changes its structure between calls is a mistake that would silently recompile every step. */
  function checkDonated(args: Args): void {
    for (const i of donated) {
      const key = flatten(args[i]).def.key;
      const before = donatedKeys.get(i);
      if (before !== undefined && before !== key) {
        throw new TreeError(
          `jit: donated argument ${i} changed its structure between calls: expected ${firstDifference(before, key)}`,
        );
      }
      donatedKeys.set(i, key);
    }
  }

  const call = async (...args: Args): Promise<R> => {
    checkDonated(args);
    const device = options.device ? await checkDevice(options.device) : await defaultDevice();
    const { leaves, def } = flatten(args);
    await evaluate(leaves);
    const key = `${device} ${def.key} ${leaves.map((t) => `${t.dtype}[${t.shape}]`).join(" ")}`;
    const { session, graph, result, passes } = await find(key, args, device);
    const rt = await runtime();

    const feeds: Record<string, DeviceTensor> = {};
    leaves.forEach((t, i) => {
      if (session?.inputNames.includes(`i${i}`) ?? false) feeds[`i${i}`] = toDevice(t, rt);
    });
    const fetches: Record<string, DeviceTensor | null> = {};
    for (const [i, out] of graph.outputs.entries()) {
      const aval = graph.avals[i]!;
      if ("name" in out) fetches[out.name] = device === "cpu" ? pool.take(rt, aval.dtype, aval.shape) : null;
    }
    const values = session ? await session.run(feeds, fetches) : {};

    const kept = new Set<Node>();
    const outputs = graph.outputs.map((out, i) => {
      if ("leaf" in out) {
        const passed = passes.has(out.leaf) ? leaves[passes.get(out.leaf)!]! : out.leaf;
        kept.add(passed.node);
        return passed;
      }
      return settled(graph.avals[i]!, device === "cpu" ? fetches[out.name]! : values[out.name]!);
    });
    for (const i of donated)
      retire(
        flatten(args[i]).leaves.filter((t) => !kept.has(t.node)),
        pool,
      );
    return result.unflatten(outputs) as R;
  };

  return Object.defineProperties(call, {
    signatures: { get: () => compiled.size },
    close: {
      value: async () => {
        const open = [...compiled.values()];
        compiled.clear();
        pool.clear();
        await Promise.all(open.map(async (c) => (await c).session?.close()));
      },
    },
  }) as Jitted<Args, R>;
}

function settled(aval: { shape: readonly number[]; dtype: DType }, device: DeviceTensor): Tensor {
  const node = new Node(undefined, [], undefined, [aval], "data");
  node.values[0] = { device };
  return new Tensor(node);
}

/** Takes the buffers of donated tensors. */
function retire(tensors: readonly Tensor[], pool: BufferPool): void {
  for (const t of tensors) {
    if (t.node.gone || t.node.leaf !== "data") continue;
    const { device } = t.value!;
    if (device) pool.give(t.dtype, t.shape, device);
    t.node.values.fill(undefined);
    t.node.gone = "it was donated to a compiled function; use the state that the function returned";
  }
}

function firstDifference(before: string, after: string): string {
  const [a, b] = [before.split(" "), after.split(" ")];
  const i = a.findIndex((word, k) => word !== b[k]);
  return `"${a.slice(Math.max(0, i - 3), i + 2).join(" ")}", got "${b.slice(Math.max(0, i - 3), i + 2).join(" ")}"`;
}

export interface ExportOptions {
  /** Names of the inputs, in the order of the example's leaves; default: their property paths. */
  readonly inputNames?: readonly string[];
  readonly outputNames?: readonly string[];
  /** Operators that the target understands; default: standard ONNX only. */
  readonly capabilities?: Capabilities;
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Bytes of an ONNX file that computes the function for inputs of the example's shapes. Tensors that the function
 * captures (its weights) are embedded. The file needs no Tweedie to run.
 */
export async function exportOnnx<Args extends unknown[], R>(
  f: (...args: Args) => R,
  example: Args,
  options: ExportOptions = {},
): Promise<Uint8Array> {
  const { def } = flatten(example);
  const { inputs, outputs, resultDef } = trace(f, example);
  const named =
    (given: readonly string[] | undefined, paths: readonly string[], fallback: string) => (i: number) =>
      given?.[i] ?? (paths[i] ? `${fallback}.${paths[i]}` : fallback);
  for (const t of outputs)
    if (!t.node.op) throw new ArgumentError(`exportOnnx: result ${t} is not computed from the inputs`);
  return lowerGraph(outputs, {
    capabilities: options.capabilities ?? PLAIN_ONNX,
    inputs,
    data: "embed",
    inputName: named(options.inputNames, def.paths, "input"),
    outputName: named(options.outputNames, resultDef.paths, "output"),
    metadata: options.metadata,
  }).model;
}

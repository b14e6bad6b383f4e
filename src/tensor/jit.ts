/** Compilation: a function over trees becomes one session per signature. */
import { ArgumentError, TreeError } from "../errors.ts";
import type { Aval } from "./aval.ts";
import { DTYPES, type DType, sizeOf } from "./dtype.ts";
import { evaluate, loadFiles, toDevice, wrapHost } from "./eager.ts";
import { type LoweredGraph, lowerGraph, reachable } from "./lower.ts";
import { assertFits } from "./memory.ts";
import { type Capabilities, PLAIN_ONNX } from "./onnx/builder.ts";
import { cast, storedOf } from "./ops/cast.ts";
import { input } from "./ops/create.ts";
import { checkDevice, defaultDevice, runtime } from "./runtime/devices.ts";
import type { Device, DeviceTensor, Runtime, Session, SessionSettings } from "./runtime/runtime.ts";
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
  /** Absent when every result is an argument passed through. */
  readonly session: Session | undefined;
  /** Whether the session writes into memory that it is given. */
  readonly into: boolean;
  readonly outputs: LoweredGraph["outputs"];
  readonly avals: readonly Aval[];
  readonly result: TreeDef;
  /** For each output: which argument leaf it is, when it is passed through unchanged. */
  readonly passes: ReadonlyMap<Tensor, number>;
}

/** A compiled function. Call it like the original; results come as a promise. */
export interface Jitted<Args extends unknown[], R> {
  (...args: Args): Promise<R>;
  /**
   * The arguments that the last call was given by donation, for who must undo it (a step that went wrong). Their memory
   * is not reused before the next call. Undefined when there are none.
   */
  takeBack(): Partial<Args> | undefined;
  /** Number of signatures compiled so far. */
  readonly signatures: number;
  /** Frees all sessions. */
  close(): Promise<void>;
}

/**
 * Traces a function with placeholders in place of its leaves. `sources` are what is fed for them: of the same shapes,
 * and of dtypes that are cast to those of the leaves.
 */
export function trace<Args extends unknown[], R>(
  f: (...args: Args) => R,
  args: Args,
  sources?: readonly Tensor[],
) {
  const { leaves, def } = flatten(args);
  const inputs = (sources ?? leaves).map((t) => input(t.shape, t.dtype));
  const result = f(...(def.unflatten(inputs.map((t, i) => cast(t, leaves[i]!.dtype))) as Args));
  if (result instanceof Promise)
    throw new ArgumentError("jit: the traced function must not be async: values do not exist while tracing");
  const { leaves: outputs, def: resultDef } = flatten(result);
  return { inputs, outputs, resultDef };
}

/** Values from outside that a traced function uses. */
const captured = (outputs: readonly Tensor[]): Tensor[] =>
  reachable(outputs).flatMap((node) => (node.leaf === "data" ? node.tensors() : []));

async function compile(
  f: (...args: never[]) => unknown,
  args: unknown[],
  sources: readonly Tensor[],
  device: Device,
  settings: SessionSettings,
): Promise<Compiled> {
  const rt = await runtime();
  const { inputs, outputs, resultDef } = trace(f as (...a: unknown[]) => unknown, args, sources);
  const capabilities = await rt.capabilities(device);
  if (!capabilities.externalWeights) await loadFiles(captured(outputs));
  const into = capabilities.writesInto ?? false;
  const graph = lowerGraph(outputs, { capabilities, inputs, data: "embed", into });
  const inputBytes = inputs.reduce((n, t) => n + t.bytes, 0);
  assertFits(graph.peakBytes + inputBytes, "this compiled function");
  const session = graph.outputs.some((o) => "name" in o)
    ? await rt.createSession(graph.model, device, settings, graph.weights)
    : undefined;
  const { outputs: results, avals } = graph; // the model's bytes are not kept: the session has them
  return {
    session,
    into,
    outputs: results,
    avals,
    result: resultDef,
    passes: new Map(inputs.map((t, i) => [t, i])),
  };
}

/** Spare memory by dtype and size. */
class BufferPool {
  private readonly spare = new Map<string, DeviceTensor[]>();
  private key = (dtype: DType, shape: readonly number[]): string => `${dtype}[${shape}]`;

  /** A spare buffer, or a new one. */
  take(dtype: DType, shape: readonly number[], rt: Runtime): DeviceTensor {
    const found = this.spare.get(this.key(dtype, shape))?.pop();
    return found ?? wrapHost(rt, dtype, shape, new DTYPES[dtype].array(sizeOf(shape)));
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
  let retired: Retired[] = [];

  async function find(
    key: string,
    args: Args,
    sources: readonly Tensor[],
    device: Device,
  ): Promise<Compiled> {
    let entry = compiled.get(key);
    compiled.delete(key);
    entry ??= compile(f as never, args, sources, device, options);
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
    const { leaves: given, def } = flatten(args);
    // Weights are fed in the width of their file. A donated argument is a state, whose results have the leaves' own
    // dtypes: it is widened once.
    const leaves = args.flatMap((arg, i) => flatten(arg).leaves.map(donated.has(i) ? (t) => t : storedOf));
    await evaluate(leaves);
    const avals = leaves.map(
      (t, i) => `${t.dtype}${t === given[i] ? "" : `>${given[i]!.dtype}`}[${t.shape}]`,
    );
    const compiledGraph = await find(`${device} ${def.key} ${avals.join(" ")}`, args, leaves, device);
    const { session, into, result, passes } = compiledGraph;
    const rt = await runtime();

    const feeds: Record<string, DeviceTensor> = {};
    leaves.forEach((t, i) => {
      feeds[`i${i}`] = toDevice(t, rt);
    });
    for (const { buffers } of into ? retired : []) {
      for (const { aval, device: spare } of buffers) pool.give(aval.dtype, aval.shape, spare);
    }
    retired = [];
    const named = compiledGraph.outputs.flatMap((out, i) =>
      "name" in out ? [[out.name, compiledGraph.avals[i]!] as const] : [],
    );
    let values: Record<string, DeviceTensor> = {};
    if (into) {
      values = Object.fromEntries(
        named.map(([name, { dtype, shape }]) => [name, pool.take(dtype, shape, rt)]),
      );
      await session?.runInto(feeds, values);
    } else if (session) {
      values = await session.run(feeds, Object.fromEntries(named.map(([name]) => [name, null])));
    }

    // Never reuse what is still in use: arguments that were not given up, and results that are arguments.
    const kept = new Set(
      args.flatMap((arg, i) => (donated.has(i) ? [] : flatten(arg).leaves.map((t) => t.node))),
    );
    const outputs = compiledGraph.outputs.map((out, i) => {
      if ("leaf" in out) {
        const passed = passes.has(out.leaf) ? leaves[passes.get(out.leaf)!]! : out.leaf;
        kept.add(passed.node);
        return passed;
      }
      return settled(compiledGraph.avals[i]!, values[out.name]!);
    });
    retired = [...donated].map((i) => retire(i, args[i], kept));
    return result.unflatten(outputs) as R;
  };

  return Object.defineProperties(call, {
    takeBack: {
      value: () => {
        if (retired.length === 0) return undefined;
        const args: unknown[] = [];
        for (const r of retired) args[r.argument] = r.restore();
        retired = [];
        return args;
      },
    },
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

function settled(aval: Aval, device: DeviceTensor): Tensor {
  const node = new Node(undefined, [], undefined, [aval], "data");
  node.values[0] = { device };
  return new Tensor(node);
}

/** A donated argument after the call: its memory, and how to put it together again. */
interface Retired {
  readonly argument: number;
  readonly buffers: readonly { readonly aval: Aval; readonly device: DeviceTensor }[];
  restore(): unknown;
}

/** Takes the buffers of a donated argument, except those still in use; a leaf that occurs twice counts once. */
function retire(argument: number, tree: unknown, kept: Set<Node>): Retired {
  const { leaves, def } = flatten(tree);
  const buffers = new Map<Node, { aval: Aval; device: DeviceTensor }>();
  for (const t of leaves) {
    if (kept.has(t.node) || t.node.gone || t.node.leaf !== "data" || !t.value?.device) continue;
    buffers.set(t.node, { aval: { shape: t.shape, dtype: t.dtype }, device: t.value.device });
    t.node.values.fill(undefined);
    t.node.gone = "it was donated to a compiled function; use the state that the function returned";
  }
  const restored = (t: Tensor): Tensor => {
    const own = buffers.get(t.node);
    return own ? settled(own.aval, own.device) : t;
  };
  return { argument, buffers: [...buffers.values()], restore: () => def.unflatten(leaves.map(restored)) };
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
  await loadFiles(captured(outputs));
  return lowerGraph(outputs, {
    capabilities: { ...(options.capabilities ?? PLAIN_ONNX), externalWeights: false },
    inputs,
    data: "embed",
    inputName: named(options.inputNames, def.paths, "input"),
    outputName: named(options.outputNames, resultDef.paths, "output"),
    metadata: options.metadata,
  }).model;
}

/** Values on demand: compiles and runs whatever a tensor depends on, with a cache of compiled graphs. */
import { DeviceError, DTypeError, LifetimeError, ShapeError } from "../errors.ts";
import { DTYPES, type DType, elementToNumber, type HostArray, sizeOf } from "./dtype.ts";
import { lowerGraph } from "./lower.ts";
import { assertFits } from "./memory.ts";
import { defaultDevice, runtime } from "./runtime/devices.ts";
import { downloaded, withBits } from "./runtime/half.ts";
import type { DeviceTensor, Runtime, Session } from "./runtime/runtime.ts";
import { SharedCache } from "./shared-cache.ts";
import { type Node, peekHost, readHost, type Tensor, type Value } from "./tensor.ts";
import { refuseWhileTracing } from "./tracing.ts";

/** Eager graphs that are kept compiled. */
const MAX_SESSIONS = 256;
const sessions = new SharedCache<Session>(MAX_SESSIONS, (session) => session.close());

/** Runs a model, in a session that is kept for the next time. */
async function runModel(
  model: Uint8Array,
  feeds: Record<string, DeviceTensor>,
  fetches: Record<string, null>,
): Promise<Record<string, DeviceTensor>> {
  const device = await defaultDevice();
  const rt = await runtime();
  const key = device + new TextDecoder("latin1").decode(model);
  return sessions.use(
    key,
    () => rt.createSession(model, device),
    (session) => session.run(feeds, fetches),
  );
}

/** The tensor's value as the runtime's own tensor, uploaded on first use. */
export function toDevice(t: Tensor, rt: Runtime): DeviceTensor {
  const value = t.value;
  if (!value) throw new LifetimeError(`${t} has no value yet`);
  value.device ??= wrapHost(rt, t.dtype, t.shape, value.host!);
  return value.device;
}

/** A runtime tensor over a host array, without a copy. */
export function wrapHost(rt: Runtime, dtype: DType, shape: readonly number[], data: HostArray): DeviceTensor {
  const { ort } = DTYPES[dtype];
  if (!ort) throw new DTypeError(`${dtype} is for storage only: cast to f32 first`);
  return withBits<DeviceTensor>(new rt.Tensor(ort as "float32", data as Float32Array, shape as number[]));
}

/** Reads the values that lie in files and are wanted on the host. */
export async function loadFiles(tensors: readonly Tensor[]): Promise<void> {
  const values = tensors.map((t) => [t, t.value] as const);
  const unread = values.filter(([, v]) => v?.file && !v.host && !v.device);
  if (unread.length === 0) return;
  const { readFile } = await runtime();
  if (!readFile) throw new DeviceError("a tensor lies in a file, and this platform has no files");
  for (const [t, value] of unread) {
    const bytes = await readFile(value!.file!, t.bytes);
    value!.host ??= new DTYPES[t.dtype].array(bytes.buffer as ArrayBuffer, bytes.byteOffset, t.size);
  }
}

/**
 * A constant stretched to a shape (zeros, ones) is filled on the host: a session for it would keep as much memory again
 * in its arena, which counts where optimiser states begin as zeros.
 */
function fill(node: Node): boolean {
  const [source] = node.inputs;
  if (node.op?.name !== "broadcastTo" || source?.node.leaf !== "literal" || source.size !== 1) return false;
  const { shape, dtype } = node.avals[0]!;
  const host = new DTYPES[dtype].array(sizeOf(shape));
  host.fill(peekHost(source)[0] as never);
  node.settle([{ host }]);
  return true;
}

/** Computes the values of all tensors that have none yet, in one run. */
export function evaluate(tensors: readonly Tensor[]): Promise<void> {
  refuseWhileTracing("a value was asked for");
  return compute(tensors);
}

async function compute(tensors: readonly Tensor[]): Promise<void> {
  await loadFiles(tensors);
  const unknown = [...new Set(tensors.filter((t) => !t.value).map((t) => t.node))];
  const nodes = unknown.filter((node) => !fill(node));
  if (nodes.length === 0) return;
  const rt = await runtime();
  const wanted = nodes.flatMap((node) => node.tensors());
  const graph = lowerGraph(wanted, {
    capabilities: await rt.capabilities(await defaultDevice()),
    data: "feed",
  });
  assertFits(graph.peakBytes, "this computation");
  const fetches: Record<string, null> = {};
  for (const out of graph.outputs) if ("name" in out) fetches[out.name] = null;
  let results: Record<string, DeviceTensor> = {};
  if (Object.keys(fetches).length > 0) {
    await loadFiles(graph.inputs);
    const feeds = Object.fromEntries(graph.inputs.map((t, i) => [`i${i}`, toDevice(t, rt)]));
    results = await runModel(graph.model, feeds, fetches);
  }
  const values = graph.outputs.map(
    (out): Value => ("name" in out ? { device: results[out.name]! } : sharedValue(out.leaf)),
  );
  let at = 0;
  for (const node of nodes) node.settle(values.slice(at, (at += node.avals.length)));
  for (const t of wanted) if (t.value!.device && t.value!.device.location !== "cpu") await download(t);
}

/** The value of a tensor that is another one's, too. */
function sharedValue(t: Tensor): Value {
  const value = t.value!;
  value.shared = true;
  return value;
}

async function download(t: Tensor): Promise<void> {
  const value = t.value;
  if (!value?.device) return;
  value.host ??= await downloaded(value.device);
}

/** Number of compiled eager graphs that are kept; for tests and reports. */
export const cachedSessions = (): number => sessions.size;

/** Closes all compiled eager graphs. */
export function clearEagerCache(): Promise<void> {
  return sessions.close();
}

// ---- methods of a tensor ----

// Not async themselves: inside of a traced function they throw at once, where a rejected promise would end the process.

/** Computes the value now (with everything it depends on) and returns the tensor. */
export function evalTensor(t: Tensor): Promise<Tensor> {
  return evaluate([t]).then(() => t);
}

/**
 * The elements, row-major, in the dtype's typed array, which is the tensor's own memory: do not write into it. It stays as
 * it is when the tensor is donated or disposed.
 */
export function data(t: Tensor): Promise<HostArray> {
  return evaluate([t]).then(() => readHost(t));
}

/** The elements as a flat array of numbers. */
export function toArray(t: Tensor): Promise<number[]> {
  return evaluate([t]).then(() =>
    Array.from(peekHost(t), (v: number | bigint) => elementToNumber(t.dtype, v)),
  );
}

/** The single element as a number. Throws `ShapeError` when there is not exactly one. */
export function item(t: Tensor): Promise<number> {
  const computed = evaluate(t.size === 1 ? [t] : []);
  return computed.then(() => {
    if (t.size !== 1) throw new ShapeError(`item: expected exactly one element, got shape [${t.shape}]`);
    return elementToNumber(t.dtype, peekHost(t)[0]!);
  });
}

/** Wraps an ONNX Runtime session of either package in our interface, with typed errors. */
import type { InferenceSession, InferenceSessionFactory } from "onnxruntime-common";
import { DeviceError, LifetimeError, MemoryError } from "../../errors.ts";
import { withBits } from "./half.ts";
import type { Device, DeviceTensor, Session } from "./runtime.ts";

/**
 * Name of an output that onnxruntime-node cannot hand to JavaScript (a sequence), first among a model's outputs. The
 * binding copies every result into fresh memory, also those that were written into memory of the caller: for a training
 * state that takes longer than the update itself. Here it stops before the first copy, when everything is written.
 */
export const STOP = "stop";
const stopped = (error: unknown): boolean =>
  error instanceof Error && error.message.startsWith("Non tensor type is temporarily not supported");

/** What to do about what a graphics device lacks. */
const NO_F16 =
  ". This graphics device has no shader-f16: cast to f32 first, load weights with precision 'f32', or use the wasm or cpu device";

/** Allocation failures of the runtime are memory errors; everything else is the device's fault. */
function translate(error: unknown, doing: string): Error {
  const reason = error instanceof Error ? error.message : String(error);
  if (/bad_alloc|Failed to allocate|out of memory|allocation failed/i.test(reason)) {
    return new MemoryError(`${doing}: ${reason}`);
  }
  const advice = /requires f16 but the device does not support it/.test(reason) ? NO_F16 : "";
  return new DeviceError(`${doing}: ${reason}${advice}`, { cause: error });
}

export async function openSession(
  factory: InferenceSessionFactory,
  model: Uint8Array | string,
  device: Device,
  threads: number,
  options: InferenceSession.SessionOptions,
): Promise<Session> {
  let inner: InferenceSession;
  try {
    inner = await (typeof model === "string"
      ? factory.create(model, options)
      : factory.create(model, options));
  } catch (error) {
    const hint =
      device === "cpu" || device === "wasm"
        ? ""
        : " (there may be no such hardware or driver here; the default device always works)";
    throw translate(error, `compiling a graph for "${device}"${hint}`);
  }
  let closed = false;
  return {
    device,
    threads,
    inputNames: inner.inputNames,
    outputNames: inner.outputNames,
    inputs: inner.inputMetadata,
    outputs: inner.outputMetadata,
    async run(feeds, fetches) {
      if (closed) throw new LifetimeError("this session is closed");
      try {
        const results = (await inner.run(feeds, fetches)) as unknown as Record<string, DeviceTensor>;
        for (const result of Object.values(results)) withBits(result);
        return results;
      } catch (error) {
        throw translate(error, `running a graph on "${device}"`);
      }
    },
    async runInto(feeds, results) {
      if (closed) throw new LifetimeError("this session is closed");
      const fetches: Record<string, DeviceTensor | null> = { ...results };
      if (inner.outputNames.includes(STOP)) fetches[STOP] = null;
      try {
        await inner.run(feeds, fetches);
      } catch (error) {
        if (!stopped(error)) throw translate(error, `running a graph on "${device}"`);
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      await inner.release();
    },
  };
}

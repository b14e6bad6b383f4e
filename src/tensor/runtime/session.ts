/** Wraps an ONNX Runtime session of either package in our interface, with typed errors. */
import type { InferenceSession, InferenceSessionFactory } from "onnxruntime-common";
import { DeviceError, LifetimeError, MemoryError } from "../../errors.ts";
import type { Device, DeviceTensor, Session } from "./runtime.ts";

/** Allocation failures of the runtime are memory errors; everything else is the device's fault. */
function translate(error: unknown, doing: string): Error {
  const reason = error instanceof Error ? error.message : String(error);
  if (/bad_alloc|Failed to allocate|out of memory|allocation failed/i.test(reason)) {
    return new MemoryError(`${doing}: ${reason}`);
  }
  return new DeviceError(`${doing}: ${reason}`, { cause: error });
}

export async function openSession(
  factory: InferenceSessionFactory,
  model: Uint8Array | string,
  device: Device,
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
        : ' (there may be no such hardware or driver here; "cpu" or "wasm" always works)';
    throw translate(error, `compiling a graph for "${device}"${hint}`);
  }
  let closed = false;
  return {
    device,
    inputNames: inner.inputNames,
    outputNames: inner.outputNames,
    inputs: inner.inputMetadata,
    outputs: inner.outputMetadata,
    async run(feeds, fetches) {
      if (closed) throw new LifetimeError("this session is closed");
      try {
        return (await inner.run(feeds, fetches)) as unknown as Record<string, DeviceTensor>;
      } catch (error) {
        throw translate(error, `running a graph on "${device}"`);
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      await inner.release();
    },
  };
}

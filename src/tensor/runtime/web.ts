/** The runtime of browsers: onnxruntime-web (wasm always, WebGPU where the browser has an adapter). */
import * as ort from "onnxruntime-web/webgpu";
import { ArgumentError } from "../../errors.ts";
import { CPU_CAPABILITIES, PLAIN_ONNX } from "../onnx/builder.ts";
import type { Device, Runtime } from "./runtime.ts";
import { openSession } from "./session.ts";

export interface WebOptions {
  /**
   * Address of the folder that serves `ort-wasm-simd-threaded.asyncify.{mjs,wasm}` of onnxruntime-web, or of each
   * file. Bundlers that follow `new URL(…, import.meta.url)` (Vite, webpack) need none.
   */
  readonly wasmPaths?: string | { readonly mjs?: string | URL; readonly wasm?: string | URL };
  /** Threads of the wasm device. More than one needs a cross-origin isolated page; default: half the cores, up to 4. */
  readonly threads?: number;
}

let started = false;

/** Settings of the browser's runtime. Call it before the first value is computed: they are read once. */
export function configureWeb({ wasmPaths, threads }: WebOptions): void {
  if (started)
    throw new ArgumentError("configureWeb: the runtime has started; call it before any computation");
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0))
    throw new ArgumentError(`configureWeb: threads is a positive integer, got ${threads}`);
  if (wasmPaths !== undefined) ort.env.wasm.wasmPaths = wasmPaths;
  if (threads !== undefined) ort.env.wasm.numThreads = threads;
}

/** `navigator.gpu` alone promises nothing: there may be no adapter behind it. */
async function hasAdapter(): Promise<boolean> {
  const { gpu } = globalThis.navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  return (await gpu?.requestAdapter().catch(() => null)) != null;
}

const devices: readonly Device[] = (await hasAdapter()) ? ["wasm", "webgpu"] : ["wasm"];

const runtime: Runtime = {
  Tensor: ort.Tensor,
  devices: () => [...devices],
  capabilities: (device) =>
    device === "wasm" ? { ...CPU_CAPABILITIES, name: "wasm" } : { ...PLAIN_ONNX, name: device },
  createSession: (model, device) => {
    started = true;
    return openSession(ort.InferenceSession, model, device, {
      executionProviders: [device],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
  },
};

export default runtime;

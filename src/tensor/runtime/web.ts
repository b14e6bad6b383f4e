/** The runtime of browsers: onnxruntime-web (wasm always, WebGPU where the browser has an adapter). */
import * as ort from "onnxruntime-web/webgpu";
import { CPU_CAPABILITIES, PLAIN_ONNX } from "../onnx/builder.ts";
import type { Device, Runtime } from "./runtime.ts";
import { openSession } from "./session.ts";

const hasWebGpu = (): boolean => "gpu" in navigator && (navigator as { gpu?: unknown }).gpu != null;

const runtime: Runtime = {
  Tensor: ort.Tensor,
  devices: (): Device[] => (hasWebGpu() ? ["wasm", "webgpu"] : ["wasm"]),
  capabilities: (device) =>
    device === "wasm" ? { ...CPU_CAPABILITIES, name: "wasm" } : { ...PLAIN_ONNX, name: device },
  createSession: (model, device, settings = {}) =>
    openSession(ort.InferenceSession, model, device, {
      executionProviders: [device],
      graphOptimizationLevel: "all",
      ...(settings.threads && { intraOpNumThreads: settings.threads }),
      logSeverityLevel: 3,
    }),
};

export default runtime;

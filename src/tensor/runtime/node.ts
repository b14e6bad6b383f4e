/** The runtime of Node: onnxruntime-node. CPU everywhere; WebGPU, CUDA, CoreML, DirectML where the package has them. */
import * as ort from "onnxruntime-node";
import { CPU_CAPABILITIES, PLAIN_ONNX } from "../onnx/builder.ts";
import { findChannelBlock } from "./blocked-layout.ts";
import type { Device, Runtime } from "./runtime.ts";
import { openSession } from "./session.ts";

/** Probed once per process. */
let channelBlock: Promise<number | undefined> | undefined;

const runtime: Runtime = {
  Tensor: ort.Tensor,
  devices: () => {
    const names = ort.listSupportedBackends().map((b) => b.name as Device);
    return ["cpu", ...names.filter((n) => n !== "cpu")];
  },
  async capabilities(device) {
    if (device !== "cpu") return { ...PLAIN_ONNX, name: device };
    channelBlock ??= findChannelBlock(runtime);
    return { ...CPU_CAPABILITIES, channelBlock: await channelBlock };
  },
  createSession: (model, device, settings = {}) =>
    openSession(ort.InferenceSession, model, device, {
      executionProviders: [device],
      graphOptimizationLevel: "all",
      enableMemPattern: false, // a planned block would be kept beside the arena that the first run filled: 1.4x the memory
      ...(settings.threads && { intraOpNumThreads: settings.threads }),
      ...(settings.profile && {
        enableProfiling: true,
        profileFilePrefix: settings.profilePrefix ?? "profile",
      }),
      logSeverityLevel: 3, // errors only: the optimiser warns about things that are fine
    }),
};

export default runtime;

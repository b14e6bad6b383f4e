/**
 * The runtime of browsers: onnxruntime-web. Its two builds are loaded when their device is first used: `wasm`, which
 * has all element types in half the bytes, and `webgpu`, where the browser has an adapter.
 */
import { type Env, type InferenceSessionFactory, Tensor } from "onnxruntime-common";
import { ArgumentError, DeviceError } from "../../errors.ts";
import { CPU_CAPABILITIES, PLAIN_ONNX } from "../onnx/builder.ts";
import type { Device, Runtime } from "./runtime.ts";
import { openSession } from "./session.ts";
import { webThreads } from "./web-threads.ts";

/** Options of `configureWeb`. */
export interface WebOptions {
  /**
   * Address of a folder that serves onnxruntime-web's `ort-wasm-*.mjs` and `.wasm` files. Bundlers that follow
   * `new URL(…, import.meta.url)` (Vite, webpack) need none.
   */
  readonly wasmPaths?: string;
  /**
   * Threads of the wasm device. More than one needs a cross-origin isolated page; default there: all processors up to
   * four, beyond that half of them, since two may share a core.
   */
  readonly threads?: number;
}

let options: WebOptions = {};

/** Settings of the browser's runtime. Call it before the first value is computed: they are read once. */
export function configureWeb(settings: WebOptions): void {
  const { threads } = settings;
  if (loaded.size > 0)
    throw new ArgumentError("configureWeb: the runtime has started; call it before any computation");
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0))
    throw new ArgumentError(`configureWeb: threads is a positive integer, got ${threads}`);
  options = { ...options, ...settings };
}

interface Build {
  readonly env: Env;
  readonly InferenceSession: InferenceSessionFactory;
}

const loaded = new Map<Device, Promise<Build>>();

/** The build of a device, with our settings. */
function load(device: Device): Promise<Build> {
  const start = async (): Promise<Build> => {
    const build: Build = await (device === "webgpu"
      ? import("onnxruntime-web/webgpu")
      : import("onnxruntime-web/wasm"));
    if (options.wasmPaths !== undefined) build.env.wasm.wasmPaths = options.wasmPaths;
    build.env.wasm.numThreads = webThreads(options.threads);
    return build;
  };
  const build =
    loaded.get(device) ??
    start().catch((cause) => {
      loaded.delete(device);
      throw new DeviceError(`loading onnxruntime-web for "${device}": ${cause}`, { cause });
    });
  loaded.set(device, build);
  return build;
}

/** `navigator.gpu` alone promises nothing: there may be no adapter behind it. */
async function hasAdapter(): Promise<boolean> {
  const { gpu } = (globalThis.navigator ?? {}) as { gpu?: { requestAdapter(): Promise<unknown> } };
  return (await gpu?.requestAdapter().catch(() => null)) != null;
}

/** Asked for when somebody asks for another device than wasm, and once. */
let adapter: Promise<boolean> | undefined;

const runtime: Runtime = {
  Tensor,
  first: "wasm",
  devices: async () => ((await (adapter ??= hasAdapter())) ? ["wasm", "webgpu"] : ["wasm"]),
  capabilities: async (device) =>
    device === "wasm" ? { ...CPU_CAPABILITIES, name: "wasm" } : { ...PLAIN_ONNX, name: device },
  threads: async () => ({
    threads: webThreads(options.threads),
    usable: globalThis.navigator?.hardwareConcurrency ?? 1,
    milliseconds: new Map(), // fixed when the runtime starts, so that there is nothing to try
  }),
  createSession: async (model, device) =>
    openSession((await load(device)).InferenceSession, model, device, webThreads(options.threads), {
      executionProviders: [device],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    }),
};

/** The runtime of browsers. */
export default runtime;

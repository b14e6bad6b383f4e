/** The runtime of Node: onnxruntime-node. CPU everywhere; WebGPU, CUDA, CoreML, DirectML where the package has them. */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, parse } from "node:path";
import * as ort from "onnxruntime-node";
import { disguiseHint, MAGIC_BYTES } from "../../disguise.ts";
import { FormatError } from "../../errors.ts";
import { type Capabilities, CPU_CAPABILITIES, PLAIN_ONNX } from "../onnx/builder.ts";
import { findChannelBlock } from "./blocked-layout.ts";
import { roundsBlocks, signedBytesAreExact } from "./integer-products.ts";
import type { Device, Runtime, ThreadCount } from "./runtime.ts";
import { openSession } from "./session.ts";
import { decideThreads } from "./threads.node.ts";

/** Path of the binding's code, where it can be told: bundlers put numbers in place of paths, or give no address at all. */
function mainOfBinding(): string | undefined {
  try {
    const main: unknown = createRequire(import.meta.url).resolve("onnxruntime-node");
    return typeof main === "string" ? main : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the library of a provider that the package does not bundle (CUDA, TensorRT) lies beside its binding. */
function isInstalled(provider: string): boolean {
  const main = mainOfBinding();
  if (main === undefined) return false;
  const folder = join(dirname(main), "..", "bin", "napi-v6", process.platform, process.arch);
  const file =
    process.platform === "win32"
      ? `onnxruntime_providers_${provider}.dll`
      : `libonnxruntime_providers_${provider}.so`;
  return existsSync(join(folder, file));
}

/** Folder that the locations of weights in files are relative to: the runtime takes no absolute ones. */
const ROOT = parse(process.cwd()).root;

/** Probed once per process. */
let kernels: Promise<Pick<Capabilities, "channelBlock" | "exactSignedBytes" | "roundsBlocks">> | undefined;
let threadCount: Promise<ThreadCount> | undefined;

async function probeKernels() {
  return {
    channelBlock: await findChannelBlock(runtime),
    exactSignedBytes: await signedBytesAreExact(runtime),
    roundsBlocks: await roundsBlocks(runtime),
  };
}

/** The error of a file that is no model for a reason that can be told: missing, a folder, a pointer, a web page. */
async function sayingWhatItIs(path: string, cause: Error): Promise<Error> {
  const file = await open(path, "r").catch(() => undefined);
  if (!file) return new FormatError(`${path}: there is no such file that can be read`, { cause });
  try {
    if (!(await file.stat()).isFile())
      return new FormatError(`${path}: expected an ONNX model, this is a folder`, { cause });
    const { buffer, bytesRead } = await file.read(new Uint8Array(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
    const hint = disguiseHint(buffer.subarray(0, bytesRead));
    return hint === "" ? cause : new FormatError(`${path}: not an ONNX model${hint}`, { cause });
  } finally {
    await file.close();
  }
}

const runtime: Runtime = {
  Tensor: ort.Tensor,
  first: "cpu",
  devices: async () => {
    const usable = ort
      .listSupportedBackends()
      .filter((b) => b.name !== "cpu" && (b.bundled || isInstalled(b.name)));
    return ["cpu", ...usable.map((b) => b.name as Device)];
  },
  async capabilities(device) {
    if (device !== "cpu") return { ...PLAIN_ONNX, name: device, externalWeights: true };
    kernels ??= probeKernels();
    return { ...CPU_CAPABILITIES, externalWeights: true, writesInto: true, ...(await kernels) };
  },
  threads: () => (threadCount ??= decideThreads(runtime)),
  async createSession(model, device, settings = {}, weights) {
    const threads = settings.threads ?? (await runtime.threads()).threads;
    const session = openSession(ort.InferenceSession, model, device, threads, {
      intraOpNumThreads: threads,
      ...(weights?.memory.size && {
        externalData: [...weights.memory].map(([path, data]) => ({ path, data })),
      }),
      extra: {
        session: {
          // Threads of a session that has just run would spin on, and take the cores from the next one: with eight
          // sessions in turn, products of 256x1152x4608 took 47 ms instead of 15.
          force_spinning_stop: "1",
          ...(weights?.inFiles && { model_external_initializers_file_folder_path: ROOT }),
        },
      },
      executionProviders: [device],
      graphOptimizationLevel: "all",
      enableMemPattern: false, // a planned block would be kept beside the arena that the first run filled: 1.4x the memory
      ...(settings.profile && {
        enableProfiling: true,
        profileFilePrefix: settings.profilePrefix ?? "profile",
      }),
      logSeverityLevel: 3, // errors only: the optimiser warns about things that are fine
    });
    return session.catch(async (cause) => {
      throw typeof model === "string" ? await sayingWhatItIs(model, cause) : cause;
    });
  },
  async readFile({ path, offset }, bytes) {
    const file = await open(path, "r");
    try {
      const into = new Uint8Array(bytes);
      for (let at = 0; at < bytes; ) {
        const { bytesRead } = await file.read(into, at, Math.min(bytes - at, 2 ** 30), offset + at);
        if (bytesRead === 0)
          throw new FormatError(`${path}: expected ${bytes} bytes at byte ${offset}, got ${at}`);
        at += bytesRead;
      }
      return into;
    } finally {
      await file.close();
    }
  },
};

export default runtime;

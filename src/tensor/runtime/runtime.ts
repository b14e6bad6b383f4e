/**
 * Devices behind one interface. A runtime turns model bytes into a session; `node.ts` and `web.ts` build the same
 * interface on onnxruntime-node and onnxruntime-web, and `devices.ts` loads the one of this platform.
 */
import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from "onnxruntime-common";
import type { FileSlice } from "../aval.ts";
import type { Capabilities } from "../onnx/builder.ts";

/** A tensor as ONNX Runtime holds it, in host or device memory. */
export type DeviceTensor = OrtTensor;

/** Where graphs run: a name of `listDevices()`. */
export type Device = "cpu" | "webgpu" | "wasm" | "cuda" | "tensorrt" | "coreml" | "dml" | "webnn";

/** Settings of a session of the runtime. */
export interface SessionSettings {
  /** Threads for one operator; default: as `Runtime.threads` decides. */
  readonly threads?: number;
  /** Writes a time-per-node trace (chrome://tracing format) when the session is released. */
  readonly profile?: boolean;
  /** Prefix of the profile's file name. */
  readonly profilePrefix?: string;
}

/** Constants that a model refers to by name instead of holding them. */
export interface ExternalWeights {
  /** Bytes in memory, by the location that the model gives. */
  readonly memory: ReadonlyMap<string, Uint8Array>;
  /** Whether the model's locations are paths of files, below the root of the file system. */
  readonly inFiles: boolean;
}

/** The number of threads that sessions get, and why. */
export interface ThreadCount {
  readonly threads: number;
  /** Processors that this process may use. */
  readonly usable: number;
  /** Best time of one matrix product by number of threads; empty when there was nothing to choose. */
  readonly milliseconds: ReadonlyMap<number, number>;
}

export interface Session {
  readonly device: Device;
  /** Threads for one operator. */
  readonly threads: number;
  run(
    feeds: Record<string, DeviceTensor>,
    fetches: Record<string, DeviceTensor | null>,
  ): Promise<Record<string, DeviceTensor>>;
  /** Writes the results into the given tensors, nowhere else. For devices that write into memory of the caller. */
  runInto(feeds: Record<string, DeviceTensor>, results: Record<string, DeviceTensor>): Promise<void>;
  /** Frees the session. Running it afterwards throws `LifetimeError`. */
  close(): Promise<void>;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputs: readonly InferenceSession.ValueMetadata[];
  readonly outputs: readonly InferenceSession.ValueMetadata[];
}

export interface Runtime {
  readonly Tensor: TensorConstructor;
  /** The device that is used where none is named: always there. */
  readonly first: Device;
  /** Devices that this build of ONNX Runtime can use here, the default first. */
  devices(): Promise<Device[]>;
  capabilities(device: Device): Promise<Capabilities>;
  /** Threads of a session that is not told how many. Decided once. */
  threads(): Promise<ThreadCount>;
  /** Compiles a model. Throws `DeviceError` with the runtime's own words when it cannot. */
  createSession(
    model: Uint8Array | string,
    device: Device,
    settings?: SessionSettings,
    weights?: ExternalWeights,
  ): Promise<Session>;
  /** Bytes of a tensor in a file, in memory of their own. Absent where there are no files. */
  readFile?(slice: FileSlice, bytes: number): Promise<Uint8Array>;
}

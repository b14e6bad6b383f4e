/** Foreign ONNX models, for inference: frozen feature extractors, detectors, encoders. */
import { ArgumentError, DTypeError, ShapeError } from "../errors.ts";
import { DTYPES, type DType } from "./dtype.ts";
import { evaluate, toDevice } from "./eager.ts";
import { fromHost } from "./ops/create.ts";
import { checkDevice, defaultDevice, runtime } from "./runtime/devices.ts";
import { downloaded } from "./runtime/half.ts";
import type { Device, DeviceTensor, SessionSettings } from "./runtime/runtime.ts";
import type { Tensor } from "./tensor.ts";
import { refuseWhileTracing } from "./tracing.ts";

/** What a model takes or gives. A free axis has its symbolic name, or -1. */
export interface Port {
  readonly name: string;
  readonly dtype: DType;
  /** Absent: the model does not say, and takes any. */
  readonly shape?: readonly (number | string)[];
}

/** A model of another program, ready to run. Close it when done. */
export interface ImportedModel {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Runs the model. Throws when an input is missing, unknown, or of another dtype or shape. */
  run(inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
  /** Frees the session. */
  close(): Promise<void>;
}

type Metadata = {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type?: string;
  readonly shape?: readonly (number | string)[];
};

function port(meta: Metadata): Port {
  const dtype = (Object.keys(DTYPES) as DType[]).find((d) => DTYPES[d].ort === meta.type);
  if (!meta.isTensor || !dtype)
    throw new DTypeError(
      `importOnnx: "${meta.name}" is of type ${meta.type ?? "sequence or map"}, which has no tensor type here`,
    );
  // The runtime gives an unknown shape as that of a scalar; a model with a scalar input takes it as well.
  const { name, shape = [] } = meta;
  return { name, dtype, ...(shape.length > 0 && { shape }) };
}

function checkInput(t: Tensor, { name, dtype, shape }: Port): void {
  if (t.dtype !== dtype) throw new DTypeError(`importOnnx: input "${name}" is ${dtype}, got ${t.dtype}`);
  if (!shape) return;
  const fits =
    t.rank === shape.length && shape.every((d, i) => typeof d === "string" || d === -1 || d === t.shape[i]);
  if (!fits)
    throw new ShapeError(
      `importOnnx: input "${name}" has shape [${shape.join(", ")}], got [${t.shape.join(", ")}]`,
    );
}

/**
 * Opens an ONNX model from its bytes (or, in Node, from a path, which also finds weights stored beside it). Throws
 * `DeviceError` with the runtime's own words when the file is not a model or uses operators that it lacks.
 *
 * @example
 * ```ts
 * const model = await importOnnx("model.onnx");
 * const { y } = await model.run({ x: tensor([[1, 2]]) });
 * await model.close();
 * ```
 */
export async function importOnnx(
  model: Uint8Array | string,
  options: SessionSettings & { device?: Device } = {},
): Promise<ImportedModel> {
  const rt = await runtime();
  const device = options.device ? await checkDevice(options.device) : await defaultDevice();
  const session = await rt.createSession(model, device, options);
  const inputs = session.inputs.map(port);
  const outputs = session.outputs.map(port);
  return {
    inputs,
    outputs,
    run: (given) => {
      refuseWhileTracing("an imported model was run");
      return run(given);
    },
    close: () => session.close(),
  };

  async function run(given: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
    const names = inputs.map((p) => p.name);
    const unknown = Object.keys(given).filter((name) => !names.includes(name));
    const missing = names.filter((name) => !given[name]);
    if (unknown.length + missing.length > 0) {
      throw new ArgumentError(
        `importOnnx: inputs are ${names.join(", ")}; missing: ${missing.join(", ") || "none"}; unknown: ${unknown.join(", ") || "none"}`,
      );
    }
    for (const p of inputs) checkInput(given[p.name]!, p);
    await evaluate(Object.values(given));
    const feeds = Object.fromEntries(names.map((name) => [name, toDevice(given[name]!, rt)]));
    const results = await session.run(feeds, Object.fromEntries(outputs.map((p) => [p.name, null])));
    const read = async ({ name, dtype }: Port): Promise<[string, Tensor]> => {
      const value: DeviceTensor = results[name]!;
      return [name, fromHost(dtype, value.dims, await downloaded(value))];
    };
    return Object.fromEntries(await Promise.all(outputs.map(read)));
  }
}

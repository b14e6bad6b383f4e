/** Foreign ONNX models as functions of tensors: frozen networks as losses, weights to be trained on. */
import { ArgumentError, DTypeError, ShapeError } from "../errors.ts";
import { elementToNumber } from "./dtype.ts";
import { OnnxCall, type OnnxValue } from "./onnx/call.ts";
import { foldedValues } from "./onnx/fold.ts";
import { OPERATORS } from "./onnx/operators.ts";
import { decodeModel, type ReadModel, type ReadNode, type ReadPort, type ReadTensor } from "./onnx/read.ts";
import { fromHost } from "./ops/create.ts";
import type { Tensor } from "./tensor.ts";

/** Tensors by their names in the file. */
export type NamedTensors = Readonly<Record<string, Tensor>>;

/** A foreign graph as a function of tensors. */
export interface OnnxGraph {
  /** What it takes. Free axes have their name, or -1. */
  readonly inputs: readonly ReadPort[];
  /** Names of what it gives. */
  readonly outputs: readonly string[];
  /** Its float weights with at least one axis, by name: a tree. All other constants are part of the function. */
  readonly parameters: NamedTensors;
  /**
   * The outputs by name. A plain function of tensors, for use inside of `jit` and `grad`; `parameters` stand in for its own
   * weights: pass those that are differentiated or fed. Free axes have the sizes of the inputs.
   *
   * @throws ArgumentError for missing or unknown names, ShapeError or DTypeError for inputs that do not fit
   */
  call(inputs: NamedTensors, parameters?: NamedTensors): Record<string, Tensor>;
}

/** Constants whose numbers may decide shapes. */
const KNOWN_SIZE = 1024;

const isParameter = ({ dtype, shape }: ReadTensor): boolean =>
  (dtype === "f32" || dtype === "f64" || dtype === "f16") && shape.length > 0;

/** A constant with its numbers, where they are few. */
function constantValue({ dtype, shape, data }: ReadTensor): OnnxValue {
  const tensor = fromHost(dtype, shape, data, shape.length === 0 ? "literal" : "data");
  if (data.length > KNOWN_SIZE) return { tensor };
  return { tensor, numbers: Array.from(data, (v: number | bigint) => elementToNumber(dtype, v)) };
}

/** @throws ArgumentError naming the operators that have no counterpart here, and how often they occur */
function refuseUnknown(nodes: readonly ReadNode[]): void {
  const counts = new Map<string, number>();
  for (const { op, domain } of nodes) {
    const own = domain === "" || domain === "ai.onnx";
    if (own && (op in OPERATORS || op === "Constant")) continue;
    const name = own ? op : `${domain}:${op}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  if (counts.size === 0) return;
  const list = [...counts].map(([name, n]) => `${name} (${n})`).join(", ");
  throw new ArgumentError(
    `importOnnxGraph: no operations here for ${list}; importOnnx runs such a model, without gradients`,
  );
}

function checkInputs(ports: readonly ReadPort[], given: NamedTensors): void {
  const names = ports.map((p) => p.name);
  const missing = names.filter((name) => !given[name]);
  const unknown = Object.keys(given).filter((name) => !names.includes(name));
  if (missing.length + unknown.length > 0)
    throw new ArgumentError(
      `OnnxGraph: inputs are ${names.join(", ")}; missing: ${missing.join(", ") || "none"}; unknown: ${unknown.join(", ") || "none"}`,
    );
  for (const { name, dtype, shape } of ports) {
    const t = given[name]!;
    if (t.dtype !== dtype) throw new DTypeError(`OnnxGraph: input "${name}" is ${dtype}, got ${t.dtype}`);
    const fits =
      !shape ||
      (shape.length === t.rank &&
        shape.every((d, i) => typeof d === "string" || d === -1 || d === t.shape[i]));
    if (!fits)
      throw new ShapeError(
        `OnnxGraph: input "${name}" has shape [${shape!.join(", ")}], got [${t.shape.join(", ")}]`,
      );
  }
}

/** Computes the outputs of a model, node by node in the order of the file. */
function evaluateGraph(
  { nodes, outputs, opset }: ReadModel,
  values: Map<string, OnnxValue>,
): Record<string, Tensor> {
  for (const node of nodes) {
    const inputs = node.inputs.map((name) => {
      if (name === "") return undefined;
      const value = values.get(name);
      if (!value)
        throw new ArgumentError(`OnnxGraph: ${node.op} "${node.name}" uses "${name}" before it exists`);
      return value;
    });
    const results = resultsOf(node, inputs, opset);
    node.outputs.forEach((name, i) => {
      if (name !== "" && results[i]) values.set(name, results[i]);
      else if (name !== "" && i === 0)
        throw new ArgumentError(`OnnxGraph: ${node.op} gave nothing for "${name}"`);
    });
  }
  return Object.fromEntries(
    outputs.map((name) => {
      const value = values.get(name);
      if (!value) throw new ArgumentError(`OnnxGraph: nothing computes the output "${name}"`);
      return [name, value.tensor];
    }),
  );
}

function resultsOf(
  node: ReadNode,
  inputs: readonly (OnnxValue | undefined)[],
  opset: number,
): (OnnxValue | undefined)[] {
  const call = new OnnxCall(node, inputs, opset);
  if (node.op === "Constant") return [constantValue(call.constant())];
  const tensors = [OPERATORS[node.op]!(call)].flat();
  const numbers = foldedValues(call, tensors[0]!);
  return tensors.map((tensor, i) => (i === 0 && numbers ? { tensor, numbers } : { tensor }));
}

/**
 * An ONNX model from its bytes as a function that can be traced, frozen and differentiated, of the operators that have a
 * counterpart here: it computes as in inference (dropout off, batch norms by their running statistics). Such as a frozen
 * classifier as a loss:
 *
 * ```ts
 * const features = importOnnxGraph(bytes);
 * const loss = (x: Tensor) => features.call({ image: x })["embedding"]!.sub(target).square().mean();
 * ```
 *
 * @throws FormatError for bytes that are no model, ArgumentError naming the operators that it lacks
 */
export function importOnnxGraph(bytes: Uint8Array): OnnxGraph {
  const model = decodeModel(bytes);
  refuseUnknown(model.nodes);
  const constants = new Map(model.constants.map((c) => [c.name, constantValue(c)]));
  const parameters = Object.fromEntries(
    model.constants.filter(isParameter).map(({ name }) => [name, constants.get(name)!.tensor]),
  );
  return {
    inputs: model.inputs,
    outputs: model.outputs,
    parameters,
    call: (inputs, given = parameters) => {
      checkInputs(model.inputs, inputs);
      const values = new Map(constants);
      for (const [name, tensor] of Object.entries(given)) {
        const own = parameters[name];
        if (!own) throw new ArgumentError(`OnnxGraph: there is no parameter "${name}"`);
        if (tensor.shape.join() !== own.shape.join())
          throw new ShapeError(
            `OnnxGraph: parameter "${name}" has shape [${own.shape}], got [${tensor.shape}]`,
          );
        if (tensor !== own) values.set(name, { tensor });
      }
      for (const [name, tensor] of Object.entries(inputs)) values.set(name, { tensor });
      return evaluateGraph(model, values);
    },
  };
}

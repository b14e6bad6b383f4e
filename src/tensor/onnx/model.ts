/** Writes a built graph as an ONNX ModelProto (onnx.proto; field numbers in comments). */

import type { Aval } from "../aval.ts";
import { bytesOf, DTYPES, type DType, type HostArray } from "../dtype.ts";
import type { AttributeValue, GraphBuilder, Initializer, OnnxNode } from "./builder.ts";
import { ProtoWriter } from "./protobuf.ts";

/** The operator set that lowerings are written against. */
export const OPSET = 21;

export interface NamedAval extends Aval {
  readonly name: string;
}

/** An output, of an inferred type when only its name is given. */
export interface NamedOutput extends Partial<Aval> {
  readonly name: string;
}

function writeAttribute(w: ProtoWriter, name: string, value: AttributeValue): void {
  w.string(1, name);
  if (typeof value === "number")
    w.int(3, value).int(20, 2); // i, INT
  else if (typeof value === "string")
    w.string(4, value).int(20, 3); // s, STRING
  else if ("float" in value)
    w.float(2, value.float).int(20, 1); // f, FLOAT
  else if ("floats" in value) {
    for (const f of value.floats) w.float(7, f);
    w.int(20, 6); // FLOATS
  } else {
    for (const i of value) w.int(8, i);
    w.int(20, 7); // INTS
  }
}

function writeNode(w: ProtoWriter, node: OnnxNode): void {
  for (const input of node.inputs) w.string(1, input);
  for (const output of node.outputs) w.string(2, output);
  w.string(3, node.outputs[0]!).string(4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    if (value !== undefined) w.message(5, (a) => writeAttribute(a, name, value));
  }
  if (node.domain) w.string(7, node.domain);
}

/** Constants of this size and more are kept outside of the model where the runtime can. */
const LARGE = 4096;

/** Where a constant outside of the model is found: a file's path below the root, or a name for bytes in memory. */
function locationOf({ name, shape, dtype, data }: Initializer): {
  path: string;
  offset: number;
  length: number;
} {
  const length = bytesOf(shape, dtype);
  if (!("path" in data)) return { path: `memory-${name}`, offset: 0, length };
  const path = data.path.replace(/^([A-Za-z]:)?[\\/]+/, "").replaceAll("\\", "/");
  return { path, offset: data.offset, length };
}

const bytesIn = (data: HostArray): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

function writeInitializer(
  w: ProtoWriter,
  init: Initializer,
  external: Map<string, Uint8Array> | undefined,
): void {
  const { name, shape, dtype, data } = init;
  for (const d of shape) w.int(1, d); // dims
  w.int(2, DTYPES[dtype].onnx).string(8, name);
  const inFile = "path" in data;
  if (!inFile && (!external || data.byteLength < LARGE)) {
    w.raw(9, bytesIn(data)); // raw_data, little endian
    return;
  }
  const { path, offset, length } = locationOf(init);
  if (!inFile) external!.set(path, bytesIn(data));
  for (const [key, value] of Object.entries({ location: path, offset, length }))
    w.message(13, (entry) => entry.string(1, key).string(2, String(value))); // external_data
  w.int(14, 1); // data_location: EXTERNAL
}

/** Name and type of an input or output. The runtime infers a type that is not given. */
function writeValueInfo(w: ProtoWriter, { name, shape, dtype }: NamedAval | NamedOutput): void {
  w.string(1, name);
  if (!shape) return;
  w.message(2, (type) =>
    type.message(1, (tensor) => {
      tensor.int(1, DTYPES[dtype as DType].onnx);
      tensor.message(2, (dims) => {
        for (const d of shape) dims.message(1, (dim) => dim.int(1, d));
      });
    }),
  );
}

/**
 * Bytes of a model file: opset 21 of ONNX, IR version 10, plus the contributed domain when it is used. Large constants
 * go into `external` when it is given, by the location under which the model refers to them.
 */
export function encodeModel(
  g: GraphBuilder,
  inputs: readonly NamedAval[],
  outputs: readonly NamedOutput[],
  metadata: Readonly<Record<string, string>> = {},
  external?: Map<string, Uint8Array>,
): Uint8Array {
  const w = new ProtoWriter();
  w.int(1, 10).string(2, "tweedie"); // ir_version, producer_name
  w.message(7, (graph) => {
    for (const node of g.nodes) graph.message(1, (n) => writeNode(n, node));
    graph.string(2, "graph");
    for (const init of g.initializers) graph.message(5, (t) => writeInitializer(t, init, external));
    for (const input of inputs) graph.message(11, (v) => writeValueInfo(v, input));
    for (const output of outputs) graph.message(12, (v) => writeValueInfo(v, output));
  });
  const domains = new Set(g.nodes.map((n) => n.domain));
  w.message(8, (o) => o.string(1, "").int(2, OPSET));
  for (const domain of domains) if (domain) w.message(8, (o) => o.string(1, domain).int(2, 1));
  for (const [key, value] of Object.entries(metadata))
    w.message(14, (m) => m.string(1, key).string(2, value));
  return w.finish();
}

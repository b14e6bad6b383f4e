/** Writes a built graph as an ONNX ModelProto (onnx.proto; field numbers in comments). */

import type { Aval } from "../aval.ts";
import { bytesOf, DTYPES, type DType, type HostArray } from "../dtype.ts";
import type { AttributeValue, GraphBuilder, Initializer, OnnxNode } from "./builder.ts";
import { ProtoWriter } from "./protobuf.ts";

/** The operator set that lowerings are written against. */
export const OPSET = 21;

/** Names of axes whose size is not fixed; undefined for the others. */
export type FreeAxes = readonly (string | undefined)[];

export interface NamedAval extends Aval {
  readonly name: string;
  readonly free?: FreeAxes;
}

/** An output, of an inferred type when only its name is given. */
export interface NamedOutput extends Partial<Aval> {
  readonly name: string;
  readonly free?: FreeAxes;
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
/** The same of indices: those that say sizes, such as of a split into hundreds of parts, are read before anything is loaded. */
const LARGE_INDICES = 64 * LARGE;

/** Takes the bytes of a large constant, and says where they will be found: in which file, or under which name in memory. */
export type KeepOutside = (
  name: string,
  bytes: Uint8Array,
) => { readonly path: string; readonly offset: number };

/** Where a constant outside of the model is found. Files are named by their path below the root. */
function locationOf({ name, data }: Initializer, keep: KeepOutside | undefined) {
  if (!("path" in data)) return keep!(name, bytesIn(data));
  const path = data.path.replace(/^([A-Za-z]:)?[\\/]+/, "").replaceAll("\\", "/");
  return { path, offset: data.offset };
}

const bytesIn = (data: HostArray): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

function writeInitializer(w: ProtoWriter, init: Initializer, keep: KeepOutside | undefined): void {
  const { name, shape, dtype, data } = init;
  for (const d of shape) w.int(1, d); // dims
  w.int(2, DTYPES[dtype].onnx).string(8, name);
  const inFile = "path" in data;
  if (!inFile && (!keep || data.byteLength < (dtype === "i64" ? LARGE_INDICES : LARGE))) {
    w.raw(9, bytesIn(data)); // raw_data, little endian
    return;
  }
  const { path, offset } = locationOf(init, keep);
  const length = bytesOf(shape, dtype);
  for (const [key, value] of Object.entries({ location: path, offset, length }))
    w.message(13, (entry) => entry.string(1, key).string(2, String(value))); // external_data
  w.int(14, 1); // data_location: EXTERNAL
}

/** Name and type of an input or output. The runtime infers a type that is not given. */
function writeValueInfo(w: ProtoWriter, { name, shape, dtype, free }: NamedAval | NamedOutput): void {
  w.string(1, name);
  if (!shape) return;
  w.message(2, (type) =>
    type.message(1, (tensor) => {
      tensor.int(1, DTYPES[dtype as DType].onnx);
      tensor.message(2, (dims) => {
        for (const [axis, d] of shape.entries())
          dims.message(1, (dim) => (free?.[axis] ? dim.string(2, free[axis]) : dim.int(1, d))); // dim_param, dim_value
      });
    }),
  );
}

/**
 * Bytes of a model file: opset 21 of ONNX, IR version 10, plus the contributed domain when it is used. Large constants
 * are given to `keep` when there is one; the model refers to where it puts them.
 */
export function encodeModel(
  g: GraphBuilder,
  inputs: readonly NamedAval[],
  outputs: readonly NamedOutput[],
  metadata: Readonly<Record<string, string>> = {},
  keep?: KeepOutside,
): Uint8Array {
  const w = new ProtoWriter();
  w.int(1, 10).string(2, "tweedie"); // ir_version, producer_name
  w.message(7, (graph) => {
    for (const node of g.nodes) graph.message(1, (n) => writeNode(n, node));
    graph.string(2, "graph");
    for (const init of g.initializers) graph.message(5, (t) => writeInitializer(t, init, keep));
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

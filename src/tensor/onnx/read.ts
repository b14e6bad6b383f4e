/** Reads an ONNX ModelProto (onnx.proto; field numbers in comments) as far as a graph of operators needs. */
import { FormatError } from "../../errors.ts";
import { DTYPES, type DType, type HostArray, hostArray, sizeOf } from "../dtype.ts";
import { type ProtoField, readProto } from "./protobuf.ts";

/** A constant tensor of a file. */
export interface ReadTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: HostArray;
}

export type ReadAttribute = number | string | readonly number[] | readonly string[] | ReadTensor;

export interface ReadNode {
  readonly op: string;
  /** "" for ONNX's own. */
  readonly domain: string;
  readonly name: string;
  /** "" where an optional input is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, ReadAttribute>;
}

/** An input or output of a foreign graph. */
export interface ReadPort {
  readonly name: string;
  readonly dtype: DType;
  /** Free axes have their name, or -1. Absent: the model does not say. */
  readonly shape?: readonly (number | string)[];
}

export interface ReadModel {
  /** Version of ONNX's own operators. */
  readonly opset: number;
  readonly nodes: readonly ReadNode[];
  readonly constants: readonly ReadTensor[];
  readonly inputs: readonly ReadPort[];
  /** Names: what they are follows from the inputs. */
  readonly outputs: readonly string[];
}

const utf8 = new TextDecoder();
const text = (f: ProtoField): string => utf8.decode(f.bytes);
/** The text of a field, "" where it is missing. */
const textOf = ([first]: readonly ProtoField[]): string => (first ? text(first) : "");
const signed = (value: bigint): bigint => BigInt.asIntN(64, value);

/** The fields of a message by number. */
function fieldsOf(message: Uint8Array): (field: number) => ProtoField[] {
  const all = new Map<number, ProtoField[]>();
  for (const f of readProto(message)) {
    const list = all.get(f.field);
    if (list) list.push(f);
    else all.set(f.field, [f]);
  }
  return (field) => all.get(field) ?? [];
}

const viewOf = ({ bytes }: ProtoField): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Repeated int64, packed or not. */
function* integers(fields: readonly ProtoField[]): Generator<bigint> {
  for (const f of fields) {
    if (f.wire !== 2) {
      yield signed(f.int);
      continue;
    }
    // A packed list is varints one after the other: the fields of a message without tags.
    for (let at = 0; at < f.bytes.length; ) {
      let value = 0n;
      for (let shift = 0n; ; shift += 7n) {
        const byte = f.bytes[at++];
        if (byte === undefined || shift >= 70n) throw new FormatError("onnx: a list of integers is cut off");
        value |= BigInt(byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
      yield signed(value);
    }
  }
}

/** Repeated float (4 bytes) or double (8), packed or not. */
function reals(fields: readonly ProtoField[], size: 4 | 8): number[] {
  return fields.flatMap((f) => {
    const view = viewOf(f);
    if (view.byteLength % size !== 0) throw new FormatError("onnx: a list of numbers is cut off");
    return Array.from({ length: view.byteLength / size }, (_, i) =>
      size === 4 ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true),
    );
  });
}

function dtypeOf(code: bigint | undefined, what: string): DType {
  const dtype = (Object.keys(DTYPES) as DType[]).find((d) => BigInt(DTYPES[d].onnx) === code);
  if (!dtype)
    throw new FormatError(`onnx: ${what} has the element type ${code ?? "none"}, which has no tensor here`);
  return dtype;
}

function readTensor(message: Uint8Array): ReadTensor {
  const field = fieldsOf(message);
  const name = textOf(field(8)); // name
  const shape = [...integers(field(1))].map(Number); // dims
  const dtype = dtypeOf(field(2)[0]?.int, `the tensor "${name}"`); // data_type
  if (field(14)[0]?.int === 1n)
    throw new FormatError(`onnx: the tensor "${name}" lies in a file beside the model; embed it`); // data_location
  const size = sizeOf(shape);
  const raw = field(9)[0]; // raw_data
  const data = raw ? rawData(raw.bytes, dtype) : listedData(field, dtype);
  if (data.length !== size)
    throw new FormatError(`onnx: the tensor "${name}" [${shape}] has ${data.length} elements`);
  return { name, dtype, shape, data };
}

function rawData(bytes: Uint8Array, dtype: DType): HostArray {
  const { array: ArrayType, bytes: width } = DTYPES[dtype];
  if (bytes.byteLength % width !== 0) throw new FormatError("onnx: a tensor's data is cut off");
  const own = Uint8Array.from(bytes); // aligned, not kept alive by the whole file; a Buffer's `slice` would be a view
  return new ArrayType(own.buffer);
}

function listedData(field: (n: number) => ProtoField[], dtype: DType): HostArray {
  if (dtype === "f32") return Float32Array.from(reals(field(4), 4)); // float_data
  if (dtype === "f64") return Float64Array.from(reals(field(10), 8)); // double_data
  if (dtype === "i64") return BigInt64Array.from(integers(field(7))); // int64_data
  if (dtype === "u64" || dtype === "u32") return hostArray(dtype, [...integers(field(11))]); // uint64_data
  const values = [...integers(field(5))]; // int32_data, halves as their bits
  const data = new DTYPES[dtype].array(values.length);
  for (const [i, value] of values.entries()) data[i] = Number(value) as never;
  return data;
}

function readAttribute(message: Uint8Array): [name: string, value: ReadAttribute | undefined] {
  const field = fieldsOf(message);
  const name = textOf(field(1));
  const read: Readonly<Record<number, () => ReadAttribute>> = {
    1: () => reals(field(2), 4)[0] ?? 0, // FLOAT
    2: () => Number(signed(field(3)[0]?.int ?? 0n)), // INT
    3: () => textOf(field(4)), // STRING
    4: () => readTensor(field(5)[0]?.bytes ?? new Uint8Array()), // TENSOR
    6: () => reals(field(7), 4), // FLOATS
    7: () => [...integers(field(8))].map(Number), // INTS
    8: () => field(9).map(text), // STRINGS
  };
  return [name, read[Number(field(20)[0]?.int ?? 0n)]?.()];
}

function readNode(message: Uint8Array): ReadNode {
  const field = fieldsOf(message);
  const attributes = field(5).map((f) => readAttribute(f.bytes));
  return {
    inputs: field(1).map(text),
    outputs: field(2).map(text),
    name: textOf(field(3)),
    op: textOf(field(4)),
    domain: textOf(field(7)),
    attributes: new Map(attributes.flatMap(([k, v]) => (v === undefined ? [] : [[k, v] as const]))),
  };
}

function readPort(message: Uint8Array): ReadPort {
  const field = fieldsOf(message);
  const name = textOf(field(1));
  const tensor = field(2)[0] && fieldsOf(field(2)[0]!.bytes)(1)[0]; // type.tensor_type
  if (!tensor) throw new FormatError(`onnx: "${name}" is no tensor`);
  const type = fieldsOf(tensor.bytes);
  const dtype = dtypeOf(type(1)[0]?.int, `"${name}"`);
  const dims = type(2)[0] && fieldsOf(type(2)[0]!.bytes)(1); // shape.dim
  if (!dims) return { name, dtype };
  const shape = dims.map((d) => {
    const dim = fieldsOf(d.bytes);
    if (dim(1)[0]) return Number(signed(dim(1)[0]!.int)); // dim_value
    return textOf(dim(2)) || -1; // dim_param
  });
  return { name, dtype, shape };
}

/** What a model file holds. Throws `FormatError` for bytes that are none, and for tensors in files beside it. */
export function decodeModel(bytes: Uint8Array): ReadModel {
  const model = fieldsOf(bytes);
  const graph = model(7)[0];
  if (graph?.wire !== 2) throw new FormatError("onnx: these bytes hold no graph");
  const field = fieldsOf(graph.bytes);
  const opsets = model(8).map((f) => fieldsOf(f.bytes));
  const own = opsets.find((o) => ["", "ai.onnx"].includes(textOf(o(1))));
  const constants = field(5).map((f) => readTensor(f.bytes));
  const known = new Set(constants.map((c) => c.name));
  return {
    opset: Number(own?.(2)[0]?.int ?? 1n),
    nodes: field(1).map((f) => readNode(f.bytes)),
    constants,
    inputs: field(11)
      .map((f) => readPort(f.bytes))
      .filter(({ name }) => !known.has(name)),
    outputs: field(12).map((f) => textOf(fieldsOf(f.bytes)(1))),
  };
}

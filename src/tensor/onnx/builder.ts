/**
 * Collects ONNX nodes while operations lower themselves. Equal nodes and equal constants are emitted once, so a
 * kernel flipped for two gradients, or a weight transposed twice, costs one node.
 */

import type { Aval, FileSlice } from "../aval.ts";
import { DTYPES, type DType, type HostArray, hostArray, sizeOf } from "../dtype.ts";

export type AttributeValue =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly floats: readonly number[] };
export type Attributes = Readonly<Record<string, AttributeValue | undefined>>;

export interface OnnxNode {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Attributes;
}

export interface Initializer extends Aval {
  readonly name: string;
  readonly data: HostArray | FileSlice;
}

/** Domain of ONNX Runtime's contributed operators. */
export const CONTRIB = "com.microsoft";

/** What a device's kernels offer; lowerings ask before they use more than plain ONNX. */
export interface Capabilities {
  /** ONNX Runtime's contributed operators (FusedMatMul, QuickGelu …) run on this device. */
  readonly contrib: boolean;
  readonly name: string;
  /** Channels per block of the CPU's blocked convolutions, where there are any. */
  readonly channelBlock?: number;
  /** Integer products with signed bytes on the right are exact; elsewhere their sums may saturate in 16 bits. */
  readonly exactSignedBytes?: boolean;
  /** MatMulNBits at accuracy level 4 rounds its input and multiplies integers; elsewhere the level is passed over. */
  readonly roundsBlocks?: boolean;
  /** Results are written into memory of the caller. */
  readonly writesInto?: boolean;
  /** Large constants may lie outside of the model: in memory, or in files that the runtime maps. */
  readonly externalWeights?: boolean;
}

export const CPU_CAPABILITIES: Capabilities = { contrib: true, name: "cpu" };
/** Files for ONNX Runtime: its own operators, and packed weights that are multiplied by rounded inputs in integers. */
export const ONNX_RUNTIME: Capabilities = { contrib: true, name: "onnx runtime", roundsBlocks: true };
/** Standard operators only: what `exportOnnx` writes for other runtimes. */
export const PLAIN_ONNX: Capabilities = { contrib: false, name: "onnx" };

export class GraphBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: Initializer[] = [];
  /** Values that are also there in the channel-blocked layout (ops/block-form.ts), by the name of their plain form. */
  readonly blocked = new Map<string, string>();
  readonly capabilities: Capabilities;
  private readonly known = new Map<string, readonly string[]>();
  private readonly producers = new Map<string, OnnxNode>();
  private readonly constantNames = new Set<string>();
  private names = 0;

  constructor(capabilities: Capabilities) {
    this.capabilities = capabilities;
  }

  get contrib(): boolean {
    return this.capabilities.contrib;
  }

  private fresh(prefix: string): string {
    return `${prefix}${this.names++}`;
  }

  /** Adds a node with `outputs` outputs (or finds an equal one) and returns their names. */
  node(
    op: string,
    inputs: readonly string[],
    attributes: Attributes = {},
    outputs = 1,
    domain = "",
  ): readonly string[] {
    const key = JSON.stringify([domain, op, inputs, attributes, outputs]);
    const seen = this.known.get(key);
    if (seen) return seen;
    const names = Array.from({ length: outputs }, () => this.fresh("v"));
    const node = { op, domain, inputs, outputs: names, attributes };
    this.nodes.push(node);
    for (const name of names) this.producers.set(name, node);
    this.known.set(key, names);
    if (inputs.length > 0 && inputs.every((name) => this.constantNames.has(name)))
      for (const name of names) this.constantNames.add(name); // the runtime computes them once
    return names;
  }

  /** The node that computes a value, if it is not an input or a constant. */
  producerOf(name: string): OnnxNode | undefined {
    return this.producers.get(name);
  }

  /** Takes out the nodes that none of the given values needs. */
  keepOnly(outputs: Iterable<string>): void {
    const needed = new Set(outputs);
    const kept: OnnxNode[] = [];
    for (const node of this.nodes.toReversed()) {
      if (!node.outputs.some((name) => needed.has(name))) continue;
      for (const input of node.inputs) needed.add(input);
      kept.push(node);
    }
    this.nodes.splice(0, this.nodes.length, ...kept.reverse());
    const used = this.initializers.filter(({ name }) => needed.has(name));
    this.initializers.splice(0, this.initializers.length, ...used);
  }

  /** Adds a node with one output. */
  op(op: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.node(op, inputs, attributes)[0]!;
  }

  /** Adds a node of ONNX Runtime's own domain. Ask `contrib` first. */
  contribOp(op: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.node(op, inputs, attributes, 1, CONTRIB)[0]!;
  }

  /** A constant tensor. Small ones are shared when equal. */
  constant(dtype: DType, shape: readonly number[], data: HostArray): string {
    const key = data.length <= 64 ? `${dtype}[${shape}]${data}` : undefined;
    const seen = key && this.known.get(key);
    if (seen) return seen[0]!;
    const name = this.addInitializer(dtype, shape, data);
    if (key) this.known.set(key, [name]);
    return name;
  }

  /** The values of a constant in memory, or undefined for values that are computed or lie in a file. */
  valuesOf(name: string): HostArray | undefined {
    const data = this.initializers.find((init) => init.name === name)?.data;
    return data && !("path" in data) ? data : undefined;
  }

  /** A value that is made once for a key. */
  once(key: string, make: () => string): string {
    const seen = this.known.get(key);
    if (seen) return seen[0]!;
    const name = make();
    this.known.set(key, [name]);
    return name;
  }

  /** A constant that stays in its file. Ask `externalWeights` first. */
  constantInFile(dtype: DType, shape: readonly number[], file: FileSlice): string {
    return this.addInitializer(dtype, shape, file);
  }

  private addInitializer(dtype: DType, shape: readonly number[], data: HostArray | FileSlice): string {
    const name = this.fresh("c");
    this.initializers.push({ name, dtype, shape, data });
    this.constantNames.add(name);
    return name;
  }

  /** Whether a value is a constant of the graph, which the runtime may rearrange as it likes. */
  isConstant(name: string): boolean {
    return this.constantNames.has(name);
  }

  /** A one-dimensional i64 constant: shapes, axes, pads. */
  ints(values: readonly number[]): string {
    return this.constant("i64", [values.length], hostArray("i64", values));
  }

  /** A constant of one element. */
  scalar(dtype: DType, value: number, shape: readonly number[] = []): string {
    return this.constant(dtype, shape, hostArray(dtype, [value]));
  }

  /** A constant filled with one value. */
  full(dtype: DType, shape: readonly number[], value: number): string {
    const data = new DTYPES[dtype].array(sizeOf(shape));
    data.fill(hostArray(dtype, [value])[0] as never);
    return this.constant(dtype, shape, data);
  }

  /** Of a value that was reshaped itself, what it was before. */
  reshape(x: string, shape: readonly number[]): string {
    const before = this.producers.get(x);
    const source = before?.op === "Reshape" && before.attributes.allowzero === 1 ? before.inputs[0]! : x;
    return this.op("Reshape", [source, this.ints(shape)], { allowzero: 1 });
  }

  transpose(x: string, perm: readonly number[]): string {
    return perm.every((p, i) => p === i) ? x : this.op("Transpose", [x], { perm });
  }

  slice(
    x: string,
    axes: readonly number[],
    starts: readonly number[],
    ends: readonly number[],
    steps: readonly number[],
  ): string {
    return this.op("Slice", [x, this.ints(starts), this.ints(ends), this.ints(axes), this.ints(steps)]);
  }

  sum(x: string, axes: readonly number[], keepdims: boolean): string {
    return this.op("ReduceSum", [x, this.ints(axes)], { keepdims: keepdims ? 1 : 0 });
  }
}

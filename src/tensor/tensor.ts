/**
 * `Tensor`: an output of a node in a lazily built graph. Shape and element type are known at once, the value on
 * demand. The same class serves eager use (a value is computed when it is asked for) and tracing (`jit` compiles the
 * graph into one session). Every function of `methods.ts` is also a method, so that formulas chain.
 */
import { LifetimeError, ShapeError } from "../errors.ts";
import { bytesOf, type DType, elementToNumber, type HostArray, sizeOf } from "./dtype.ts";
import { evaluate, readHost } from "./eager.ts";
import type { TensorMethods } from "./methods.ts";
import type { AnyOp } from "./ops/op.ts";
import type { DeviceTensor } from "./runtime/runtime.ts";

/** Shape and element type: all that is known of a tensor while tracing. */
export interface Aval {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** Where a tensor lies in a file: its elements row-major, little endian. */
export interface FileSlice {
  /** Absolute. */
  readonly path: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
}

/** A value: on the host, on the device, in a file that has not been read yet, or in several of these. */
export interface Value {
  host?: HostArray;
  device?: DeviceTensor;
  file?: FileSlice;
}

/** How a leaf came to be: data, a number written in a formula (embedded in the graph), or an input of a trace. */
export type LeafKind = "data" | "literal" | "input";

let nextNodeId = 0;

/** The id that the next node will get. */
export const peekNodeId = (): number => nextNodeId;

/** One application of an operation, or a leaf (no operation). */
export class Node {
  /** Grows with creation: whatever existed before a function was called has a smaller id. */
  readonly id = nextNodeId++;
  op: AnyOp | undefined;
  inputs: readonly Tensor[];
  attrs: unknown;
  readonly avals: readonly Aval[];
  leaf: LeafKind | undefined;
  readonly values: (Value | undefined)[];
  /** Why the value is no longer there, when it is not. */
  gone: string | undefined;

  constructor(
    op: AnyOp | undefined,
    inputs: readonly Tensor[],
    attrs: unknown,
    avals: readonly Aval[],
    leaf?: LeafKind,
  ) {
    this.op = op;
    this.inputs = inputs;
    this.attrs = attrs;
    this.avals = avals;
    this.leaf = leaf;
    this.values = avals.map(() => undefined);
  }

  /** All outputs as tensors. */
  tensors(): Tensor[] {
    return this.avals.map((_, i) => new Tensor(this, i));
  }

  /** Turns the node into a leaf that holds its values, so that what led here can be collected. */
  settle(values: readonly Value[]): void {
    this.op = undefined;
    this.inputs = [];
    this.attrs = undefined;
    this.leaf = "data";
    for (const [i, value] of values.entries()) this.values[i] = value;
  }
}

/** Numbers are taken as scalars of the other operand's dtype. */
export type TensorLike = Tensor | number;

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the methods are installed from one table in methods.ts
export class Tensor {
  readonly node: Node;
  /** Which output of the node this is. */
  readonly output: number;

  constructor(node: Node, output = 0) {
    this.node = node;
    this.output = output;
  }

  get shape(): readonly number[] {
    return this.node.avals[this.output]!.shape;
  }
  get dtype(): DType {
    return this.node.avals[this.output]!.dtype;
  }
  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }
  /** Bytes of the value. */
  get bytes(): number {
    return bytesOf(this.shape, this.dtype);
  }
  /** The value, when it has been computed already. Throws `LifetimeError` after donation or disposal. */
  get value(): Value | undefined {
    if (this.node.gone) throw new LifetimeError(`${this}: its value is gone: ${this.node.gone}`);
    return this.node.values[this.output];
  }

  /** Computes the value now (with everything it depends on) and returns the tensor. */
  async eval(): Promise<this> {
    await evaluate([this]);
    return this;
  }
  /** The elements, row-major, in the dtype's typed array. Do not write into it. */
  async data(): Promise<HostArray> {
    await evaluate([this]);
    return readHost(this);
  }
  /** The elements as a flat array of numbers. */
  async toArray(): Promise<number[]> {
    return Array.from(await this.data(), (v: number | bigint) => elementToNumber(this.dtype, v));
  }
  /** The single element as a number. Throws `ShapeError` when there is not exactly one. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new ShapeError(`item: expected exactly one element, got shape [${this.shape}]`);
    return elementToNumber(this.dtype, (await this.data())[0]!);
  }
  /** Frees the value. Using the tensor afterwards throws `LifetimeError`. */
  dispose(): void {
    for (const value of this.node.values) value?.device?.dispose?.();
    this.node.values.fill(undefined);
    this.node.inputs = [];
    this.node.gone = "it was disposed";
  }
  /** What `console.log` shows in Node. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
  toString(): string {
    return `Tensor ${this.dtype}[${this.shape.join(", ")}]`;
  }
}

export interface Tensor extends TensorMethods {}

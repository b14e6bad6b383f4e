/**
 * `Tensor`: an output of a node in a lazily built graph. Shape and element type are known at once, the value on
 * demand. The same class serves eager use (a value is computed when it is asked for) and tracing (`jit` compiles the
 * graph into one session). Every function of `methods.ts` is also a method, so that formulas chain.
 */
import { ArgumentError, LifetimeError } from "../errors.ts";
import type { Aval, FileSlice } from "./aval.ts";
import { bytesOf, type DType, type HostArray, sizeOf } from "./dtype.ts";
import type { GraphBuilder } from "./onnx/builder.ts";
import { asHostArray } from "./runtime/half.ts";
import type { DeviceTensor } from "./runtime/runtime.ts";

/** A value: on the host, on the device, in a file that has not been read yet, or in several of these. */
export interface Value {
  host?: HostArray;
  device?: DeviceTensor;
  file?: FileSlice;
  /** Somebody else holds this memory too (who gave it, or was given it): it is never written into. */
  shared?: boolean;
  /** Of a result of a compiled function that was given arguments by donation: what it was given. */
  undo?: Undo;
}

/** The memory of donated arguments, until the result has been donated in turn. */
export interface Undo {
  /** The arguments as they were, by their index; once. */
  restore(): unknown[] | undefined;
  /** The caller has gone on: the memory goes to `give`, or to nobody. */
  release(give?: (aval: Aval, device: DeviceTensor) => void): void;
}

/** A cotangent is absent where nothing flows back. */
export type Cotangent = Tensor | undefined;

/**
 * What an operation is: ONE record with its shape rule, its lowering to ONNX and its vector-Jacobian product side by
 * side. A missing rule is a compile error.
 */
export interface Op<Attrs> {
  readonly name: string;
  /** Shapes and dtypes of the outputs. Throws `ShapeError` or `DTypeError` with the reason alone. */
  infer(inputs: readonly Aval[], attrs: Attrs): readonly Aval[];
  /** Emits ONNX nodes and returns the names of the outputs. */
  lower(
    g: GraphBuilder,
    inputs: readonly string[],
    attrs: Attrs,
    avals: { readonly inputs: readonly Aval[]; readonly outputs: readonly Aval[] },
  ): readonly string[];
  /** Cotangents of the inputs from those of the outputs, written with differentiable operations. */
  vjp(
    cotangents: readonly Cotangent[],
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    attrs: Attrs,
  ): readonly Cotangent[];
}

/** An operation, whatever it is recorded with. */
// biome-ignore lint/suspicious/noExplicitAny: attributes differ per operation; each record is checked where it is defined
export type AnyOp = Op<any>;

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

/**
 * Its methods are installed from one table in `methods.ts`. JavaScript's operators do not compute on tensors: a tensor is
 * always truthy, and `x > 0`, `x + 1` throw. Comparisons are `x.greater(0)`, choices are `where`.
 */
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

  /** Frees the value. Using the tensor afterwards throws `LifetimeError`. */
  dispose(): void {
    for (const value of this.node.values) value?.device?.dispose?.();
    this.node.values.fill(undefined);
    this.node.inputs = [];
    this.node.gone = "it was disposed";
  }
  /** Text in a template is the only thing that an operator of JavaScript makes of a tensor. Otherwise throws `ArgumentError`. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === "string") return this.toString();
    throw new ArgumentError(
      `${this}: the operators of JavaScript do not work on tensors; use its methods (x.add(1), x.greater(0)), where(condition, a, b) to choose, and await x.item() for a number`,
    );
  }
  /** What `console.log` shows in Node. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
  /** Dtype and shape, such as `Tensor f32[2, 3]`; not the values. */
  toString(): string {
    return `Tensor ${this.dtype}[${this.shape.join(", ")}]`;
  }
}

/** Host data of a computed tensor, for a look: who keeps it takes `readHost`. */
export function peekHost(t: Tensor): HostArray {
  const value = t.value;
  if (!value || (!value.host && !value.device))
    throw new LifetimeError(`${t} has no value yet: await its data()`);
  value.host ??= asHostArray(value.device!.data);
  return value.host;
}

/** Host data of a computed tensor, to keep: no compiled function writes into it any more. Do not write into it. */
export function readHost(t: Tensor): HostArray {
  const host = peekHost(t);
  t.value!.shared = true;
  return host;
}

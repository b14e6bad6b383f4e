/** One node of a foreign graph as an operator sees it: its inputs, and its attributes with their defaults. */
import { ArgumentError } from "../../errors.ts";
import { hostArray } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";
import type { ReadAttribute, ReadNode, ReadTensor } from "./read.ts";

/** A tensor, with its numbers where they are known while tracing: shapes, axes, bounds. */
export interface OnnxValue {
  readonly tensor: Tensor;
  readonly numbers?: readonly number[];
}

export class OnnxCall {
  readonly node: ReadNode;
  readonly values: readonly (OnnxValue | undefined)[];
  readonly opset: number;

  constructor(node: ReadNode, values: readonly (OnnxValue | undefined)[], opset: number) {
    this.node = node;
    this.values = values;
    this.opset = opset;
  }

  /** An error about this node. */
  error(what: string): ArgumentError {
    const { op, name, outputs } = this.node;
    return new ArgumentError(`OnnxGraph: ${op} "${name || outputs[0]}": ${what}`);
  }

  has(i: number): boolean {
    return this.values[i] !== undefined;
  }

  /** Input i. Throws `ArgumentError` when it is left out. */
  x(i = 0): Tensor {
    const value = this.values[i];
    if (!value) throw this.error(`input ${i} is missing`);
    return value.tensor;
  }

  maybe(i: number): Tensor | undefined {
    return this.values[i]?.tensor;
  }

  /** All inputs that are given. */
  all(): Tensor[] {
    return this.values.flatMap((v) => (v ? [v.tensor] : []));
  }

  /** The numbers of input i, undefined when it is left out. Throws `ArgumentError` when they depend on the data. */
  numbers(i: number): readonly number[] | undefined {
    const value = this.values[i];
    if (!value) return undefined;
    if (!value.numbers) throw this.error(`input ${i} must be known without running the model`);
    return value.numbers;
  }

  /** Integers that older opsets have as an attribute, and newer ones as an input. */
  ints(i: number, attribute: string): readonly number[] | undefined {
    return this.numbers(i) ?? this.list(attribute);
  }

  private attribute(name: string): ReadAttribute | undefined {
    return this.node.attributes.get(name);
  }

  number(name: string, standard: number): number {
    const value = this.attribute(name) ?? standard;
    if (typeof value !== "number") throw this.error(`the attribute ${name} is no number`);
    return value;
  }

  string(name: string, standard: string): string {
    const value = this.attribute(name) ?? standard;
    if (typeof value !== "string") throw this.error(`the attribute ${name} is no text`);
    return value;
  }

  list(name: string): readonly number[] | undefined {
    const value = this.attribute(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.some((v) => typeof v !== "number"))
      throw this.error(`the attribute ${name} is no list of numbers`);
    return value as readonly number[];
  }

  /** Throws `ArgumentError` unless an attribute is absent or has one of the given values. */
  only(name: string, ...values: readonly ReadAttribute[]): void {
    const value = this.attribute(name);
    if (value !== undefined && !values.some((v) => String(v) === String(value)))
      throw this.error(`${name} ${JSON.stringify(value)} is not supported`);
  }

  /** The tensor of a Constant node. */
  constant(): ReadTensor {
    const own = this.attribute("value");
    if (typeof own === "object" && "data" in own) return own;
    const { name } = this.node;
    const make = (dtype: "f32" | "i64", values: readonly number[], shape: readonly number[]): ReadTensor => ({
      ...{ name, dtype, shape },
      data: hostArray(dtype, values),
    });
    for (const [key, dtype] of [
      ["value_float", "f32"],
      ["value_int", "i64"],
    ] as const) {
      if (this.attribute(key) !== undefined) return make(dtype, [this.number(key, 0)], []);
      const values = this.list(`${key}s`);
      if (values) return make(dtype, values, [values.length]);
    }
    throw this.error("a constant that is no tensor");
  }
}

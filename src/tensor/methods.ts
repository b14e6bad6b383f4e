/** Functions that are also methods of `Tensor`: the tensor is their first argument. */
import { data, evalTensor, item, toArray } from "./eager.ts";
import * as arithmetic from "./ops/arithmetic.ts";
import * as elementwise from "./ops/elementwise.ts";
import * as control from "./ops/gradient-control.ts";
import * as image from "./ops/image.ts";
import * as indexing from "./ops/indexing.ts";
import * as matrix from "./ops/matmul.ts";
import { pad, repeat, roll, setSlice, tile } from "./ops/pad.ts";
import * as reduce from "./ops/reduce.ts";
import * as shape from "./ops/shape.ts";
import { flip, select, slice, sliceAxis } from "./ops/slice.ts";
import { Tensor } from "./tensor.ts";

const { arithmeticOps: _a, where: _w, ...arithmeticMethods } = arithmetic;
const { elementwiseOps: _e, ...elementwiseMethods } = elementwise;
const { reduceOps: _r, ...reduceMethods } = reduce;
const { indexingOps: _i, ...indexingMethods } = indexing;
const { shapeOps: _s, stack: _t, ...shapeMethods } = shape;

const methods = {
  eval: evalTensor,
  data,
  toArray,
  item,
  ...elementwiseMethods,
  ...arithmeticMethods,
  ...reduceMethods,
  ...indexingMethods,
  ...shapeMethods,
  slice,
  sliceAxis,
  select,
  flip,
  pad,
  repeat,
  roll,
  setSlice,
  tile,
  ...image,
  matmul: matrix.matmul,
  cast: control.cast,
  castHost: control.castHost,
  stopGradient: control.stopGradient,
};

type Rest<F extends (...args: never[]) => unknown> = Parameters<F> extends [unknown, ...infer R] ? R : [];

export type TensorMethods = {
  [K in keyof typeof methods]: (...args: Rest<(typeof methods)[K]>) => ReturnType<(typeof methods)[K]>;
};

/** Installs the methods. Called once by `index.ts`. */
export function installMethods(): void {
  for (const [name, f] of Object.entries(methods) as [string, (...args: unknown[]) => unknown][]) {
    Object.defineProperty(Tensor.prototype, name, {
      value(this: Tensor, ...args: unknown[]) {
        return f(this, ...args);
      },
      writable: true,
      configurable: true,
    });
  }
}

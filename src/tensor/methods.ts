/** Functions that are also methods of `Tensor`: the tensor is their first argument. */
import { data, evalTensor, item, toArray } from "./eager.ts";
import * as arithmetic from "./ops/arithmetic.ts";
import * as casting from "./ops/cast.ts";
import * as composed from "./ops/composed.ts";
import * as cumulative from "./ops/cumulative.ts";
import * as elementwise from "./ops/elementwise.ts";
import * as control from "./ops/gradient-control.ts";
import * as image from "./ops/image.ts";
import * as indexing from "./ops/indexing.ts";
import * as matrix from "./ops/matmul.ts";
import * as norms from "./ops/norms.ts";
import * as padding from "./ops/pad.ts";
import * as reduce from "./ops/reduce.ts";
import * as shape from "./ops/shape.ts";
import * as slicing from "./ops/slice.ts";
import { Tensor } from "./tensor.ts";

/** The named functions of a module: named one by one, so that a new export is not a method by accident. */
const pick = <M extends object, K extends keyof M>(module: M, ...names: readonly K[]): Pick<M, K> =>
  Object.fromEntries(names.map((name) => [name, module[name]])) as Pick<M, K>;

const methods = {
  eval: evalTensor,
  data,
  toArray,
  item,
  ...pick(
    elementwise,
    "neg",
    "abs",
    "sign",
    "exp",
    "log",
    "sqrt",
    "reciprocal",
    "rsqrt",
    "square",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "tanh",
    "erf",
    "sigmoid",
    "softplus",
    "relu",
    "silu",
    "quickGelu",
    "gelu",
    "floor",
    "ceil",
    "round",
    "isNan",
    "isInf",
    "logicalNot",
    "bitwiseNot",
    "clip",
    "clipTo",
  ),
  ...pick(
    arithmetic,
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "mod",
    "equal",
    "less",
    "lessEqual",
    "greater",
    "greaterEqual",
    "logicalAnd",
    "logicalOr",
    "logicalXor",
    "bitwiseAnd",
    "bitwiseOr",
    "bitwiseXor",
    "shiftLeft",
    "shiftRight",
  ),
  ...pick(
    reduce,
    "sum",
    "mean",
    "variance",
    "max",
    "min",
    "argmax",
    "argmin",
    "topK",
    "sort",
    "softmax",
    "logSoftmax",
    "sumTo",
  ),
  ...pick(norms, "norm", "logSumExp"),
  ...pick(composed, "log1p", "expm1", "atan2", "leakyRelu", "elu", "isFinite", "std", "argsort"),
  ...pick(cumulative, "cumsum", "prod", "cumprod"),
  ...pick(matrix, "matmul"),
  ...pick(
    indexing,
    "gather",
    "gatherElements",
    "scatterElements",
    "gatherND",
    "scatterND",
    "scatterAdd",
    "oneHot",
  ),
  ...pick(
    shape,
    "reshape",
    "transpose",
    "broadcastTo",
    "unsqueeze",
    "squeeze",
    "flattenAxes",
    "concat",
    "split",
  ),
  ...pick(slicing, "slice", "sliceAxis", "select", "flip"),
  ...pick(padding, "pad", "tile", "repeat", "roll", "setSlice"),
  ...pick(image, "resize", "pixelShuffle", "pixelUnshuffle", "gridSample"),
  ...pick(casting, "cast", "castHost"),
  ...pick(control, "stopGradient"),
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

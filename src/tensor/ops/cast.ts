/** Conversion between element types. */
import { DTypeError } from "../../errors.ts";
import { convertHost, DTYPES, type DType, isFloat } from "../dtype.ts";
import { type Op, peekHost, type Tensor } from "../tensor.ts";
import { fromHost } from "./create.ts";
import { apply1 } from "./op.ts";

const castOp: Op<{ to: DType }> = {
  name: "cast",
  infer: ([x], { to }) => {
    if (to === "bf16") throw new DTypeError("bf16 is for storage only: use castHost on a computed tensor");
    return [{ shape: x!.shape, dtype: to }];
  },
  lower: (g, [x], { to }) => [g.op("Cast", [x!], { to: DTYPES[to].onnx })],
  vjp: ([ct], [x]) => [isFloat(x!.dtype) ? ct && cast(ct, x!.dtype) : undefined],
};

/**
 * Another element type. Floats to integers truncate towards zero; gradients flow between float types. A bf16 leaf is
 * widened on the host.
 */
export function cast(x: Tensor, to: DType): Tensor {
  if (x.dtype === to) return x;
  if (x.dtype === "bf16")
    return cast(fromHost("f32", x.shape, convertHost(peekHost(x), "bf16", "f32") as Float32Array), to);
  return apply1(castOp, [x], { to });
}

/** The value in another element type, converted on the host: how f16 and bf16 weights are made for storage. */
export async function castHost(x: Tensor, to: DType): Promise<Tensor> {
  return fromHost(to, x.shape, convertHost(await x.data(), x.dtype, to));
}

/** The tensor as it is stored: the f16 leaf that a cast to f32 reads (weights of half precision), or x itself. */
export function storedOf(x: Tensor): Tensor {
  const [source] = x.node.inputs;
  const isWidened = x.node.op === castOp && !x.node.gone && source?.dtype === "f16" && source.value;
  return isWidened ? source : x;
}

export const castOps = { cast: castOp };

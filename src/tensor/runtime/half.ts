/**
 * f16 values as bits. Where JavaScript has `Float16Array`, ONNX Runtime turns the data of every float16 tensor into one.
 * Its Node binding then takes that array for zero bytes, and whoever reads it as bit patterns reads rounded values. So
 * tensors are given the `Uint16Array` over the same memory as their own `data`, which every version accepts.
 */
import type { HostArray } from "../dtype.ts";
import type { DeviceTensor } from "./runtime.ts";

/** The array as our dtypes store it: bits instead of a `Float16Array`, over the same memory. */
export function asHostArray(data: DeviceTensor["data"]): HostArray {
  // A plain test of the name: the type library of the oldest Node does not know the class.
  if (data.constructor.name !== "Float16Array") return data as HostArray;
  const { buffer, byteOffset, length } = data as Uint16Array;
  return new Uint16Array(buffer, byteOffset, length);
}

/** The same tensor; when it is of type float16 and in host memory, its `data` are bits from now on. */
export function withBits<T extends DeviceTensor>(tensor: T): T {
  if (tensor.type !== "float16" || !tensor.location.startsWith("cpu")) return tensor;
  const bits = asHostArray(tensor.data);
  return bits === tensor.data ? tensor : Object.defineProperty(tensor, "data", { value: bits });
}

/** Elements of a tensor, downloaded when they are in device memory. */
export async function downloaded(tensor: DeviceTensor): Promise<HostArray> {
  return asHostArray(await tensor.getData());
}

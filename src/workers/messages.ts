/** What goes to a worker thread and comes back: plain data, typed arrays, and tensors as their elements. */
import * as errors from "../errors.ts";
import {
  adopt,
  type DType,
  evaluate,
  type HostArray,
  peekHost,
  Tensor,
  treeLeaves,
} from "../tensor/index.ts";

/** What a thread runs, as it is told when it starts. */
export interface ThreadTask {
  readonly module: string;
  readonly name: string;
  readonly setup: readonly unknown[] | undefined;
  /** One number, 1 from when the pool is being closed. */
  readonly closing: Int32Array<SharedArrayBuffer>;
}

export type ToThread = { readonly id: number; readonly args: unknown } | { readonly close: true };

export type FromThread =
  | { readonly ready: true }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: PlainError }
  /** Nothing runs in the thread, and nothing will. */
  | { readonly idle: true };

/** What tells a tensor between threads from other objects. */
const MARK = "tweedie tensor";

/** A tensor between threads. */
interface SentTensor {
  readonly mark: typeof MARK;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: HostArray;
}

const isPlain = (value: object): boolean => {
  const proto = Object.getPrototypeOf(value);
  return Array.isArray(value) || proto === Object.prototype || proto === null;
};

/** A value with other values in place of some of what its arrays and plain objects hold. */
function mapped(value: unknown, f: (value: object) => unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const found = f(value);
  if (found !== undefined) return found;
  if (!isPlain(value)) return value;
  if (Array.isArray(value)) return value.map((child) => mapped(child, f));
  return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, mapped(child, f)]));
}

/** A value that can be posted: tensors in arrays and plain objects are computed, and are their elements. */
export async function packed(value: unknown): Promise<unknown> {
  const tensors = treeLeaves(value);
  if (tensors.length === 0) return value;
  await evaluate(tensors);
  return mapped(value, (t) =>
    t instanceof Tensor
      ? ({ mark: MARK, dtype: t.dtype, shape: t.shape, data: peekHost(t) } satisfies SentTensor)
      : undefined,
  );
}

/** The inverse of `packed`, on the other side: what was posted belongs to the receiver. */
export const unpacked = (value: unknown): unknown =>
  mapped(value, (found) => {
    const sent = found as Partial<SentTensor>;
    return sent.mark === MARK ? adopt(sent.dtype!, sent.shape!, sent.data!) : undefined;
  });

/** An error between threads: its class is found again by its name. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
}

export const plainError = (error: unknown): PlainError =>
  error instanceof Error
    ? { name: error.name, message: error.message }
    : { name: "Error", message: String(error) };

/** The same error, of the same class where it is one of ours. */
export function revived({ name, message }: PlainError): Error {
  const known = (errors as unknown as Record<string, unknown>)[name];
  if (typeof known === "function" && known !== errors.TweedieError)
    return new (known as new (message: string) => Error)(message);
  return new Error(message);
}

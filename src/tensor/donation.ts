/**
 * Donated arguments of compiled functions: their memory becomes that of later results, once the caller has gone on. Memory
 * that somebody else holds (arrays of the user's, `data()` that was handed out) is left alone.
 */
import type { Aval } from "./aval.ts";
import { DTYPES, type DType, sizeOf } from "./dtype.ts";
import { wrapHost } from "./eager.ts";
import type { DeviceTensor, Runtime } from "./runtime/runtime.ts";
import { Node, Tensor, type Undo, type Value } from "./tensor.ts";
import { flatten } from "./tree.ts";

/** Spare memory by dtype and size. */
export class BufferPool {
  private readonly spare = new Map<string, DeviceTensor[]>();
  private key = (dtype: DType, shape: readonly number[]): string => `${dtype}[${shape}]`;

  /** A spare buffer, or a new one. */
  take(dtype: DType, shape: readonly number[], rt: Runtime): DeviceTensor {
    const found = this.spare.get(this.key(dtype, shape))?.pop();
    return found ?? wrapHost(rt, dtype, shape, new DTYPES[dtype].array(sizeOf(shape)));
  }
  readonly give = ({ dtype, shape }: Aval, buffer: DeviceTensor): void => {
    const key = this.key(dtype, shape);
    const list = this.spare.get(key);
    if (list) list.push(buffer);
    else this.spare.set(key, [buffer]);
  };
  clear(): void {
    this.spare.clear();
  }
}

/** What undoes a call that was given arguments by donation. */
export function undoOf(retired: readonly Retired[]): Undo {
  let left = retired;
  return {
    restore() {
      if (left.length === 0) return undefined;
      const args: unknown[] = [];
      for (const r of left) args[r.argument] = r.restore();
      left = [];
      return args;
    },
    release(give) {
      for (const { aval, value } of give ? left.flatMap((r) => r.buffers) : [])
        if (!value.shared) give!(aval, value.device!);
      left = [];
    },
  };
}

/** A computed result. */
export function settled(aval: Aval, value: Value): Tensor {
  const node = new Node(undefined, [], undefined, [aval], "data");
  node.values[0] = value;
  return new Tensor(node);
}

/** A donated argument after the call: its memory, and how to put it together again. */
interface Retired {
  readonly argument: number;
  readonly buffers: readonly Buffer[];
  restore(): unknown;
}

interface Buffer {
  readonly aval: Aval;
  readonly value: Value;
}

/** Takes the buffers of a donated argument, except those still in use; a leaf that occurs twice counts once. */
export function retire(argument: number, tree: unknown, kept: ReadonlySet<Node>): Retired {
  const { leaves, def } = flatten(tree);
  const buffers = new Map<Node, Buffer>();
  for (const t of leaves) {
    if (kept.has(t.node) || t.node.gone || t.node.leaf !== "data" || !t.value?.device) continue;
    const { device, host, shared } = t.value;
    // Without the undo of the step before, which would keep that step's undo, and so on.
    const value: Value = { device, ...(host && { host }), ...(shared && { shared }) };
    buffers.set(t.node, { aval: { shape: t.shape, dtype: t.dtype }, value });
    t.node.values.fill(undefined);
    t.node.gone = "it was donated to a compiled function; use the state that the function returned";
  }
  const restored = (t: Tensor): Tensor => {
    const own = buffers.get(t.node);
    return own ? settled(own.aval, own.value) : t;
  };
  return { argument, buffers: [...buffers.values()], restore: () => def.unflatten(leaves.map(restored)) };
}

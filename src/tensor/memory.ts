/** Refuses tensors that cannot fit before anything is allocated. */
import { MemoryError } from "../errors.ts";
import { bytesOf, type DType } from "./dtype.ts";

/** Bytes as people read them. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  let value = bytes;
  while (value >= 1024 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 || value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${units[i]}`;
}

function physicalMemory(): number {
  // Node only; browsers do not tell, so 4 GiB (the wasm address space) is the bound there.
  const os = typeof process === "object" ? process.getBuiltinModule?.("node:os") : undefined;
  return os?.totalmem() ?? 4 * 2 ** 30;
}

let limit: number | undefined;

/** Largest number of bytes that one graph or tensor may need; by default the machine's memory. */
export const memoryLimit = (): number => (limit ??= physicalMemory());

/** Sets the limit in bytes (`undefined`: the machine's memory again). */
export function setMemoryLimit(bytes: number | undefined): void {
  limit = bytes;
}

/** Throws `MemoryError` when `bytes` is over the limit. */
export function assertFits(bytes: number, what: string): void {
  if (!(bytes <= memoryLimit())) {
    throw new MemoryError(
      `${what} needs ${formatBytes(bytes)}, more than the limit of ${formatBytes(memoryLimit())}`,
    );
  }
}

/** Throws `MemoryError` when one tensor alone is over the limit. */
export function assertTensorFits(shape: readonly number[], dtype: DType): void {
  assertFits(bytesOf(shape, dtype), `a tensor ${dtype}[${shape.join(", ")}]`);
}

/** Abstract values: shape and element type of a tensor, without its elements. */
import type { DType } from "./dtype.ts";

/** Shape and element type: all there is while tracing. */
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

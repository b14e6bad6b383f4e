/** Measures of how far a value is from its reference, and the limits that they are held to. */

/** Largest permitted relative errors. */
export const LIMITS = {
  /** Of an output, relative to the tensor's maximum. */
  output: 1e-4,
  /** Of a gradient, relative to the tensor's maximum; of a gradient's norm, relative to the norm. */
  gradient: 1e-3,
  /** Of latents in the sampling loop. */
  loop: 1e-3,
  /** Of losses, of gradient norms before clipping and of parameters during training. */
  training: 1e-4,
  /** Of normals that torch draws by vectorised functions; absolute, because normals are of order 1. */
  normal: 5e-7,
  exact: 0,
} as const;

/** One compared tensor or number. */
export interface Check {
  readonly name: string;
  readonly kind:
    | "output"
    | "gradient"
    | "gradient norm"
    | "loss"
    | "parameter"
    | "step"
    | "draw"
    | "number"
    | "count";
  readonly maxAbsolute: number;
  /** The error relative to the reference's scale, which is what the limit is for. */
  readonly relative: number;
  readonly limit: number;
  readonly ok: boolean;
  /** What the numbers do not say. */
  readonly note?: string;
}

const maximum = (values: Iterable<number>): number => {
  let most = 0;
  for (const v of values) most = Math.max(most, Math.abs(v)); // NaN stays NaN
  return most;
};

interface Scaled {
  /** The relative error is relative to at least this much. Below it a reference is rounding noise. */
  readonly floor?: number;
  readonly note?: string;
}

function check(
  name: string,
  kind: Check["kind"],
  limit: number,
  maxAbsolute: number,
  size: number,
  { floor = 0, note }: Scaled,
): Check {
  const scale = Math.max(size, floor) || 1;
  const relative = maxAbsolute / scale;
  return { name, kind, maxAbsolute, relative, limit, ok: relative <= limit, ...(note && { note }) };
}

/** A tensor against its reference: relative to the reference's maximum. NaN and unequal lengths fail. */
export function compareTensor(
  name: string,
  kind: Check["kind"],
  limit: number,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  options: Scaled = {},
): Check {
  if (got.length !== expected.length) {
    const note = `expected ${expected.length} values, got ${got.length}`;
    return check(name, kind, limit, Number.NaN, 0, { ...options, note });
  }
  const errors = Array.from(expected, (e, i) => got[i]! - e);
  return check(name, kind, limit, maximum(errors), maximum(Array.from(expected)), options);
}

/** A number against its reference. */
export const compareNumber = (
  name: string,
  kind: Check["kind"],
  limit: number,
  got: number,
  expected: number,
  options: Scaled = {},
): Check => check(name, kind, limit, Math.abs(got - expected), Math.abs(expected), options);

/** Something that is there or is not. */
export const compareExact = (name: string, got: string, expected: string): Check => {
  const ok = got === expected;
  const error = ok ? 0 : Number.NaN;
  const note = ok ? undefined : `expected ${expected}, got ${got}`;
  return { name, kind: "count", maxAbsolute: error, relative: error, limit: 0, ok, ...(note && { note }) };
};

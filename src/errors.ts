/** Every error that Tweedie throws on purpose: one class per kind, so callers can tell them apart. */

/** Names by code: those of classes are shortened in bundles. */
const NAMES: Readonly<Record<string, string>> = {
  SHAPE: "ShapeError",
  DTYPE: "DTypeError",
  ARGUMENT: "ArgumentError",
  TREE: "TreeError",
  LIFETIME: "LifetimeError",
  MEMORY: "MemoryError",
  DEVICE: "DeviceError",
  NON_FINITE: "NonFiniteError",
  FORMAT: "FormatError",
  ABORT: "AbortError",
  CALIBRATION: "CalibrationError",
};

/** Base class of all deliberate errors. `code` is stable across versions; the message says what was expected, what came, and where. */
export class TweedieError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = NAMES[code] ?? new.target.name;
  }
}

/** Shapes that do not fit together. */
export class ShapeError extends TweedieError {
  constructor(message: string) {
    super("SHAPE", message);
  }
}

/** A dtype that an operation does not take. */
export class DTypeError extends TweedieError {
  constructor(message: string) {
    super("DTYPE", message);
  }
}

/** An argument outside its range. */
export class ArgumentError extends TweedieError {
  constructor(message: string, options?: ErrorOptions) {
    super("ARGUMENT", message, options);
  }
}

/** A tree (nested objects, arrays, modules) whose structure is not the expected one. */
export class TreeError extends TweedieError {
  constructor(message: string) {
    super("TREE", message);
  }
}

/** Use of something that was donated, closed or disposed. */
export class LifetimeError extends TweedieError {
  constructor(message: string) {
    super("LIFETIME", message);
  }
}

/** Work that would not fit into memory, refused before allocating. */
export class MemoryError extends TweedieError {
  constructor(message: string) {
    super("MEMORY", message);
  }
}

/** A device that is not there, or cannot run a graph. */
export class DeviceError extends TweedieError {
  constructor(message: string, options?: ErrorOptions) {
    super("DEVICE", message, options);
  }
}

/** A NaN or infinity where a finite number is required. */
export class NonFiniteError extends TweedieError {
  constructor(message: string) {
    super("NON_FINITE", message);
  }
}

/** A file that is malformed, hostile, truncated or of another format. */
export class FormatError extends TweedieError {
  constructor(message: string, options?: ErrorOptions) {
    super("FORMAT", message, options);
  }
}

/** An operation stopped by an `AbortSignal`. */
export class AbortError extends TweedieError {
  constructor(message = "stopped by the caller's AbortSignal") {
    super("ABORT", message);
  }
}

/** Calibration data that cannot serve: too few samples, or inputs that say too little. */
export class CalibrationError extends TweedieError {
  constructor(message: string) {
    super("CALIBRATION", message);
  }
}

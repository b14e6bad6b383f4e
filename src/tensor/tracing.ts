/** Knows whether a function is being traced: values do not exist then. Tracing is synchronous, so a count is enough. */
import { ArgumentError } from "../errors.ts";

let depth = 0;

/** Runs a function that is being traced. */
export function whileTracing<R>(f: () => R): R {
  depth++;
  try {
    return f();
  } finally {
    depth--;
  }
}

/** @throws ArgumentError, at once and not as a rejected promise, when a value is asked for inside of a traced function */
export function refuseWhileTracing(what: string): void {
  if (depth > 0)
    throw new ArgumentError(
      `${what} inside of a function that is being traced (jit, exportOnnx), where no values exist: return what you need from the traced function`,
    );
}

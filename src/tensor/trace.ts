/** Tracing: a function is called once with placeholders, and what it builds is its graph. */
import { ArgumentError } from "../errors.ts";
import { reachable } from "./lower.ts";
import { cast } from "./ops/cast.ts";
import { input } from "./ops/create.ts";
import { refuseFromOutside, standsAlone, standsFor } from "./origin.ts";
import type { Tensor } from "./tensor.ts";
import { whileTracing } from "./tracing.ts";
import { flatten } from "./tree.ts";

/**
 * Traces a function with placeholders in place of its leaves. `sources` are what is fed for them: of the same shapes,
 * and of dtypes that are cast to those of the leaves.
 *
 * @throws ArgumentError for an async function, and for one that uses a tensor of its arguments from outside instead
 */
export function trace<Args extends unknown[], R>(
  what: string,
  f: (...args: Args) => R,
  args: Args,
  sources?: readonly Tensor[],
) {
  const { leaves, def } = flatten(args);
  const inputs = (sources ?? leaves).map((t) => input(t.shape, t.dtype));
  const given = inputs.map((t, i) => cast(t, leaves[i]!.dtype));
  const standIns = [...inputs, ...given];
  standIns.forEach((t, i) => {
    standsFor(t, leaves[i % leaves.length]!);
  });
  try {
    const result = whileTracing(() => f(...(def.unflatten(given) as Args)));
    if (result instanceof Promise) {
      result.catch(() => {}); // what it says later must not end the process
      throw new ArgumentError(
        `${what}: the traced function must not be async: values do not exist while tracing (a compiled function called inside of it is one, too: call the plain function)`,
      );
    }
    const { leaves: outputs, def: resultDef } = flatten(result);
    refuseFromOutside(outputs, leaves, inputs, def.paths, what);
    return { inputs, outputs, resultDef };
  } finally {
    for (const t of standIns) standsAlone(t);
  }
}

/** Values from outside that a traced function uses. */
export const captured = (outputs: readonly Tensor[]): Tensor[] =>
  reachable(outputs).flatMap((node) => (node.leaf === "data" ? node.tensors() : []));

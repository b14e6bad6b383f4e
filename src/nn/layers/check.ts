/** What a constructor of a layer is given, checked before any memory is taken. */
import { ArgumentError } from "../../errors.ts";
import type { Rng } from "../init.ts";

/** @throws ArgumentError for sizes that are none, and for anything else in the random generator's place */
export function checkLayer(name: string, sizes: Readonly<Record<string, number>>, rng: Rng): void {
  for (const [key, size] of Object.entries(sizes))
    if (!(Number.isInteger(size) && size >= 0))
      throw new ArgumentError(`${name}: ${key} must be an integer that is not negative, got ${size}`);
  if (typeof rng?.uniform !== "function")
    throw new ArgumentError(
      `${name}: expected a random generator, such as createRng(0), behind the sizes and before the options, got ${rng === undefined ? "nothing" : typeof rng}`,
    );
}

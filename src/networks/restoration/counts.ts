/** Sizes of networks. */
import { ArgumentError } from "../../errors.ts";

/** @throws ArgumentError unless all are whole numbers from 1 up */
export function countsOf(name: string, sizes: Readonly<Record<string, number>>): void {
  for (const [what, value] of Object.entries(sizes)) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(`${name}: expected ${what} from 1 up, got ${value}`);
  }
}

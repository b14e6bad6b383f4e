/** Studies that look at what is there and make nothing. */
import { ArgumentError } from "../errors.ts";
import type { Work } from "../work.ts";
import type { Made } from "./study.ts";

/** What a cell throws in place of being made: see `whereMade`. */
export const NOT_MADE = new ArgumentError("this was not measured");

/** A cell, or undefined where it is not there and its maker throws `NOT_MADE`. */
export async function* whereMade<T>(cell: Work<Made<T>>): Work<Made<T> | undefined> {
  try {
    return yield* cell;
  } catch (error) {
    if (error === NOT_MADE) return undefined;
    throw error;
  }
}

/** For every system: which options of its `reproduce` decide no cell. What is not declared so must change a fingerprint. */
import { type Action, optionSchemas } from "../../src/systems/index.ts";
import type { AskedCell } from "../study/recording-study.ts";

/** Another value of each option than the one that is given, and valid. */
function otherValue(option: ReturnType<typeof optionSchemas>[number], given: unknown): unknown {
  const { type, choices, minimum, maximum } = option;
  if (type === "boolean") return given !== true;
  if (choices) return choices.find((choice) => choice !== given);
  if (type === "string") return option.name === "shard" ? "2/3" : `another-${option.name}`;
  const up = typeof given === "number" ? given + 1 : (minimum ?? 0) + 1;
  return maximum !== undefined && up > maximum ? Number(given) - 1 : up;
}

/**
 * Names of the options whose change alone asks for the very same cells, in the order of the declaration. `cellsOf` runs the
 * study on a recording one; a test compares the result with the options that are declared to decide nothing.
 */
export async function undecidingOptions(
  action: Action,
  given: Readonly<Record<string, unknown>>,
  cellsOf: (options: Record<string, unknown>) => Promise<readonly AskedCell[]>,
): Promise<string[]> {
  const base = action.options.parse(given) as Record<string, unknown>;
  const ids = async (options: Record<string, unknown>): Promise<string> =>
    (await cellsOf(options)).map(({ name, id }) => `${name} ${id}`).join();
  const before = await ids(base);
  const same: string[] = [];
  for (const option of optionSchemas(action)) {
    const changed = { ...base, [option.name]: otherValue(option, base[option.name]) };
    if ((await ids(action.options.parse(changed) as Record<string, unknown>)) === before)
      same.push(option.name);
  }
  return same;
}

/** What people bring, read from the form that it has on the command line (`options.ts` declares it). */
import { dirname, isAbsolute, join } from "node:path";
import { readCsv } from "../data/index.ts";
import { ArgumentError, FormatError } from "../errors.ts";

/** A picture that controls another one. */
export interface ControlMap<Type extends string = string> {
  readonly type: Type;
  readonly path: string;
}

/**
 * `TYPE=FILE`, in the order given; a type may come more than once.
 *
 * @throws ArgumentError for a type that is not among these, or no file behind it
 */
export function readControls<Type extends string>(
  given: readonly string[],
  types: readonly Type[],
): ControlMap<Type>[] {
  return given.map((text) => {
    const at = text.indexOf("=");
    const [name, path] = [text.slice(0, at), text.slice(at + 1)];
    if (at < 1 || path === "")
      throw new ArgumentError(`control "${text}": expected TYPE=FILE, such as ${types[0]}=picture.png`);
    const type = types.find((one) => one === name);
    if (type === undefined)
      throw new ArgumentError(`control "${text}": no type "${name}"; known are ${types.join(", ")}`);
    return { type, path };
  });
}

/** One answer: a picture that was preferred to another. */
export interface Choice {
  readonly chosen: string;
  readonly rejected: string;
}

/** The prompt that a picture's name stands for: without its ending and the number at its end, dashes as spaces. */
export const promptOfName = (name: string): string =>
  name
    .replace(/\.(png|jpe?g|webp|tiff?|gif|bmp|avif)$/i, "")
    .replace(/[-_ ]*\d+$/, "")
    .replaceAll(/[-_]+/g, " ")
    .trim();

/** Columns of a table of answers; paths are relative to it. */
export const CHOICE_COLUMNS = ["chosen", "rejected"] as const;

/** A CSV or TSV with the columns `chosen` and `rejected`. @throws FormatError for rows without both, or no rows */
export async function readChoices(path: string): Promise<Choice[]> {
  const rows = await readCsv(path, { columns: CHOICE_COLUMNS });
  if (rows.length === 0) throw new FormatError(`${path}: no pairs`);
  const resolved = (file: string): string => (isAbsolute(file) ? file : join(dirname(path), file));
  return rows.map(({ chosen, rejected }, i) => {
    if (!chosen || !rejected) throw new FormatError(`${path}: row ${i + 1} lacks one of its two pictures`);
    return { chosen: resolved(chosen), rejected: resolved(rejected) };
  });
}

/** Fingerprints: short names for everything that decides a number. */
import { createHash } from "node:crypto";
import { ArgumentError } from "../errors.ts";
import { hashFile } from "../io/index.ts";

/** Hexadecimal digits of a fingerprint: 48 bits, plenty for the thousands of cells of a study. */
const DIGITS = 12;

const sha256 = (content: string | Uint8Array): string => createHash("sha256").update(content).digest("hex");

const isPlain = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
};

/**
 * Plain data as text that is the same for the same data: keys in the order of their code units, fields that are undefined
 * left out, typed arrays by the hash of their bytes.
 *
 * @throws ArgumentError naming the place of anything else (functions, models, dates, maps), which would be the same text
 * whatever it holds, or another one each time
 */
export function canonical(value: unknown, path = "given"): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "number":
      return String(value); // NaN and Infinity too, which JSON would make null
    case "bigint":
      return `${value}n`;
    case "boolean":
      return String(value);
    case "undefined":
      return "undefined";
  }
  if (value === null) return "null";
  if (Array.isArray(value))
    return `[${Array.from(value, (item, i) => canonical(item, `${path}[${i}]`)).join()}]`;
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return `${value.constructor.name}:${sha256(bytes)}`;
  }
  if (typeof value !== "object" || !isPlain(value)) {
    const kind =
      typeof value === "object" ? `an object of class ${value.constructor.name}` : `a ${typeof value}`;
    throw new ArgumentError(
      `fingerprint: ${path} is ${kind}; expected plain data (numbers, texts, lists, objects, typed arrays)`,
    );
  }
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, field]) => `${JSON.stringify(name)}:${canonical(field, `${path}.${name}`)}`);
  return `{${fields.join()}}`;
}

/**
 * Fingerprint of plain data, 12 hexadecimal digits. The order of keys does not count; everything else does: settings
 * may be given as they are, and data in memory as its typed arrays. @throws ArgumentError as `canonical` does
 */
export const fingerprint = (given: unknown): string => sha256(canonical(given)).slice(0, DIGITS);

/** Fingerprint of a file's bytes: a feature extractor, published weights. */
export const fileFingerprint = async (path: string): Promise<string> =>
  (await hashFile(path)).slice(0, DIGITS);

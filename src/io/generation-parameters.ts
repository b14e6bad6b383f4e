/**
 * The `parameters` text that AUTOMATIC1111's web UI writes into its pictures and that other tools and sites read:
 *
 * ```
 * prompt, of any number of lines
 * Negative prompt: of any number of lines
 * Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: "a, b"
 * ```
 *
 * The last line is fields when it has at least three; a value with a comma, colon or line break is a JSON string.
 */
import { ArgumentError } from "../errors.ts";

/** What a `parameters` text says. Fields keep their order. */
export interface GenerationParameters {
  readonly prompt: string;
  readonly negative: string;
  readonly fields: ReadonlyMap<string, string>;
}

/** Longest text that is parsed. */
const MAX_LENGTH = 2 ** 20;
const NEGATIVE = "Negative prompt:";
/** `key: value` and the comma or end behind it; a key has letters, digits, spaces, `-` and `/`. */
const FIELD = /([\p{L}\p{N}_][\p{L}\p{N}_ \-/]{1,99}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/gu;
const MIN_FIELDS = 3;

const quote = (value: string): string => (/[,:\n]/.test(value) ? JSON.stringify(value) : value);

function unquote(value: string): string {
  if (value.length < 2 || !value.startsWith('"') || !value.endsWith('"')) return value;
  try {
    return String(JSON.parse(value));
  } catch {
    return value; // a value that merely looks quoted
  }
}

/** The text for a PNG's `parameters`. */
export function formatParameters({ prompt, negative, fields }: GenerationParameters): string {
  const last = [...fields].map(([key, value]) => `${key}: ${quote(value)}`).join(", ");
  return `${prompt}${negative ? `\n${NEGATIVE} ${negative}` : ""}\n${last}`.trim();
}

/** Reads a `parameters` text, whoever wrote it. @throws {ArgumentError} when it is longer than 1 MiB */
export function parseParameters(text: string): GenerationParameters {
  if (text.length > MAX_LENGTH)
    throw new ArgumentError(`parameters text: expected at most ${MAX_LENGTH} characters, got ${text.length}`);
  const lines = text.trim().split("\n");
  const found = [...lines.at(-1)!.matchAll(FIELD)];
  if (found.length >= MIN_FIELDS) lines.pop();
  const fields = new Map(
    found.length >= MIN_FIELDS ? found.map(([, key, value]) => [key!, unquote(value!.trim())] as const) : [],
  );
  let [prompt, negative, inNegative] = ["", "", false];
  for (const untrimmed of lines) {
    let line = untrimmed.trim();
    if (line.startsWith(NEGATIVE)) {
      inNegative = true;
      line = line.slice(NEGATIVE.length).trim();
    }
    if (inNegative) negative += negative ? `\n${line}` : line;
    else prompt += prompt ? `\n${line}` : line;
  }
  return { prompt, negative, fields };
}

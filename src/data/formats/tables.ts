/** Tables of text: CSV, TSV, JSON lines, Parquet. Rows are records of the columns asked for; errors name file and row. */
import { type FileMetaData, parquetMetadata, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { FormatError } from "../../errors.ts";
import { readBytes, readText } from "../files.ts";

/** A row of a table: values by column. */
export type Row = Readonly<Record<string, unknown>>;

/** Options of `readCsv`, `readJsonLines` and `readParquet`. */
export interface TableOptions {
  /** Columns that must be there. */
  readonly columns?: readonly string[];
  /** `,` or a tab. Default: by the file's ending. */
  readonly delimiter?: string;
  /** Names of the columns of a file without a header line. */
  readonly header?: readonly string[];
}

function requireColumns(path: string, found: readonly string[], wanted: readonly string[] = []): void {
  const missing = wanted.filter((column) => !found.includes(column));
  if (missing.length > 0)
    throw new FormatError(
      `${path}: lacks the column${missing.length > 1 ? "s" : ""} ${missing.join(", ")}; it has ${found.slice(0, 20).join(", ")}`,
    );
}

/** Rows of a CSV or TSV file. Quotes and line breaks inside them as RFC 4180 has it; a TSV has no quotes. */
export async function readCsv(path: string, options: TableOptions = {}): Promise<Record<string, string>[]> {
  const delimiter = options.delimiter ?? (/\.tsv(\.gz)?$/.test(path) ? "\t" : ",");
  const text = await readText(path);
  const { parse } = await import("csv-parse/sync"); // here, because it needs Node when it is loaded
  let names: string[] = [...(options.header ?? [])];
  try {
    const rows = parse(text, {
      delimiter,
      bom: true,
      quote: delimiter === "\t" ? null : '"',
      skip_empty_lines: true,
      columns: options.header ? names : (line: string[]) => (names = line.map((name) => name.trim())),
    }) as Record<string, string>[];
    if (names.length === 0) throw new FormatError(`${path}: the file is empty; expected a line of names`);
    requireColumns(path, names, options.columns);
    return rows;
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    throw new FormatError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Values of a file with one JSON text per line; empty lines are skipped. */
export async function readJsonLines(path: string, options: TableOptions = {}): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [i, line] of (await readText(path)).split("\n").entries()) {
    if (line.trim() === "") continue;
    try {
      rows.push(JSON.parse(line));
    } catch (cause) {
      throw new FormatError(`${path}: line ${i + 1} is not JSON (${(cause as Error).message})`, { cause });
    }
    requireColumns(`${path}: line ${i + 1}`, Object.keys(rows.at(-1) ?? {}), options.columns);
  }
  return rows;
}

/** Rows of a Parquet file: strings, numbers (64-bit integers as `bigint`), and `Uint8Array` for bytes such as pictures. */
export async function readParquet(path: string, options: TableOptions = {}): Promise<Row[]> {
  const bytes = await readBytes(path);
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  let metadata: FileMetaData;
  try {
    metadata = parquetMetadata(file);
  } catch (cause) {
    throw new FormatError(`${path}: is no Parquet file (${(cause as Error).message})`, { cause });
  }
  const names = metadata.schema.slice(1).map((element) => element.name);
  requireColumns(path, names, options.columns);
  const columns = options.columns ? [...options.columns] : undefined;
  try {
    // Bytes that are not declared to be text (encoded pictures) stay bytes.
    return await parquetReadObjects({
      file,
      metadata,
      compressors,
      utf8: false,
      ...(columns && { columns }),
    });
  } catch (cause) {
    throw new FormatError(`${path}: the Parquet data is damaged (${(cause as Error).message})`, { cause });
  }
}

/** Rows of any of these formats, told by the file's ending. */
export async function readTable(path: string, options: TableOptions = {}): Promise<Row[]> {
  if (/\.parquet$/.test(path)) return readParquet(path, options);
  if (/\.(jsonl|ndjson)(\.gz)?$/.test(path)) return readJsonLines(path, options);
  if (/\.(csv|tsv)(\.gz)?$/.test(path)) return readCsv(path, options);
  throw new FormatError(`${path}: expected a table ending in .csv, .tsv, .jsonl, .ndjson or .parquet`);
}

/**
 * Statistics that merge. What a metric needs of each sample (a score, a feature vector) is kept by the sample's index
 * and reduced in index order, so n shards give the same bits as one pass, in whatever order they finish.
 */
import { ArgumentError, ShapeError } from "../errors.ts";

/** One row of `width` numbers per sample. */
export class SampleTable {
  private readonly rows = new Map<number, Float64Array>();
  readonly width: number;

  /** @throws ArgumentError unless `width` is a positive integer. */
  constructor(width: number) {
    if (!Number.isSafeInteger(width) || width < 1)
      throw new ArgumentError(`SampleTable: the width must be a positive integer, got ${width}`);
    this.width = width;
  }

  /** Number of samples. */
  get size(): number {
    return this.rows.size;
  }

  /** Adds the row of a sample. @throws ArgumentError for an index seen before, ShapeError for another width. */
  add(index: number, row: ArrayLike<number>): this {
    if (!Number.isSafeInteger(index) || index < 0)
      throw new ArgumentError(`SampleTable: a sample's index is a non-negative integer, got ${index}`);
    if (row.length !== this.width)
      throw new ShapeError(`SampleTable: sample ${index} has ${row.length} numbers, expected ${this.width}`);
    if (this.rows.has(index)) throw new ArgumentError(`SampleTable: sample ${index} was added before`);
    this.rows.set(index, Float64Array.from(row));
    return this;
  }

  /** Adds consecutive samples from `first` on; `values` is row-major. */
  addAll(first: number, values: ArrayLike<number>): this {
    if (values.length % this.width !== 0)
      throw new ShapeError(`SampleTable: ${values.length} numbers are no rows of ${this.width}`);
    const flat = Float64Array.from(values);
    for (let i = 0; i * this.width < flat.length; i++)
      this.add(first + i, flat.subarray(i * this.width, (i + 1) * this.width));
    return this;
  }

  /** Indices in ascending order. */
  indices(): number[] {
    return [...this.rows.keys()].sort((a, b) => a - b);
  }

  /** All rows in index order, row-major. // [N, width] */
  values(): Float64Array {
    const out = new Float64Array(this.size * this.width);
    this.indices().forEach((index, i) => {
      out.set(this.rows.get(index)!, i * this.width);
    });
    return out;
  }

  /** Mean of every column. @throws ArgumentError without samples. */
  mean(): Float64Array {
    if (this.size === 0) throw new ArgumentError("SampleTable: the mean of no samples");
    const out = new Float64Array(this.width);
    const values = this.values();
    values.forEach((value, at) => {
      out[at % this.width]! += value;
    });
    return out.map((sum) => sum / this.size);
  }

  /** For a file; `fromJSON` reads it back to the same bits. */
  toJSON(): { width: number; rows: [index: number, row: number[]][] } {
    return { width: this.width, rows: this.indices().map((i) => [i, [...this.rows.get(i)!]]) };
  }

  /** What `toJSON` gave. */
  static fromJSON(json: { width: number; rows: readonly [number, readonly number[]][] }): SampleTable {
    const table = new SampleTable(json.width);
    for (const [index, row] of json.rows) table.add(index, row);
    return table;
  }
}

/** All samples of several shards. @throws ShapeError for different widths, ArgumentError when a sample is in two. */
export function mergeTables(...shards: readonly SampleTable[]): SampleTable {
  const [first] = shards;
  if (!first) throw new ArgumentError("mergeTables: no shards");
  const merged = new SampleTable(first.width);
  for (const shard of shards) {
    const values = shard.values();
    shard.indices().forEach((index, i) => {
      merged.add(index, values.subarray(i * shard.width, (i + 1) * shard.width));
    });
  }
  return merged;
}

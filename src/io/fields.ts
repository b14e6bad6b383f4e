/** Fields of a JSON configuration, checked as they are read: an error names the key, the value and what was expected. */
import { FormatError } from "../errors.ts";

/** A kind of value. */
export interface Kind<T> {
  /** Completes "expected …". */
  readonly expected: string;
  is(value: unknown): value is T;
}

const kind = <T>(expected: string, is: (value: unknown) => boolean): Kind<T> => ({
  expected,
  is: (value): value is T => is(value),
});

export const NUMBER = kind<number>("a finite number", (v) => Number.isFinite(v));
/** Infinities, too, which the configurations of schedulers use as "no bound". */
export const ANY_NUMBER = kind<number>("a number", (v) => typeof v === "number" && !Number.isNaN(v));
export const POSITIVE = kind<number>("a number above 0", (v) => Number.isFinite(v) && (v as number) > 0);
export const COUNT = kind<number>("a positive integer", (v) => Number.isInteger(v) && (v as number) >= 1);
export const NATURAL = kind<number>("an integer from 0", (v) => Number.isInteger(v) && (v as number) >= 0);
export const FLAG = kind<boolean>("true or false", (v) => typeof v === "boolean");
export const PROBABILITY = kind<number>(
  "a probability below 1",
  (v) => Number.isFinite(v) && (v as number) >= 0 && (v as number) < 1,
);

const quoted = (value: unknown): string => JSON.stringify(value) ?? String(value);

/** One of the values. */
export const oneOf = <const T>(...values: readonly T[]): Kind<T> =>
  kind(values.map(quoted).join(" or "), (v) => values.includes(v as T));

/** One of the names of a table. */
export const keyOf = <K extends string>(table: Readonly<Record<K, unknown>>): Kind<K> =>
  oneOf(...(Object.keys(table) as K[]));

/** A list of values of a kind; it may be empty. */
export const maybeEmptyListOf = <T>(one: Kind<T>): Kind<readonly T[]> =>
  kind(`a list, each ${one.expected}`, (v) => Array.isArray(v) && v.every((x) => one.is(x)));

/** A list of at least one value of a kind. */
export const listOf = <T>(one: Kind<T>): Kind<readonly T[]> =>
  kind(`a list, each ${one.expected}`, (v) => Array.isArray(v) && v.length > 0 && v.every((x) => one.is(x)));

export interface FieldsOptions {
  /** What messages call a key; default: the key itself. */
  readonly keys?: Readonly<Record<string, string>>;
  /** What is thrown for a wrong value. Default `FormatError`, as for a file. */
  readonly error?: new (
    message: string,
  ) => Error;
}

/** The configuration of one class: JSON as diffusers writes it, where null counts as absent. */
export class Fields {
  /** Class name, for messages. */
  readonly name: string;
  private readonly values: Readonly<Record<string, unknown>>;
  private readonly keys: Readonly<Record<string, string>>;
  private readonly failure: new (
    message: string,
  ) => Error;

  /** Throws `FormatError` unless `values` is an object. */
  constructor(name: string, values: unknown, { keys = {}, error = FormatError }: FieldsOptions = {}) {
    if (typeof values !== "object" || values === null || Array.isArray(values))
      throw new FormatError(`${name}: expected a configuration object, got ${quoted(values)}`);
    this.name = name;
    this.keys = keys;
    this.failure = error;
    this.values = values as Record<string, unknown>;
  }

  has(key: string): boolean {
    return this.values[key] !== undefined && this.values[key] !== null;
  }

  /** Whether the key is there with the value null. */
  isNull(key: string): boolean {
    return this.values[key] === null;
  }

  /** The value as it is in the file, unchecked. */
  raw(key: string): unknown {
    return this.values[key];
  }

  entries(): [string, unknown][] {
    return Object.entries(this.values);
  }

  /** The error for a key whose value is not as expected. */
  error(key: string, expected: string): Error {
    const shown = this.keys[key] ?? key;
    return new this.failure(
      `${this.name} config: "${shown}": expected ${expected}, got ${quoted(this.values[key])}`,
    );
  }

  /** The value, or the fallback where it is absent. Without a fallback the key is required. */
  value<T>(key: string, one: Kind<T>, fallback?: T): T {
    const found = this.optional(key, one) ?? fallback;
    if (found === undefined) throw this.error(key, one.expected);
    return found;
  }

  /** The value, or undefined where it is absent. */
  optional<T>(key: string, one: Kind<T>): T | undefined {
    if (!this.has(key)) return undefined;
    const value = this.values[key];
    if (!one.is(value)) throw this.error(key, one.expected);
    return value;
  }

  /** A value for each of some levels: a list of as many, or one for all. */
  perLevel<T>(key: string, levels: number, one: Kind<T>, fallback: T): readonly T[] {
    const given = this.has(key) ? this.values[key] : fallback;
    if (one.is(given)) return Array.from({ length: levels }, () => given);
    const list = listOf(one);
    if (!list.is(given)) throw this.error(key, `${one.expected}, or one for each of ${levels} levels`);
    if (given.length !== levels) throw this.error(key, `${levels} values, one for each level`);
    return given;
  }

  /** Accepts a key only if it is absent or has one of these values: other variants are not built here. */
  supports(key: string, ...values: readonly unknown[]): void {
    if (!this.has(key) || values.includes(this.values[key])) return;
    throw this.error(key, values.length > 0 ? `${values.map(quoted).join(" or ")} (or none)` : "none");
  }

  /** Checks that `count` heads, or a head of width `count`, fit into the channels. */
  hasRoom(key: string, count: number, channels: number, what: string): void {
    if (count > channels)
      throw this.error(key, `at most the ${channels} channels of ${what} (${count} is more)`);
  }

  /** Checks that the channels split into `count` groups. */
  divides(key: string, count: number, channels: number, what: string): void {
    if (channels % count !== 0)
      throw this.error(key, `a divisor of the ${channels} channels of ${what} (${count} is not)`);
  }
}

/** Values of a JSON configuration, checked as they are read. */
import { FormatError } from "../errors.ts";

/** A parsed `scheduler_config.json`. */
export type SchedulerConfig = Readonly<Record<string, unknown>>;

/** Reads the configuration of a class; null counts as absent. All throw `FormatError` for a value of another kind. */
export class ConfigReader {
  readonly config: SchedulerConfig;
  readonly name: string;

  constructor(config: SchedulerConfig, name: string) {
    this.config = config;
    this.name = name;
  }

  has(key: string): boolean {
    return this.config[key] !== undefined && this.config[key] !== null;
  }

  number(key: string, fallback: number): number {
    const value = this.has(key) ? this.config[key] : fallback;
    if (typeof value === "number" && !Number.isNaN(value)) return value;
    throw this.wrong(key, "a number", value);
  }

  /** A positive integer. */
  count(key: string, fallback: number): number {
    const value = this.number(key, fallback);
    if (Number.isInteger(value) && value >= 1) return value;
    throw this.wrong(key, "a positive integer", value);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.has(key) ? this.config[key] : fallback;
    if (typeof value === "boolean") return value;
    throw this.wrong(key, "true or false", value);
  }

  choice<T extends string>(key: string, known: readonly T[], fallback: T): T {
    const value = this.has(key) ? this.config[key] : fallback;
    if (known.includes(value as T)) return value as T;
    throw this.wrong(key, `one of ${known.join(", ")}`, value);
  }

  numbers(key: string): readonly number[] | undefined {
    if (!this.has(key)) return undefined;
    const value = this.config[key];
    if (Array.isArray(value) && value.every((v) => typeof v === "number")) return value;
    throw this.wrong(key, "an array of numbers", value);
  }

  /** The error for a value that does not fit. */
  wrong(key: string, expected: string, value: unknown): FormatError {
    return new FormatError(
      `configuration of ${this.name}: ${key} must be ${expected}, got ${JSON.stringify(value)}`,
    );
  }
}

/** What a suite of benchmarks is given and gives. */
export interface SuiteOptions {
  readonly python: string | undefined;
  /** Runs the cases whose name contains it. */
  readonly filter: string | undefined;
  /** Seconds of measuring per case and side. */
  readonly seconds: number;
  /** Turns that both sides take. */
  readonly rounds: number;
}

/** Rows for programs, and the page for people. */
export interface SuiteResult {
  readonly rows: readonly object[];
  readonly page: string;
}

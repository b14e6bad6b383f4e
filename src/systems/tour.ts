/**
 * What a system shows in the tour, `npm start`: seconds of work on inputs that our own generators make, measured against
 * the truth that those generators know. A system with a `tour` in its declaration is part of it; nothing else is needed.
 */
import type { Picture } from "../io/index.ts";
import type { Table } from "../report/index.ts";

/** A number that was measured, and what it is to be compared with. */
export interface Quality {
  readonly name: string;
  /** Finite. */
  readonly value: number;
  /** Such as "dB"; none for shares and scores. */
  readonly unit?: string;
  readonly better: "higher" | "lower";
  /** What the same number is of something simpler, or of the original. */
  readonly baseline?: { readonly name: string; readonly value: number };
}

export type TourEvent =
  /** How far the whole tour of this system is. */
  | { readonly type: "progress"; readonly stage: string; readonly done: number; readonly total: number }
  /** Something is not as it should be; the tour goes on. */
  | { readonly type: "warning"; readonly text: string }
  | TourFigure
  /** A chart as SVG text, as `lineChart` gives it. */
  | { readonly type: "chart"; readonly name: string; readonly caption: string; readonly chart: string }
  | { readonly type: "table"; readonly name: string; readonly caption: string; readonly table: Table };

/** Pictures of one size in rows. */
export interface TourFigure {
  readonly type: "figure";
  /** Of the file, without its ending. */
  readonly name: string;
  readonly caption: string;
  readonly pictures: readonly Picture[];
  /** Headings of the columns, or how many there are. */
  readonly columns: readonly string[] | number;
  /** Headings of the rows. */
  readonly rows?: readonly string[];
  /** Every pixel becomes a block of this size. Default 1. */
  readonly scale?: number;
}

/** What comes of a system's tour. */
export interface TourResult {
  /** What was done, as a phrase: "segmented 64 procedural lesions in one step". */
  readonly did: string;
  readonly quality: readonly Quality[];
}

export interface TourContext {
  readonly seed: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

export interface Tour {
  /** What it shows, as a phrase. */
  readonly about: string;
  /** Files that it needs, from the repository's root. Where one is missing the tour is left out. */
  readonly files: readonly string[];
  /** Command lines to try next, on files of one's own. */
  readonly next: readonly string[];
  run(context: TourContext): AsyncGenerator<TourEvent, TourResult>;
}

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });

/** Yields what `event` says now and then while work goes on, and returns what comes of the work. */
export async function* during<T, Event>(
  work: Promise<T>,
  event: () => Event,
  milliseconds = 100,
): AsyncGenerator<Event, T> {
  let working = true;
  const ended = (): void => {
    working = false;
  };
  const end = work.then(ended, ended); // a failure is thrown below
  while (working) {
    await Promise.race([end, pause(milliseconds)]);
    if (working) yield event();
  }
  return await work;
}

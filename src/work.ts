/**
 * One vocabulary for everything that takes long: training, sampling, studies, tours. Work is an async generator that
 * tells how it goes and returns what comes of it; whoever iterates shows its events, keeps them or ignores them.
 */
import type { Picture } from "./io/picture-codec.ts";

/** Rows under named columns; null is an empty cell. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | null)[])[];
}

/** Pictures of one size in rows. */
export interface Figure {
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

/**
 * How pictures that belong together are looked at: a mask over its picture, before and after, parts that add up, frames
 * one after the other, or a thing that is turned.
 */
export type AlbumView = "mask" | "comparison" | "components" | "frames" | "scene";

/** A picture of an album. */
export interface AlbumPart {
  readonly label: string;
  readonly picture: Picture;
  /** How much of it is in the sum of components. */
  readonly weight?: number;
}

/** Pictures of one size that are one result. `report` makes each kind: `maskOver`, `comparison` and so on. */
export interface Album {
  /** Of the files, without their ending. */
  readonly name: string;
  readonly caption: string;
  readonly view: AlbumView;
  readonly parts: readonly AlbumPart[];
  /** Frames per second. */
  readonly rate?: number;
}

/** A chart as SVG text, as `lineChart` gives it. */
export interface Chart {
  /** Of the file, without its ending. */
  readonly name: string;
  readonly caption: string;
  readonly svg: string;
}

/** What work says while it goes on. */
export type WorkEvent =
  /** How far it is; a new stage begins a new bar. */
  | {
      readonly type: "progress";
      readonly stage: string;
      readonly done: number;
      readonly total: number;
      readonly note?: string;
      /** Until this stage ends, where the work itself can tell. */
      readonly secondsLeft?: number;
    }
  /** Points of live curves, one curve for each name within a stage. Resumed work tells its curves from the beginning. */
  | {
      readonly type: "metrics";
      readonly stage: string;
      readonly step: number;
      readonly values: Readonly<Record<string, number>>;
    }
  | { readonly type: "message"; readonly text: string }
  /** Something is wrong with one input; the work goes on. */
  | { readonly type: "warning"; readonly text: string }
  /** A result; a second picture of the same name takes the place of the first. */
  | { readonly type: "picture"; readonly name: string; readonly picture: Picture }
  /** The result in the making. */
  | { readonly type: "preview"; readonly picture: Picture }
  | ({ readonly type: "figure" } & Figure)
  | ({ readonly type: "album" } & Album)
  | ({ readonly type: "chart" } & Chart)
  | { readonly type: "table"; readonly title: string; readonly table: Table }
  /** A file was written. */
  | { readonly type: "file"; readonly path: string; readonly about: string };

/** Work that takes long, and what comes of it. */
export type Work<R> = AsyncGenerator<WorkEvent, R>;

/** Runs work to its end; `see` is told on the way, and waited for. When `see` throws, the work is closed first. */
export async function drained<E, R>(work: AsyncGenerator<E, R>, see?: (event: E) => unknown): Promise<R> {
  try {
    for (;;) {
      const { done, value } = await work.next();
      if (done) return value;
      await see?.(value);
    }
  } finally {
    await work.return(undefined as R); // does nothing when the work has ended
  }
}

/** Work with its events told in other words: one event, several, or none for each. */
export async function* told<E, R, T = WorkEvent>(
  work: AsyncGenerator<E, R>,
  tell: (event: E) => T | readonly T[] | undefined,
): AsyncGenerator<T, R> {
  try {
    for (;;) {
      const { done, value } = await work.next();
      if (done) return value;
      const said = tell(value);
      if (Array.isArray(said)) yield* said as readonly T[];
      else if (said !== undefined) yield said as T;
    }
  } finally {
    await work.return(undefined as R);
  }
}

/** Says something every so many milliseconds while a promise is pending, and returns what comes of it. */
export async function* during<R, E = WorkEvent>(
  promise: Promise<R>,
  say: () => E,
  milliseconds = 100,
): AsyncGenerator<E, R> {
  let pending = true;
  const end = (): void => {
    pending = false;
  };
  const ended = promise.then(end, end); // a failure is thrown at the end
  while (pending) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const pause = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([ended, pause]);
    clearTimeout(timer);
    if (pending) yield say();
  }
  return await promise;
}

/** A function that reports through a callback as work: yields what it tells, in order. It is stopped by its own signal. */
export async function* watched<E, R>(run: (tell: (event: E) => void) => Promise<R>): AsyncGenerator<E, R> {
  const waiting: E[] = [];
  let wake = (): void => {};
  let ended = false;
  const result = run((event) => {
    waiting.push(event);
    wake();
  }).finally(() => {
    ended = true;
    wake();
  });
  result.catch(() => {}); // thrown below, when somebody still listens
  for (;;) {
    yield* waiting.splice(0);
    if (ended && waiting.length === 0) return result;
    if (waiting.length === 0)
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (ended) resolve();
      });
  }
}

/**
 * What a system shows in the tour, `npm start`: seconds of work on inputs that our own generators make, measured against
 * the truth that those generators know. A system with a `tour` in its declaration is part of it; nothing else is needed.
 */
import type { Work } from "../work.ts";

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
  /** Progress is that of the whole tour of this system. */
  run(context: TourContext): Work<TourResult>;
}

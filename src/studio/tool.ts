/** What the studio runs: tools with tasks. The declarations of systems become tools; so does `generate`. */
import type { z } from "zod";
import type { Picture } from "../io/index.ts";
import type { Table } from "../report/index.ts";
import type { Draws, InPage, InputRole, SamplePicture } from "../systems/system.ts";
import type { Album } from "../work.ts";

/** What somebody brings to a task. */
export interface TaskInput {
  readonly kind: InputRole;
  readonly label: string;
  readonly help?: string;
  readonly required: boolean;
  /** Types that a control may have. */
  readonly types?: readonly string[];
  /** Of choices: the task that draws pictures to choose from. */
  readonly draws?: Draws;
}

/** A file that was brought. */
export interface GivenPath {
  readonly path: string;
  /** As its owner calls it. */
  readonly name?: string;
  /** Of a control its type; of an answer whether it was `chosen` or `rejected`, in pairs. */
  readonly type?: string;
}

/** What a running task is told. */
export interface TaskContext {
  /** What was brought, by the names of the inputs. */
  readonly inputs: Readonly<Record<string, readonly GivenPath[]>>;
  /** Checked by the task's own schema. */
  readonly options: Readonly<Record<string, unknown>>;
  /** File of the chosen checkpoint. */
  readonly checkpoint: string | undefined;
  /** Folder that belongs to this job alone, and is there again when the job is resumed. */
  readonly folder: string;
  readonly signal: AbortSignal;
}

/** What a running task says. */
export type TaskEvent =
  | {
      readonly type: "progress";
      readonly done: number;
      readonly total: number;
      readonly note?: string;
      readonly secondsLeft?: number;
    }
  /** The result in the making. */
  | { readonly type: "preview"; readonly picture: Picture }
  /** Values that are drawn as curves. A task that goes on tells them from the beginning. */
  | { readonly type: "metrics"; readonly step: number; readonly values: Readonly<Record<string, number>> }
  | { readonly type: "message"; readonly text: string }
  | PictureEvent
  | ({ readonly type: "album"; readonly label: string } & Omit<Album, "caption">)
  | ({ readonly type: "grid" } & GridEvent)
  | { readonly type: "chart"; readonly name: string; readonly label: string; readonly svg: string }
  | { readonly type: "table"; readonly name: string; readonly label: string; readonly table: Table }
  /** A file in the job's folder that is a result. */
  | { readonly type: "file"; readonly name: string; readonly label: string; readonly path: string };

export interface PictureEvent {
  readonly type: "picture";
  /** A second picture of the same name takes the place of the first. */
  readonly name: string;
  readonly label: string;
  readonly picture: Picture;
}

/** Pictures in rows, with headings. */
export interface GridEvent {
  readonly name: string;
  readonly label: string;
  readonly pictures: readonly Picture[];
  readonly columns: readonly string[] | number;
  readonly rows?: readonly string[];
}

export interface Task {
  readonly label: string;
  readonly help?: string;
  readonly inputs: Readonly<Record<string, TaskInput>>;
  /** Options with ranges, defaults and, in `.describe()`, their help. */
  readonly options: z.ZodObject;
  /** May be stopped and go on later from what it left in its folder. */
  readonly resumable: boolean;
  /** Whether one of the tool's checkpoints is chosen for it. */
  readonly checkpoint: "none" | "optional" | "needed";
  /** Why it cannot run as the studio was started, and what would help. */
  readonly unavailable?: string;
  run(context: TaskContext): AsyncGenerator<TaskEvent, void>;
}

export interface Tool {
  /** Lower case, digits and dashes: part of addresses. */
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly paper?: { readonly title: string; readonly url?: string };
  readonly claim?: string;
  readonly checkpoints: readonly CheckpointFile[];
  readonly tasks: Readonly<Record<string, Task>>;
  readonly samples: readonly SamplePicture[];
  readonly inPage?: InPage;
}

/** What the person who started the studio allows; goes to the jobs' processes as well. */
export interface CatalogSettings {
  /** Models of `generate`, by the names that the page shows. */
  readonly models: Readonly<Record<string, string>>;
  /** Low-rank adapters and ControlNets of `generate`, likewise. */
  readonly loras: Readonly<Record<string, string>>;
  readonly controls: Readonly<Record<string, string>>;
  /** Folders with data, by the names that the page shows. */
  readonly folders: Readonly<Record<string, string>>;
}

/** Where a tool's trained models lie: those that ship, and those that were trained here. */
export interface CheckpointFile {
  readonly name: string;
  readonly label: string;
  /** Absolute. */
  readonly file: string;
}

/** Exported as `catalog` by the module that lists the tools. */
export type Catalog = (settings: CatalogSettings) => Promise<readonly Tool[]>;

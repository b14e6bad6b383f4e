/** What server and page say to each other. Types only: the page imports nothing of the server. */
import type { Draws, InputRole } from "../systems/system.ts";
import type { AlbumView } from "../work.ts";

export type JobState = "queued" | "running" | "paused" | "done" | "failed" | "cancelled" | "interrupted";

/** One of the pictures of a result; `resultUrl` with its index is its address. */
export interface PartInfo {
  readonly label: string;
  readonly weight?: number;
}

/** A result of a job. Which file it is, only the server knows. */
export interface ArtifactInfo {
  readonly kind: "picture" | "album" | "chart" | "table" | "file";
  /** How the parts of an album are looked at. */
  readonly view?: AlbumView | "grid";
  readonly parts?: readonly PartInfo[];
  /** Frames per second. */
  readonly rate?: number;
  /** Of a grid: headings, or how many columns there are. */
  readonly columns?: readonly string[] | number;
  readonly rows?: readonly string[];
  /** How often it was replaced. */
  readonly version: number;
  readonly name: string;
  readonly label: string;
  readonly width?: number;
  readonly height?: number;
  /** Name of the input that has its size: they are shown one over the other. */
  readonly over?: string;
  readonly bytes?: number;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly note?: string;
  /** Until this stage ends, where the work itself can tell. */
  readonly secondsLeft?: number;
}

/** A file that was brought to a job. */
export interface GivenFile {
  /** SHA-256 of the bytes, in hexadecimal. */
  readonly hash: string;
  /** As its owner calls it. */
  readonly name?: string;
  /** Of a control its type; of an answer `chosen` or `rejected`, in pairs. */
  readonly type?: string;
}

export type GivenFiles = Readonly<Record<string, readonly GivenFile[]>>;

export interface JobRecord {
  readonly id: string;
  readonly tool: string;
  readonly task: string;
  readonly title: string;
  /** What it is about, to tell jobs apart: names of files, the prompt, the seed. */
  readonly subject?: string;
  readonly state: JobState;
  /** It was asked to stop, and has not yet. */
  readonly stopping?: "cancelled" | "paused" | "interrupted";
  /** When its last run began, in milliseconds since 1970. */
  readonly started?: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly ended?: number;
  /** Seconds of running, over all its parts when it was paused in between. */
  readonly seconds: number;
  /** What was brought, by the names of the inputs. */
  readonly inputs: GivenFiles;
  readonly options: Readonly<Record<string, unknown>>;
  readonly checkpoint?: string;
  readonly resumable: boolean;
  readonly progress?: Progress;
  /** Number of the latest preview, 0: none. */
  readonly preview: number;
  readonly artifacts: readonly ArtifactInfo[];
  /** How many rows of metrics there are. */
  readonly metrics: number;
  readonly messages: readonly string[];
  readonly error?: string;
}

export interface MetricsRow {
  readonly step: number;
  readonly values: Readonly<Record<string, number>>;
}

export interface UploadInfo {
  /** SHA-256 of the bytes, in hexadecimal. */
  readonly hash: string;
  /** Pixels, of a picture. */
  readonly width?: number;
  readonly height?: number;
  readonly format: string;
  readonly bytes: number;
}

/** The parts of JSON Schema that forms are made of. */
export interface FieldSchema {
  readonly type?: "number" | "integer" | "string" | "boolean" | "array" | "object";
  readonly enum?: readonly (string | number)[];
  readonly anyOf?: readonly FieldSchema[];
  readonly const?: string | number | boolean | null;
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly maxLength?: number;
  readonly role?: string;
  readonly when?: Readonly<Record<string, readonly (string | number | boolean)[]>>;
}

export interface FormSchema {
  readonly type: "object";
  readonly properties: Readonly<Record<string, FieldSchema>>;
  readonly required?: readonly string[];
}

/** What somebody brings to a task. */
export interface InputInfo {
  readonly name: string;
  readonly kind: InputRole;
  readonly label: string;
  readonly help?: string;
  readonly required: boolean;
  /** Types that a control may have. */
  readonly types?: readonly string[];
  /** Of choices: the task that draws pictures to choose from. */
  readonly draws?: Draws;
}

export interface TaskInfo {
  readonly name: string;
  readonly label: string;
  readonly help?: string;
  readonly inputs: readonly InputInfo[];
  readonly options: FormSchema;
  readonly resumable: boolean;
  readonly checkpoint: "none" | "optional" | "needed";
  /** Why it cannot run, and what would help. */
  readonly unavailable?: string;
}

export interface ToolInfo {
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly paper?: { readonly title: string; readonly url?: string };
  readonly claim?: string;
  readonly checkpoints: readonly { readonly name: string; readonly label: string }[];
  readonly tasks: readonly TaskInfo[];
  /** `checkpoint`: the one that was trained for such pictures. */
  readonly samples: readonly {
    readonly name: string;
    readonly label: string;
    readonly checkpoint?: string;
  }[];
  readonly inPage?: {
    readonly label: string;
    readonly sizes: readonly number[];
    readonly gives: "probability" | "picture";
    /** Names of the checkpoints that run in the page. */
    readonly checkpoints: readonly string[];
  };
}

export interface JobRequest {
  readonly tool: string;
  readonly task: string;
  /** One hash for one picture, or files with names and types. */
  readonly inputs?: Readonly<Record<string, string | readonly GivenFile[]>>;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly checkpoint?: string;
}

export interface StatusInfo {
  readonly version: string;
  readonly node: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly running: number;
  readonly queued: number;
}

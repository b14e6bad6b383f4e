/** What server and page say to each other. Types only: the page imports nothing of the server. */

export type JobState = "queued" | "running" | "paused" | "done" | "failed" | "cancelled" | "interrupted";

/** A result of a job. Which file it is, only the server knows. */
export interface ArtifactInfo {
  readonly kind: "picture" | "table" | "file";
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
}

export interface JobRecord {
  readonly id: string;
  readonly tool: string;
  readonly task: string;
  readonly title: string;
  readonly state: JobState;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly ended?: number;
  /** Seconds of running, over all its parts when it was paused in between. */
  readonly seconds: number;
  /** Hashes of uploaded pictures by the names of the inputs. */
  readonly inputs: Readonly<Record<string, string>>;
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
  readonly width: number;
  readonly height: number;
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
}

export interface FormSchema {
  readonly type: "object";
  readonly properties: Readonly<Record<string, FieldSchema>>;
  readonly required?: readonly string[];
}

export interface TaskInfo {
  readonly name: string;
  readonly label: string;
  readonly help?: string;
  readonly inputs: readonly { name: string; label: string; help?: string; required: boolean }[];
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
  readonly inPage?: { readonly label: string; readonly sizes: readonly number[] };
}

export interface JobRequest {
  readonly tool: string;
  readonly task: string;
  readonly inputs?: Readonly<Record<string, string>>;
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

/** What the server and a job's process say to each other. */
import type { ArtifactInfo, GivenFile, MetricsRow, Progress } from "../api-types.ts";
import type { CatalogSettings } from "../tool.ts";

/** A job, as its process needs it. */
export interface JobOrder {
  readonly id: string;
  readonly tool: string;
  readonly task: string;
  readonly folder: string;
  /** What was brought and where it lies, by the names of the inputs. */
  readonly inputs: Readonly<Record<string, readonly (GivenFile & { readonly path: string })[]>>;
  readonly options: Readonly<Record<string, unknown>>;
  readonly checkpoint: string | undefined;
  readonly checkpointFile: string | undefined;
  /** Results that are there from before a pause. */
  readonly artifacts: readonly ArtifactInfo[];
}

/** A model for the page. */
export interface BuildOrder {
  readonly tool: string;
  /** File of the model. */
  readonly checkpoint: string;
  readonly size: number;
  readonly path: string;
}

export type ToWorker =
  | {
      readonly type: "job" | "build";
      /** Address of the module that exports `catalog`. */
      readonly catalog: string;
      readonly settings: CatalogSettings;
      readonly job?: JobOrder;
      readonly build?: BuildOrder;
    }
  | { readonly type: "abort" };

export type FromWorker =
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "preview" }
  | { readonly type: "metrics"; readonly rows: readonly MetricsRow[] }
  | { readonly type: "message"; readonly text: string }
  | { readonly type: "artifact"; readonly index: number; readonly artifact: ArtifactInfo }
  | { readonly type: "end"; readonly how: "done" | "aborted" }
  /** `defect`: not the fault of what was asked. */
  | { readonly type: "end"; readonly how: "failed"; readonly error: string; readonly defect: boolean };

/** The server's API, from the page. */
import type { JobRecord, JobRequest, MetricsRow, StatusInfo, ToolInfo, UploadInfo } from "../../api-types.ts";

/** What the server said was wrong. */
export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(path, init).catch(() => {
    throw new ApiError(0, "The studio does not answer. Is it still running in its terminal?");
  });
  if (response.ok) return response;
  const said = (await response.json().catch(() => ({}))) as { error?: string };
  throw new ApiError(response.status, said.error ?? `The studio answered ${response.status}.`);
}

const get = async <T>(path: string): Promise<T> => (await (await ask(path)).json()) as T;

const post = async <T>(path: string, body?: object): Promise<T> => {
  const json = body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  return (await (await ask(path, { method: "POST", ...json })).json()) as T;
};

export const getStatus = (): Promise<StatusInfo> => get("/api/status");
export const getTools = async (): Promise<ToolInfo[]> =>
  (await get<{ tools: ToolInfo[] }>("/api/tools")).tools;
export const getJobs = (before?: string): Promise<{ jobs: JobRecord[]; more: boolean }> =>
  get(`/api/jobs${before ? `?before=${before}` : ""}`);
export const getJob = (id: string): Promise<JobRecord> => get(`/api/jobs/${id}`);
export const addJob = (request: JobRequest): Promise<JobRecord> => post("/api/jobs", request);
export const changeJob = (id: string, action: "cancel" | "pause" | "resume"): Promise<JobRecord> =>
  post(`/api/jobs/${id}/${action}`);
export const restoreJob = (id: string): Promise<JobRecord> => post(`/api/jobs/${id}/restore`);
export const removeJob = async (id: string): Promise<void> => {
  await ask(`/api/jobs/${id}`, { method: "DELETE" });
};
export const getMetrics = async (id: string, from: number): Promise<MetricsRow[]> =>
  (await get<{ rows: MetricsRow[] }>(`/api/jobs/${id}/metrics?from=${from}`)).rows;
export const makeSample = (tool: string, sample: string): Promise<UploadInfo> =>
  post(`/api/tools/${tool}/samples/${sample}`);
export const upload = async (file: Blob, kind = "picture"): Promise<UploadInfo> =>
  (await (await ask(`/api/uploads?kind=${kind}`, { method: "POST", body: file })).json()) as UploadInfo;

export const uploadUrl = (hash: string): string => `/api/uploads/${hash}`;
export const previewUrl = ({ id, preview }: JobRecord): string => `/api/jobs/${id}/preview?v=${preview}`;
export const archiveUrl = (id: string): string => `/api/jobs/${id}/archive`;
/** `version` only keeps the browser from showing an earlier one. `part`: one of the pictures of an album. */
export const resultUrl = (id: string, index: number, version = 0, part?: number): string =>
  `/api/jobs/${id}/results/${index}?v=${version}${part === undefined ? "" : `&part=${part}`}`;
export const browserModelUrl = (tool: string, size: number, checkpoint?: string): string =>
  `/api/tools/${tool}/browser/${size}${checkpoint ? `?checkpoint=${encodeURIComponent(checkpoint)}` : ""}`;

/** Studios for tests: in this process, or in one of their own that can be killed. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { JobRecord, JobRequest, UploadInfo } from "../../src/studio/api-types.ts";
import { type Studio, type StudioOptions, startStudio } from "../../src/studio/index.ts";

export const CATALOG = new URL("./catalog.ts", import.meta.url);

export const temporaryFolder = (): Promise<string> => mkdtemp(join(tmpdir(), "tweedie-studio-"));

/** A studio on a free port with the tests' catalog, and a client for it. */
export async function openStudio(options: Partial<StudioOptions> = {}) {
  const data = options.data ?? (await temporaryFolder());
  const studio = await startStudio({ port: 0, catalog: CATALOG, ...options, data });
  return { studio, data, ...clientOf(studio) };
}

export type Opened = Awaited<ReturnType<typeof openStudio>>;

/** Ends a studio and removes what it kept. */
export async function closeStudio({ studio, data }: Opened): Promise<void> {
  await studio.close();
  await rm(data, { recursive: true, force: true });
}

const hasEnded = ({ state }: JobRecord): boolean => state !== "queued" && state !== "running";

/** A client of the API. */
export function clientOf({ port }: Pick<Studio, "port">) {
  const origin = `http://127.0.0.1:${port}`;
  const ask = (path: string, init?: RequestInit): Promise<Response> => fetch(`${origin}${path}`, init);
  const post = (path: string, body?: unknown): Promise<Response> =>
    ask(path, {
      method: "POST",
      ...(body !== undefined && {
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      }),
    });
  const json = async <T>(response: Promise<Response>): Promise<T> => {
    const answer = await response;
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    return (await answer.json()) as T;
  };
  const job = (id: string): Promise<JobRecord> => json(ask(`/api/jobs/${id}`));
  /** Waits until a job is as wanted. */
  async function until(id: string, wanted: (job: JobRecord) => boolean): Promise<JobRecord> {
    for (;;) {
      const record = await job(id);
      if (wanted(record)) return record;
      if (hasEnded(record)) throw new Error(`job ${id} did not get there: ${JSON.stringify(record)}`);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }
  return {
    origin,
    ask,
    post,
    json,
    job,
    jobs: async () => (await json<{ jobs: JobRecord[] }>(ask("/api/jobs"))).jobs,
    until,
    settled: (id: string) => until(id, hasEnded),
    add: (request: JobRequest): Promise<JobRecord> => json(post("/api/jobs", request)),
    upload: (bytes: Uint8Array): Promise<UploadInfo> =>
      json(ask("/api/uploads", { method: "POST", body: new Uint8Array(bytes) })),
    sample: (name: string): Promise<UploadInfo> => json(post(`/api/tools/demo/samples/${name}`)),
  };
}

/** A studio in a process of its own. */
export async function spawnStudio(
  data: string,
  options: Pick<StudioOptions, "port" | "limits"> = {},
): Promise<{ child: ChildProcess; port: number }> {
  const settings = JSON.stringify({ port: 0, ...options, data });
  const script = `
    const { startStudio } = await import(${JSON.stringify(new URL("../../src/studio/index.ts", import.meta.url).href)});
    const studio = await startStudio({ ...${settings}, catalog: new URL(${JSON.stringify(CATALOG.href)}) });
    console.log("port " + studio.port);
    process.on("SIGTERM", () => studio.close().then(() => process.exit(0)));`;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
    cwd: fileURLToPath(new URL("../../", import.meta.url)),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const bound = await new Promise<number>((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      output += chunk.toString();
      const match = /port (\d+)/.exec(output);
      if (match) resolve(Number(match[1]));
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("exit", (code) => reject(new Error(`the studio ended with ${code}: ${output}`)));
  });
  return { child, port: bound };
}

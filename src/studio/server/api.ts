/** The HTTP API: what it answers, and how each part of it is described. */
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import manifest from "../../../package.json" with { type: "json" };
import type { StatusInfo } from "../api-types.ts";
import type { Tool } from "../tool.ts";
import { readBody } from "./body.ts";
import type { BrowserModels } from "./browser-models.ts";
import type { Broadcaster } from "./events.ts";
import { HttpError } from "./http-error.ts";
import type { Queue } from "./queue.ts";
import { archiveResponse, fileStream, KINDS } from "./results.ts";
import { type Route, route } from "./route.ts";
import { artifactFile, givenFile, type JobStore } from "./store.ts";
import { type FindCheckpoint, jobRequestSchema, newJobOf, toolInfo } from "./tool-info.ts";
import type { UploadLimits, Uploads } from "./uploads.ts";

export interface ApiParts {
  readonly tools: readonly Tool[];
  readonly store: JobStore;
  readonly queue: Queue;
  readonly uploads: Uploads;
  readonly limits: UploadLimits;
  readonly events: Broadcaster;
  readonly browserModels: BrowserModels;
  readonly findCheckpoint: FindCheckpoint;
  /** Throws `HttpError` 507 when the disk has no room for results. */
  readonly needRoom: () => Promise<void>;
}

const jobId = z.object({ id: z.string().regex(/^[0-9a-z]{9}-[0-9a-f]{8}$/) });
const hash = z.object({ hash: z.string().regex(/^[0-9a-f]{64}$/) });
const number = z
  .string()
  .regex(/^\d{1,9}$/)
  .transform(Number);
const notFound = { 404: "There is no such job" };

const bytes = (data: Uint8Array, type: string, caching: string): Response =>
  new Response(new Uint8Array(data), { headers: { "content-type": type, "cache-control": caching } });

/** Rows of curves in one answer. */
const MOST_ROWS = 5000;

const FOREVER = "private, max-age=31536000, immutable";

function jobRoutes({ tools, store, queue, uploads, findCheckpoint, needRoom }: ApiParts): Route[] {
  const need = (id: string) => {
    const record = store.get(id);
    if (!record) throw new HttpError(404, `there is no job ${id}`);
    return record;
  };
  const loose = z.object({
    tool: z.string().max(100),
    task: z.string().max(100),
    inputs: z.record(z.string(), z.union([z.string(), z.array(givenFile).max(1000)])).optional(),
    options: z.record(z.string(), z.unknown()).optional(),
    checkpoint: z.string().max(200).optional(),
  });
  const action = (name: "cancel" | "pause" | "resume", summary: string): Route =>
    route({
      method: "post",
      path: `/api/jobs/{id}/${name}`,
      summary,
      params: jobId,
      problems: { ...notFound, 409: "The job's state does not allow it" },
      handle: ({ params }) => queue[name](params.id),
    });
  return [
    route({
      method: "get",
      path: "/api/jobs",
      summary: "Jobs, newest first",
      query: z.object({
        before: z.string().optional().describe("only jobs older than this one"),
        limit: number.optional().describe("at most so many; 100 by default"),
      }),
      handle: async ({ query: { before, limit = 100 } }) => {
        const jobs = store.list().filter((job) => before === undefined || job.id < before);
        const page = jobs.slice(0, Math.max(1, Math.min(500, limit)));
        return { jobs: page, more: jobs.length > page.length };
      },
    }),
    route({
      method: "post",
      path: "/api/jobs",
      summary: "Puts a new job into the queue",
      body: loose,
      described: jobRequestSchema(tools),
      problems: {
        422: "Something does not fit the system's declaration",
        429: "Too many jobs are waiting",
        507: "The disk has no room for results",
      },
      handle: async ({ body }) => {
        await needRoom();
        return queue.add(await newJobOf(tools, body, uploads, findCheckpoint));
      },
    }),
    route({
      method: "get",
      path: "/api/jobs/{id}",
      summary: "One job",
      params: jobId,
      problems: notFound,
      handle: async ({ params }) => need(params.id),
    }),
    action("cancel", "Stops a job, or takes it out of the queue"),
    action("pause", "Stops a training after its step, to go on later"),
    action("resume", "Goes on with a job that was paused or interrupted"),
    route({
      method: "delete",
      path: "/api/jobs/{id}",
      summary: "Removes a job and its results; for some minutes it can be taken back",
      params: jobId,
      problems: { ...notFound, 409: "The job still runs" },
      handle: async ({ params }) => {
        await queue.remove(params.id);
        return {};
      },
    }),
    route({
      method: "post",
      path: "/api/jobs/{id}/restore",
      summary: "Takes back a job that was just removed",
      params: jobId,
      problems: { 404: "It is gone for good" },
      handle: ({ params }) => queue.restore(params.id),
    }),
    route({
      method: "get",
      path: "/api/jobs/{id}/metrics",
      summary: `Rows of a training's curves, at most ${MOST_ROWS} at a time`,
      params: jobId,
      query: z.object({ from: number.optional().describe("index of the first row") }),
      problems: notFound,
      handle: async ({ params, query: { from = 0 } }) => {
        need(params.id);
        return { from, rows: (await store.metrics(params.id)).slice(from, from + MOST_ROWS) };
      },
    }),
    route({
      method: "get",
      path: "/api/jobs/{id}/preview",
      summary: "The result in the making",
      params: jobId,
      produces: "image/png",
      problems: notFound,
      handle: async ({ params }) => {
        if (need(params.id).preview === 0) throw new HttpError(404, "there is no preview yet");
        return fileStream(join(store.folder(params.id), "preview.png"), {
          "content-type": "image/png",
          "cache-control": "no-store",
        });
      },
    }),
    route({
      method: "get",
      path: "/api/jobs/{id}/results/{index}",
      summary: "A result, with the settings that made it inside",
      params: jobId.extend({ index: number }),
      query: z.object({
        part: number.optional().describe("which picture of a result of several"),
        download: z.string().optional().describe("1: as a file to keep"),
        v: z.string().optional().describe("version, so that caches do not keep an earlier one"),
      }),
      problems: { 404: "There is no such result" },
      handle: async ({ params, query }) => {
        const artifact = need(params.id).artifacts[params.index];
        if (!artifact) throw new HttpError(404, `the job has no result ${params.index}`);
        const { kind, name } = artifact;
        const [type, ending] = KINDS[kind];
        const { part } = query;
        const file = `${need(params.id).tool}-${params.id}-${name}${part === undefined ? "" : `-${part + 1}`}${ending}`;
        return fileStream(join(store.folder(params.id), artifactFile(params.index, kind, part)), {
          "content-type": type,
          "cache-control": FOREVER,
          ...(query.download && { "content-disposition": `attachment; filename="${file}"` }),
        });
      },
    }),
    route({
      method: "get",
      path: "/api/jobs/{id}/archive",
      summary: "All results of a job, what it was given and its settings, in a ZIP",
      params: jobId,
      produces: "application/zip",
      problems: notFound,
      handle: ({ params }) => archiveResponse(need(params.id), store, uploads),
    }),
  ];
}

function pictureRoutes({ tools, uploads, limits }: ApiParts): Route[] {
  const sampleParams = z.object({ tool: z.string().max(100), sample: z.string().max(100) });
  const sampleOf = ({ tool, sample }: z.output<typeof sampleParams>) => {
    const found = tools.find((t) => t.name === tool)?.samples.find((s) => s.name === sample);
    if (!found) throw new HttpError(404, `there is no sample "${sample}"`);
    return found;
  };
  return [
    route({
      method: "post",
      path: "/api/uploads",
      summary: "Takes a picture, a volume or any file; it is named by the hash of its bytes",
      query: z.object({
        kind: z.enum(["picture", "volume", "file"]).default("picture").describe("what it has to be"),
      }),
      binary: true,
      problems: {
        408: `The body took longer than ${limits.seconds} s`,
        413: `The body is larger than ${limits.bytes} bytes`,
        503: "Too much is being uploaded at this moment",
        422: `It is not what it has to be, damaged, or has more than ${limits.pixels} pixels`,
      },
      handle: async ({ query: { kind } }, context) =>
        uploads.add(await readBody(context.req.raw, limits), kind),
    }),
    route({
      method: "get",
      path: "/api/uploads/{hash}",
      summary: "An uploaded picture, in a format that browsers show",
      params: hash,
      produces: "image/*",
      problems: { 404: "There is no such picture" },
      handle: async ({ params }) => {
        const view = await uploads.view(params.hash);
        if (!view) throw new HttpError(404, "no uploaded picture has this hash");
        if ("bytes" in view) return bytes(view.bytes, view.type, FOREVER);
        return fileStream(view.path, { "content-type": view.type, "cache-control": FOREVER });
      },
    }),
    route({
      method: "get",
      path: "/api/uploads/{hash}/info",
      summary: "Size and format of an uploaded picture",
      params: hash,
      problems: { 404: "There is no such picture" },
      handle: async ({ params }) => {
        const info = await uploads.info(params.hash);
        if (!info) throw new HttpError(404, "no uploaded picture has this hash");
        return info;
      },
    }),
    route({
      method: "post",
      path: "/api/tools/{tool}/samples/{sample}",
      summary: "Makes a sample picture, as if it had been uploaded",
      params: sampleParams,
      problems: { 404: "There is no such sample" },
      handle: async ({ params }) => uploads.addPicture(await sampleOf(params).make()),
    }),
  ];
}

function toolRoutes({ tools, queue, events, browserModels }: ApiParts): Route[] {
  return [
    route({
      method: "get",
      path: "/api/status",
      summary: "The server's version and machine, and how much waits",
      handle: async () =>
        ({
          version: manifest.version,
          node: process.version,
          cores: availableParallelism(),
          memoryBytes: totalmem(),
          running: queue.running,
          queued: queue.queued,
        }) satisfies StatusInfo,
    }),
    route({
      method: "get",
      path: "/api/tools",
      summary: "All systems with the forms of their tasks",
      handle: async () => ({ tools: tools.map(toolInfo) }),
    }),
    route({
      method: "get",
      path: "/api/tools/{tool}/browser/{size}",
      summary: "ONNX of a model that runs in the page",
      params: z.object({ tool: z.string().max(100), size: number }),
      query: z.object({ checkpoint: z.string().max(200).optional() }),
      produces: "application/octet-stream",
      problems: { 404: "This system does not run in the page" },
      handle: async ({ params, query }) =>
        fileStream(await browserModels({ ...params, checkpoint: query.checkpoint }), {
          "content-type": "application/octet-stream",
          "cache-control": "no-cache",
        }),
    }),
    route({
      method: "get",
      path: "/api/events",
      summary: "Server-sent events: `job` with a job that changed, `removed` with its name",
      produces: "text/event-stream",
      problems: { 503: "Too many browsers listen" },
      handle: async (_, context) => {
        const stream = events.open(context);
        if (!stream) throw new HttpError(503, "too many browsers listen already");
        return stream;
      },
    }),
  ];
}

/** All routes of the API. */
export const apiRoutes = (parts: ApiParts): Route[] => [
  ...toolRoutes(parts),
  ...pictureRoutes(parts),
  ...jobRoutes(parts),
];

/** Results on their way out: streamed, so that slow readers hold an open file and not its bytes. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { Zip, ZipDeflate, ZipPassThrough } from "fflate";
import manifest from "../../../package.json" with { type: "json" };
import type { JobRecord } from "../api-types.ts";
import { artifactFile, type JobStore, METRICS } from "./store.ts";
import type { Uploads } from "./uploads.ts";

const webStream = (source: AsyncIterable<Uint8Array>): ReadableStream =>
  Readable.toWeb(Readable.from(source, { objectMode: false })) as ReadableStream;

/** Opens a file of a job. Links are not followed: a folder that came from elsewhere may hold some that lead out of it. */
const openOwn = (path: string): Promise<FileHandle> =>
  open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0)).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ELOOP" ? Object.assign(new Error("a link"), { code: "ENOENT" }) : error;
  });

/** A file as an answer. @throws ENOENT when it is not there, or a link */
export async function fileStream(path: string, headers: Readonly<Record<string, string>>): Promise<Response> {
  const file = await openOwn(path);
  const { size } = await file.stat();
  const body = Readable.toWeb(file.createReadStream()) as ReadableStream;
  return new Response(body, { headers: { ...headers, "content-length": String(size) } });
}

/** Media type of a result and the ending of its name; a file's name ends with its own already. */
export const KINDS = {
  picture: ["image/png", ".png"],
  album: ["image/png", ".png"],
  chart: ["image/svg+xml", ".svg"],
  table: ["application/json", ".json"],
  file: ["application/octet-stream", ""],
} as const;

/** What made the results: enough to make them again. */
export function settingsOf(job: JobRecord): object {
  const { tool, task, checkpoint, inputs, options, state, created, seconds, messages, artifacts } = job;
  const results = artifacts.map(({ name, label }) => ({ name, label }));
  const made = { state, created: new Date(created).toISOString(), seconds, messages, results };
  return { version: manifest.version, tool, task, checkpoint, inputs, options, ...made };
}

interface Entry {
  readonly name: string;
  readonly path: string;
  /** Worth compressing: pictures and models are not. */
  readonly text?: boolean;
}

async function entriesOf(job: JobRecord, store: JobStore, uploads: Uploads): Promise<Entry[]> {
  const results = job.artifacts.flatMap(({ kind, name, parts }, i): Entry[] => {
    const start = `${String(i + 1).padStart(2, "0")}-${name}`;
    const entry = (part: number, end: string): Entry => ({
      name: `${start}${end}${KINDS[kind][1]}`,
      path: join(store.folder(job.id), artifactFile(i, kind, part)),
      text: kind === "table" || kind === "chart",
    });
    return parts ? parts.map((_, k) => entry(k, `/${String(k + 1).padStart(3, "0")}`)) : [entry(0, "")];
  });
  const files = Object.entries(job.inputs).flatMap(([name, all]) =>
    all.map((file, i) => ({ ...file, start: `given-${name}${all.length > 1 ? `-${i + 1}` : ""}` })),
  );
  const given = await Promise.all(
    files.map(async ({ hash, start }): Promise<Entry[]> => {
      const [path, info] = [await uploads.path(hash), await uploads.info(hash)];
      return path && info ? [{ name: `${start}.${info.format}`, path }] : [];
    }),
  );
  const curves = { name: "curves.jsonl", path: join(store.folder(job.id), METRICS), text: true };
  return [...results, ...given.flat(), ...(job.metrics > 0 ? [curves] : [])];
}

/** A ZIP of all results of a job, of what it was given, and of `settings.json`; bytes as they are read. */
async function* zip(job: JobRecord, entries: readonly Entry[]): AsyncGenerator<Uint8Array> {
  const out: Uint8Array[] = [];
  const archive = new Zip((error, chunk) => {
    if (error) throw error;
    out.push(chunk);
  });
  const settings = new ZipDeflate("settings.json");
  archive.add(settings);
  settings.push(new TextEncoder().encode(`${JSON.stringify(settingsOf(job), null, 2)}\n`), true);
  for (const { name, path, text } of entries) {
    const file = await openOwn(path).catch(() => undefined); // removed meanwhile
    if (!file) continue;
    const entry = text ? new ZipDeflate(name) : new ZipPassThrough(name);
    archive.add(entry);
    for await (const chunk of file.createReadStream()) {
      entry.push(chunk as Uint8Array);
      yield* out.splice(0);
    }
    entry.push(new Uint8Array(0), true);
  }
  archive.end();
  yield* out;
}

/** All of a job in one file. */
export async function archiveResponse(job: JobRecord, store: JobStore, uploads: Uploads): Promise<Response> {
  const entries = await entriesOf(job, store, uploads);
  return new Response(webStream(zip(job, entries)), {
    headers: {
      "content-type": "application/zip",
      "cache-control": "no-store",
      "content-disposition": `attachment; filename="${job.tool}-${job.task}-${job.id}.zip"`,
    },
  });
}

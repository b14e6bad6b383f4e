/**
 * The page's files. They are read when the studio starts; a request can only name what was there then, so no path
 * from outside reaches the file system. From sources, the page is built when it has not been yet.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, extname, join, relative, sep } from "node:path";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { DeviceError } from "../../errors.ts";

interface SiteFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
  /** Its name changes with its content. */
  readonly immutable: boolean;
}

export type Site = ReadonlyMap<string, SiteFile>;

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/** onnxruntime-web's own files, for inference in the page: plain and with WebGPU. */
const RUNTIME = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.webgpu.min.mjs",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
] as const;

async function readSiteFile(path: string, immutable: boolean): Promise<SiteFile> {
  const bytes = new Uint8Array(await readFile(path));
  const etag = `"${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}"`;
  return { bytes, etag, immutable, type: TYPES[extname(path)] ?? "application/octet-stream" };
}

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

/** What the page is made of: its sources, and the tools that build it by the lock file. */
async function sourceHash(root: string): Promise<string> {
  const hash = createHash("sha256");
  const shared = join(root, "src/studio");
  const sources = [...filesBelow(join(shared, "page")).sort(), join(shared, "api-types.ts")];
  for (const path of [...sources, join(root, "package-lock.json")])
    hash.update(path).update(await readFile(path));
  return hash.digest("hex").slice(0, 16);
}

/**
 * Folder of the built page. From sources it is named by what they hold, so that a page is built once and never replaced
 * under another studio.
 */
async function pageFolder(): Promise<string> {
  const here = fileURLToPath(new URL(".", import.meta.url));
  if (extname(fileURLToPath(import.meta.url)) !== ".ts") return join(here, "../page");
  const root = join(here, "../../..");
  const built = join(root, "node_modules/.cache/tweedie-studio", await sourceHash(root));
  if (!existsSync(built)) {
    const builder = new URL("../build-page.ts", import.meta.url).href; // of the sources alone: nothing for a bundler
    const { buildPage } = (await import(builder)) as { buildPage(folder: string): Promise<void> };
    await buildPage(built);
  }
  return built;
}

/** Reads the page. @throws DeviceError when it was not built and cannot be */
export async function openSite(): Promise<Site> {
  const folder = await pageFolder();
  if (!existsSync(join(folder, "index.html")))
    throw new DeviceError(`the studio's page is not in ${folder}: npm run build makes it`);
  const site = new Map<string, SiteFile>();
  for (const path of filesBelow(folder)) {
    const name = `/${relative(folder, path).split(sep).join("/")}`;
    site.set(name, await readSiteFile(path, name.startsWith("/assets/")));
  }
  site.set("/", site.get("/index.html")!);
  return site;
}

const runtimeFiles = new Map<string, Promise<SiteFile>>();

/** A file of onnxruntime-web, read once for all who ask; undefined for names that are none. */
export async function runtimeFile(name: string): Promise<SiteFile | undefined> {
  const known = RUNTIME.find((file) => file === name);
  if (!known) return undefined;
  const folder = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
  const file = runtimeFiles.get(known) ?? readSiteFile(join(folder, known), false);
  runtimeFiles.set(known, file);
  return file;
}

const CHUNK = 2 ** 16;

/** Bytes that all answers share, piece by piece as each client reads: a response of its own would copy them. */
function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += CHUNK) yield bytes.subarray(at, at + CHUNK);
}

/** Answers with a file, or says that the browser has it already. */
export function fileResponse({ bytes, type, etag, immutable }: SiteFile, request: Request): Response {
  const caching = immutable ? "public, max-age=31536000, immutable" : "no-cache";
  const headers = { "content-type": type, etag, "cache-control": caching };
  if (request.headers.get("if-none-match") === etag) return new Response(null, { status: 304, headers });
  const body = Readable.toWeb(Readable.from(pieces(bytes), { objectMode: false })) as ReadableStream;
  return new Response(body, { headers: { ...headers, "content-length": String(bytes.length) } });
}

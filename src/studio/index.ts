/** The studio: a local web page that runs the systems. */
import { mkdir } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { Hono } from "hono";
import manifest from "../../package.json" with { type: "json" };
import { ArgumentError, DeviceError } from "../errors.ts";
import { lockDirectory } from "../io/directory-lock.ts";
import { forgetAddress, keptToken, noteAddress } from "./address.ts";
import { type ApiParts, apiRoutes } from "./server/api.ts";
import { openBrowserModels } from "./server/browser-models.ts";
import { type Broadcaster, openBroadcaster } from "./server/events.ts";
import { HttpError } from "./server/http-error.ts";
import { openQueue } from "./server/queue.ts";
import type { Retention } from "./server/retention.ts";
import { KEPT_FREE, needRoomIn } from "./server/room.ts";
import { mount, openApi } from "./server/route.ts";
import {
  type Access,
  checkOrigin,
  checkToken,
  isLoopback,
  ownAddresses,
  refusalPage,
  secureHeaders,
} from "./server/security.ts";
import { fileResponse, openSite, runtimeFile, type Site } from "./server/site.ts";
import { openJobStore } from "./server/store.ts";
import { checkpointFinder } from "./server/tool-info.ts";
import { openUploads, UPLOAD_LIMITS, UPLOAD_RETENTION, type UploadLimits } from "./server/uploads.ts";
import type { Catalog, CatalogSettings } from "./tool.ts";

export { runningStudio } from "./address.ts";
export type { Catalog, CatalogSettings, Task, TaskContext, TaskEvent, Tool } from "./tool.ts";

export interface StudioOptions {
  /** Where jobs, uploads and results are kept. */
  readonly data: string;
  /** Default 127.0.0.1. Other than loopback needs `token`. */
  readonly host?: string;
  /** Default 7860; 0: any that is free. */
  readonly port?: number;
  /** What a browser has to know; `true` makes one, which the folder keeps. Default: none, so that everybody on this machine gets in. */
  readonly token?: string | true;
  /** Names by which other machines call this one. */
  readonly names?: readonly string[];
  /** Jobs at a time. Default 1. */
  readonly jobs?: number;
  /** Models of `generate`, by the names that the page shows. */
  readonly models?: Readonly<Record<string, string>>;
  /** Low-rank adapters and ControlNets of `generate`, likewise. */
  readonly loras?: Readonly<Record<string, string>>;
  readonly controls?: Readonly<Record<string, string>>;
  /** Folders with data, by the names that the page shows. */
  readonly folders?: Readonly<Record<string, string>>;
  readonly limits?: Partial<UploadLimits>;
  /** How long uploads are kept that no job needs, and how many bytes of them. Default 24 hours, 1 GiB. */
  readonly retention?: Partial<Retention>;
  /** Bytes that must be free on the disk when a job is begun. Default 1 GiB. */
  readonly keepFree?: number;
  /** Module that exports `catalog`; default: all systems. */
  readonly catalog?: URL;
}

export interface Studio {
  /** Address for the browser, with the token in it when there is one. */
  readonly url: string;
  readonly port: number;
  /** Jobs and pages that could not be read, and the like. */
  readonly warnings: readonly string[];
  /** Stops the jobs, which may be resumed later, and ends. */
  close(): Promise<void>;
}

const MIN_TOKEN = 16;
/** Milliseconds between two looks for uploads that nothing needs. */
const SWEEP_EVERY = 5 * 60_000;
/** Milliseconds in which a removed job can be taken back, at least. */
const TRASH_KEPT = 5 * 60_000;
/** Milliseconds after which a connection is closed on which nothing moves; making a model for the page takes two minutes. */
const STALLED = 180_000;

function requireToken({ token, host = "127.0.0.1" }: StudioOptions): void {
  if (token === true) return;
  if (token !== undefined && !new RegExp(`^[\\w.~-]{${MIN_TOKEN},}$`).test(token))
    throw new ArgumentError(`studio: a token has at least ${MIN_TOKEN} letters, digits and -._~`);
  if (token === undefined && !isLoopback(host))
    throw new ArgumentError(`studio: other machines can reach ${host}, so a token is needed`);
}

function statusOf(error: unknown): { status: HttpError["status"]; message: string } {
  if (error instanceof HttpError) return { status: error.status, message: error.message };
  if ((error as NodeJS.ErrnoException).code === "ENOENT")
    return { status: 404, message: "it is not there any more" };
  return { status: 500, message: "the studio has failed; its terminal says more" };
}

function createApp(parts: ApiParts, site: Site, access: Access): Hono {
  const app = new Hono();
  app.use(secureHeaders, checkOrigin(access), checkToken(access));
  const routes = apiRoutes(parts);
  for (const route of routes) mount(app, route);
  const info = { title: "Tweedie studio", version: manifest.version };
  app.get("/api/openapi.json", (c) => c.json(openApi(routes, info)));
  app.get("/ort/:name", async (c) => {
    const file = await runtimeFile(c.req.param("name"));
    return file ? fileResponse(file, c.req.raw) : c.notFound();
  });
  app.get("*", (c) => {
    const file = site.get(c.req.path);
    return file ? fileResponse(file, c.req.raw) : c.notFound();
  });
  app.notFound((c) => c.json({ error: "there is nothing at this address" }, 404));
  app.onError((error, c) => {
    const { status, message } = statusOf(error);
    if (status === 500 && !(error instanceof HttpError)) console.error(error);
    const reader = c.req.header("accept")?.includes("text/html");
    if (reader && (status === 401 || status === 403)) return c.html(refusalPage(status, message), status);
    if (status === 413 || status === 408 || status === 503) c.header("connection", "close"); // the rest of the body is not read
    return c.json({ error: message }, status);
  });
  return app;
}

const listen = (server: Server, host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === "EADDRINUSE" ? "is in use; --port names another" : `cannot be opened (${cause.code})`;
      reject(new DeviceError(`port ${port} of ${host} ${why}`, { cause }));
    });
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });

/** Starts the studio. @throws LifetimeError when another one holds the folder, DeviceError for a port in use */
export async function startStudio(options: StudioOptions): Promise<Studio> {
  const { data, host = "127.0.0.1", port = 7860, names = [], jobs = 1 } = options;
  requireToken(options);
  const limits = { ...UPLOAD_LIMITS, ...options.limits };
  const { models = {}, loras = {}, controls = {}, folders = {} } = options;
  const settings: CatalogSettings = { models, loras, controls, folders };
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const catalog = (options.catalog ?? new URL(`./catalog.${extension}`, import.meta.url)).href;
  await mkdir(data, { recursive: true, mode: 0o700 }); // pictures of patients may lie there
  const unlock = await lockDirectory(data);
  try {
    const token = options.token === true ? await keptToken(data) : options.token;
    const tools = await ((await import(catalog)) as { catalog: Catalog }).catalog(settings);
    const [site, store] = await Promise.all([openSite(), openJobStore(data)]);
    const needed = (): Set<string> =>
      new Set(
        store
          .list()
          .flatMap(({ inputs }) => Object.values(inputs).flatMap((files) => files.map((f) => f.hash))),
      );
    const uploads = await openUploads(data, limits, {
      ...UPLOAD_RETENTION,
      ...options.retention,
      needed,
    });
    let app: Hono | undefined;
    const server = createAdaptorServer({
      fetch: (request, env) => app!.fetch(request, env),
      hostname: host,
      serverOptions: {
        requestTimeout: limits.seconds * 1000 + 15_000,
        headersTimeout: 15_000,
        maxHeaderSize: 16_384,
      },
    }) as Server;
    server.maxConnections = 1000;
    server.timeout = STALLED;
    const bound = await listen(server, host, port);
    const events: Broadcaster = openBroadcaster((id) => store.get(id));
    const tidying = setInterval(() => {
      uploads.sweep();
      store.emptyTrash(TRASH_KEPT).catch(() => {});
    }, SWEEP_EVERY).unref();
    const findCheckpoint = checkpointFinder(tools, store);
    const queue = openQueue({
      store,
      concurrency: jobs,
      catalog,
      settings,
      inputPath: uploads.path,
      checkpointPath: findCheckpoint,
      onChange: events.changed,
    });
    const browserModels = openBrowserModels(data, tools, catalog, settings, findCheckpoint);
    const parts: ApiParts = {
      ...{ tools, store, queue, uploads, limits, events, browserModels, findCheckpoint },
      needRoom: () => needRoomIn(data, options.keepFree ?? KEPT_FREE),
    };
    app = createApp(parts, site, { host, port: bound, token, names });
    const shown = host.includes(":")
      ? `[${host}]`
      : host === "0.0.0.0"
        ? (names[0] ?? ownAddresses()[0] ?? "127.0.0.1")
        : host;
    await noteAddress(data, `http://${shown}:${bound}/`);
    return {
      port: bound,
      url: `http://${shown}:${bound}/${token ? `?token=${token}` : ""}`,
      warnings: store.damaged,
      async close() {
        const closed = new Promise((resolve) => server.close(resolve));
        clearInterval(tidying);
        events.close();
        await queue.close();
        await store.flush();
        await store.emptyTrash(0);
        server.closeAllConnections();
        await closed;
        await forgetAddress(data);
        await unlock();
      },
    };
  } catch (error) {
    await unlock();
    throw error;
  }
}

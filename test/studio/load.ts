/** Crowds, slow and rude clients: what the studio's server answers, how long it takes, and what it keeps. */
import { readdirSync, readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import sharp from "sharp";
import { clientOf } from "./server.ts";

/** What came of many requests of one kind. */
export interface Trial {
  readonly name: string;
  /** How often each status came; `cut` for connections that were closed without one. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly milliseconds: readonly number[];
}

interface Answer {
  readonly status: string;
  readonly milliseconds: number;
}

export interface Target {
  readonly port: number;
  readonly pid: number;
}

function send(
  target: Target,
  path: string,
  options: { method?: string; body?: Uint8Array; headers?: Record<string, string>; agent?: Agent } = {},
): Promise<Answer> {
  const { method = "GET", body, headers, agent } = options;
  const started = performance.now();
  return new Promise((resolve) => {
    const end = (status: string): void => resolve({ status, milliseconds: performance.now() - started });
    const length = body && { "content-length": String(body.length) };
    const r = request(
      { host: "127.0.0.1", port: target.port, path, method, agent, headers: { ...length, ...headers } },
      (response) => {
        response.on("data", () => {});
        response.on("end", () => end(String(response.statusCode)));
        response.on("error", () => end(String(response.statusCode)));
      },
    );
    r.on("error", (error: NodeJS.ErrnoException) => {
      // A kept connection that the server closes at the very moment is no answer: clients ask again.
      if (r.reusedSocket && error.code === "ECONNRESET") send(target, path, options).then(resolve);
      else end("cut");
    });
    r.end(body);
  });
}

async function trial(name: string, answers: readonly Promise<Answer>[]): Promise<Trial> {
  const statuses: Record<string, number> = {};
  const milliseconds: number[] = [];
  for (const { status, milliseconds: ms } of await Promise.all(answers)) {
    statuses[status] = (statuses[status] ?? 0) + 1;
    milliseconds.push(ms);
  }
  return { name, statuses, milliseconds: milliseconds.sort((a, b) => a - b) };
}

const times = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));
const json = { "content-type": "application/json" };
const bytes = (value: unknown): Uint8Array =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value));

/** Pictures that all differ. */
const picture = (i: number): Promise<Buffer> =>
  sharp(
    Uint8Array.from({ length: 96 * 96 * 3 }, (_, k) => (k * (i + 3)) % 251),
    {
      raw: { width: 96, height: 96, channels: 3 },
    },
  )
    .png()
    .toBuffer();

/** A connection that is opened and does only what it is told. */
const socket = ({ port }: Target): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const s = connect(port, "127.0.0.1", () => resolve(s));
    s.on("error", reject);
  });

/** Sends bytes over a bare connection; the first status that comes back, or that it was cut. */
async function bare(target: Target, text: string): Promise<Answer> {
  const started = performance.now();
  const s = await socket(target);
  const status = await new Promise<string>((resolve) => {
    s.on("data", (data) => resolve(/^HTTP\/1\.1 (\d{3})/.exec(data.toString("latin1"))?.[1] ?? "cut"));
    s.on("close", () => resolve("cut"));
    s.on("error", () => resolve("cut"));
    s.write(text, "latin1");
  });
  s.destroy();
  return { status, milliseconds: performance.now() - started };
}

/** `count` clients that ask for something and read nothing of it; closed after a moment. */
async function idlers(target: Target, path: string, count: number, name: string): Promise<Trial> {
  const open: (() => void)[] = [];
  const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY });
  const answers = times(count, () => {
    const started = performance.now();
    return new Promise<Answer>((resolve) => {
      const r = request({ host: "127.0.0.1", port: target.port, path, agent }, (response) => {
        response.on("error", () => {});
        response.pause(); // a browser that does not read
        resolve({ status: String(response.statusCode), milliseconds: performance.now() - started });
      });
      r.on("error", () => resolve({ status: "cut", milliseconds: performance.now() - started }));
      r.end();
      open.push(() => r.destroy());
    });
  });
  const result = await trial(name, answers);
  for (const close of open) close();
  return result;
}

/** Requests whose sender goes away in the middle of the body. */
async function leavers(target: Target, count: number): Promise<void> {
  await Promise.all(
    times(count, async () => {
      const s = await socket(target);
      const start = `POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nContent-Length: 100000\r\n\r\nstart`;
      await new Promise((resolve) => s.write(start, resolve));
      s.destroy();
    }),
  );
}

/** All trials, one after the other. */
export async function* loadTrials(target: Target, count = 200): AsyncGenerator<Trial> {
  const host = `127.0.0.1:${target.port}`;
  const agent = new Agent({ keepAlive: true, maxSockets: count });
  const get = (path: string) => times(count, () => send(target, path, { agent }));
  yield trial(`${count} at once: the page`, get("/"));
  yield trial(`${count} at once: systems and forms`, get("/api/tools"));
  yield trial(`${count} at once: history`, get("/api/jobs"));
  const pictures = await Promise.all(times(count, picture));
  yield trial(
    `${count} at once: uploads of different pictures`,
    pictures.map((body) => send(target, "/api/uploads", { method: "POST", body, agent })),
  );
  const { add, post, until, settled, jobs } = clientOf(target);
  for (const { id } of await jobs()) await settled(id);
  // One job runs meanwhile, so that the queue stays as full as it becomes.
  const running = await add({ tool: "demo", task: "train", options: { steps: 100_000, pause: 10 } });
  await until(running.id, ({ state }) => state === "running");
  const job = bytes({ tool: "demo", task: "evaluate" });
  yield trial(
    `${count} at once: new jobs (100 may wait)`,
    times(count, () => send(target, "/api/jobs", { method: "POST", body: job, headers: json, agent })),
  );
  await post(`/api/jobs/${running.id}/cancel`);
  yield trial(
    `${count} bodies that are no JSON`,
    times(count, (i) =>
      send(target, "/api/jobs", { method: "POST", body: bytes("{".repeat(i + 1)), headers: json, agent }),
    ),
  );
  yield trial(
    `${count} uploads that are no picture`,
    times(count, (i) =>
      send(target, "/api/uploads", { method: "POST", body: bytes(`no picture ${i}`), agent }),
    ),
  );
  const large = new Uint8Array(40 * 2 ** 20);
  yield trial(
    "20 uploads of 40 MiB (32 are allowed)",
    times(20, () => send(target, "/api/uploads", { method: "POST", body: large })),
  );
  yield trial(
    "20 endless uploads in chunks",
    times(20, () => bareChunks(target)),
  );
  yield trial(
    `${count} connections that do not speak HTTP`,
    times(count, (i) => bare(target, `\x16\x03\x01 ${"x".repeat(i)}\r\n\r\n`)),
  );
  yield trial(
    "50 headers of 64 KiB",
    times(50, () => bare(target, `GET / HTTP/1.1\r\nHost: ${host}\r\nX: ${"x".repeat(65_536)}\r\n\r\n`)),
  );
  yield idlers(target, "/api/events", count + 20, `${count + 20} listen to events and read nothing`);
  const runtime = "/ort/ort-wasm-simd-threaded.wasm";
  yield idlers(target, runtime, count, `${count} ask for onnxruntime's 14 MB and read nothing`);
  await leavers(target, count);
  yield trial(`${count} at once, after as many went away in the middle`, get("/api/status"));
  yield slow(target, agent);
  agent.destroy();
}

/** An upload without a length that never ends by itself. */
async function bareChunks(target: Target): Promise<Answer> {
  const started = performance.now();
  const s = await socket(target);
  const status = await new Promise<string>((resolve) => {
    s.on("data", (data) => resolve(/^HTTP\/1\.1 (\d{3})/.exec(data.toString("latin1"))?.[1] ?? "cut"));
    s.on("close", () => resolve("cut"));
    s.on("error", () => resolve("cut"));
    const chunk = Buffer.concat([Buffer.from("100000\r\n"), Buffer.alloc(2 ** 20), Buffer.from("\r\n")]);
    s.write(
      `POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const more = (): void => {
      while (!s.destroyed && s.write(chunk));
    };
    s.on("drain", more);
    more();
  });
  s.destroy();
  return { status, milliseconds: performance.now() - started };
}

/** Others are answered while 100 clients send their requests letter by letter. */
async function slow(target: Target, agent: Agent): Promise<Trial> {
  const sockets = await Promise.all(times(100, () => socket(target)));
  const letters = `POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nContent-Length: 9999\r\n\r\n`;
  let at = 0;
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    timer = setInterval(() => {
      for (const s of sockets) s.write(letters[at] ?? "x");
      if (++at === 50) resolve();
    }, 10);
  });
  const result = await trial(
    "200 at once while 100 others send letter by letter",
    times(200, () => send(target, "/api/status", { agent })),
  );
  clearInterval(timer);
  for (const s of sockets) s.destroy();
  return result;
}

/** What a process holds: memory in MiB, open files and connections. Linux only. */
export function footprint({ pid }: Target): { mebibytes: number; handles: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kibibytes = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  return { mebibytes: kibibytes / 1024, handles: readdirSync(`/proc/${pid}/fd`).length };
}

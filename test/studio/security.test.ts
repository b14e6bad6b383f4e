/** Hostile requests, each as it would come, and what is answered. */
import { statSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobRecord } from "../../src/studio/api-types.ts";
import { runningStudio, startStudio } from "../../src/studio/index.ts";
import { closeStudio, type Opened, openStudio, temporaryFolder } from "./server.ts";

let s: Opened;
let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "tweedie-hostile-"));
  s = await openStudio();
});
afterAll(async () => {
  await closeStudio(s);
  await rm(scratch, { recursive: true, force: true });
});

/** A request with headers that fetch does not let one set. */
function raw(
  path: string,
  headers: Record<string, string>,
  method = "GET",
  port = s.studio.port,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const r = request({ host: "127.0.0.1", port, path, method, headers }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    r.on("error", reject);
    r.end();
  });
}

describe("who may ask", () => {
  test("only who calls the server by its name, from its own page", async () => {
    const host = `127.0.0.1:${s.studio.port}`;
    expect(await raw("/", { host })).toBe(200);
    expect(await raw("/", { host: `localhost:${s.studio.port}` })).toBe(200);
    expect(await raw("/", { host: "evil.example" })).toBe(403);
    expect(await raw("/", { host: `evil.example:${s.studio.port}` })).toBe(403);
    expect(await raw("/api/jobs", { host, origin: "http://evil.example" }, "POST")).toBe(403);
    expect(await raw("/api/jobs", { host, origin: "null" }, "POST")).toBe(403);
    expect(
      await raw("/api/jobs", { host, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" }),
    ).toBe(403);
    expect(await raw("/", { host, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" })).toBe(200);
  });

  test("the page may load only what this server serves", async () => {
    const policy = (await s.ask("/")).headers.get("content-security-policy")!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe-inline|'unsafe-eval'|https?:|\*/);
  });

  test("a token is needed where others can reach it", async () => {
    const data = await temporaryFolder();
    await expect(startStudio({ data, host: "0.0.0.0", port: 0 })).rejects.toThrow("a token is needed");
    await expect(startStudio({ data, token: "short", port: 0 })).rejects.toThrow("at least 16");
    const other = await openStudio({ data, token: true });
    const token = new URL(other.studio.url).searchParams.get("token")!;
    expect((await other.ask("/api/tools")).status).toBe(401);
    expect((await other.ask("/api/tools", { headers: { authorization: "Bearer wrong" } })).status).toBe(401);
    expect((await other.ask("/api/tools", { headers: { authorization: `Bearer ${token}` } })).status).toBe(
      200,
    );
    const first = await other.ask(`/?token=${token}`, { redirect: "manual" });
    expect([first.status, first.headers.get("location")]).toEqual([302, "/"]);
    const cookie = first.headers.get("set-cookie")!;
    expect(cookie).toMatch(/HttpOnly/i);
    expect(cookie).toMatch(/SameSite=Strict/i);
    expect((await other.ask("/api/tools", { headers: { cookie: cookie.split(";")[0]! } })).status).toBe(200);
    await closeStudio(other);
  });
});

test("a folder keeps its token for its owner alone; who reads the folder finds the studio that runs there", async () => {
  const first = await openStudio({ token: true });
  const { data } = first;
  expect(statSync(join(data, "token.txt")).mode & 0o777).toBe(0o600);
  expect(await runningStudio(data)).toBe(first.studio.url);
  await first.studio.close();
  expect(await runningStudio(data)).toBeUndefined();
  const again = await openStudio({ data, token: true });
  expect(new URL(again.studio.url).search).toBe(new URL(first.studio.url).search);
  await again.studio.close();
  // With a token of its own the kept one does not open it, and is not told.
  const other = await openStudio({ data, token: "a-token-of-somebody" });
  expect(await runningStudio(data)).toBe(`http://127.0.0.1:${other.studio.port}/`);
  await closeStudio(other);
});

test("other machines reach it by this machine's addresses and by the names that were given", async () => {
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4")?.address;
  const other = await openStudio({ host: "0.0.0.0", token: true, names: ["Workstation.local"] });
  const status = (name: string): Promise<number> =>
    raw("/", { host: `${name}:${other.studio.port}` }, "GET", other.studio.port);
  expect(await status("workstation.local")).toBe(401); // it is asked for the token
  expect(await status("elsewhere.local")).toBe(403);
  if (own) expect(await status(own)).toBe(401);
  expect(new URL(other.studio.url).hostname).toBe("workstation.local");
  await closeStudio(other);
});

describe("no path from outside reaches the file system", () => {
  test("paths reach no files", async () => {
    for (const path of [
      "/../package.json",
      "/%2e%2e/package.json",
      "/assets/..%2f..%2fpackage.json",
      "/ort/../package.json",
      "/ort/ort.all.min.js",
      "/api/uploads/..%2f..%2findex.json",
      "/api/jobs/..%2f..%2f/results/0",
    ])
      expect([path, await raw(path, { host: `127.0.0.1:${s.studio.port}` })]).toEqual([path, 404]);
  });

  test.each([
    "../../package.json",
    "..%2f..%2fpackage.json",
    "%2e%2e%2f",
    "....//",
    "/etc/passwd",
    "a\\..\\b",
    "%00",
  ])("%s in any place of an address", async (evil) => {
    const host = `127.0.0.1:${s.studio.port}`;
    for (const path of [
      `/${evil}`,
      `/assets/${evil}`,
      `/ort/${evil}`,
      `/api/jobs/${evil}`,
      `/api/jobs/${evil}/results/0`,
      `/api/jobs/${evil}/archive`,
      `/api/jobs/zzzzzzzzz-00000000/results/${evil}`,
      `/api/uploads/${evil}`,
      `/api/tools/${evil}/browser/64`,
      `/api/tools/demo/browser/${evil}`,
    ])
      expect([path, await raw(path.replaceAll("\\", "%5c"), { host })]).toEqual([
        path,
        expect.toBeOneOf([400, 404]),
      ]);
    expect(await raw(`/api/tools/demo/samples/${encodeURIComponent(evil)}`, { host }, "POST")).toBe(404);
  });

  test("a checkpoint's name that goes on after what was trained here writes nothing elsewhere", async () => {
    const job = await s.add({ tool: "demo", task: "train", options: { steps: 1 } });
    const done: JobRecord = await s.settled(job.id);
    const file = done.artifacts.findIndex((a) => a.kind === "file");
    expect(file).toBeGreaterThanOrEqual(0);
    for (const checkpoint of [
      `${job.id}.${file}./../../../${scratch}/x`,
      `${job.id}. ${file}`,
      `${job.id}.0x${file}`,
    ]) {
      const answer = await s.post("/api/jobs", { tool: "demo", task: "train", checkpoint });
      expect([checkpoint, answer.status]).toEqual([checkpoint, 422]);
    }
    expect(await readdir(scratch)).toEqual([]);
  });
});

describe("what comes back cannot be made to run", () => {
  test("every answer carries the policy and its own type, errors and streams too", async () => {
    const abort = new AbortController();
    const paths = [
      "/",
      "/api/tools",
      "/nothing",
      "/api/jobs/zzzzzzzzz-00000000",
      "/api/uploads/x",
      "/api/events",
    ];
    for (const path of paths) {
      const { headers } = await s.ask(path, { signal: abort.signal });
      expect([path, headers.get("x-content-type-options")]).toEqual([path, "nosniff"]);
      expect([path, headers.get("content-security-policy")]).toEqual([
        path,
        expect.stringContaining("frame-ancestors 'none'"),
      ]);
      expect([path, headers.get("access-control-allow-origin")]).toEqual([path, null]);
    }
    abort.abort();
  });

  test("the page itself holds no script and no style inline", async () => {
    const html = await (await s.ask("/")).text();
    expect(html).not.toMatch(/<script(?![^>]*\bsrc=)/);
    expect(html).not.toMatch(/<style|\sstyle=|\son\w+=/);
  });

  test("a picture that is also a page is served as a picture", async () => {
    const png = await sharp({ create: { width: 2, height: 2, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    const { hash } = await s.upload(Buffer.concat([png, Buffer.from("<script>alert(1)</script>")]));
    const answer = await s.ask(`/api/uploads/${hash}`);
    expect(answer.headers.get("content-type")).toBe("image/png");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
  });
});

const chunk = (type: string, data: Uint8Array): Buffer => {
  const body = Buffer.concat([Buffer.from(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
};

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** A PNG of zeros that says it has so many pixels: a few kilobytes that would become gigabytes. */
function bomb(width: number, height: number): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const data = deflateSync(Buffer.alloc(2 ** 20));
  const parts = [chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), ...parts]);
}

describe("pictures that are made to do harm", () => {
  const upload = async (body: Uint8Array): Promise<[number, string]> => {
    const answer = await s.ask("/api/uploads", { method: "POST", body: new Uint8Array(body) });
    return [answer.status, await answer.text()];
  };

  test("bombs are refused before they are decoded", async () => {
    for (const [width, height] of [
      [60_000, 60_000],
      [2 ** 31 - 1, 2 ** 31 - 1],
      [0, 5],
    ] as const)
      expect([width, (await upload(bomb(width, height)))[0]]).toEqual([width, 422]);
    const [status, text] = await upload(bomb(6000, 6000)); // within the limit, but there is less in it
    expect([status, text]).toEqual([422, expect.stringContaining("damaged")]);
  });

  test("a name of a picture is the hash of what is in it", async () => {
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="/etc/passwd"/></svg>';
    expect(await upload(Buffer.from(svg))).toEqual([422, expect.stringContaining("got svg")]);
    const names = await readdir(join(s.data, "uploads"));
    expect(names.filter((name) => !/^[0-9a-f]{64}$/.test(name))).toEqual([]);
  });
});

describe("requests that do not end", () => {
  test("a JSON body without a length is read no further than its limit", async () => {
    let sent = 0;
    const body = new ReadableStream({
      pull(controller) {
        sent += 65_536;
        if (sent > 64 * 2 ** 20) controller.close();
        else controller.enqueue(new Uint8Array(65_536).fill(32));
      },
    });
    const headers = { "content-type": "application/json" };
    const answer = await s
      .ask("/api/jobs", { method: "POST", body, headers, duplex: "half" } as RequestInit)
      .catch(() => undefined);
    if (answer) expect(answer.status).toBe(413);
    expect(sent).toBeLessThan(16 * 2 ** 20);
  });

  test("who opens a connection and says little is put off", async () => {
    const slow = await openStudio({ limits: { seconds: 1 } });
    const socket = connect(slow.studio.port, "127.0.0.1");
    socket.write(
      `POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1:${slow.studio.port}\r\nContent-Length: 9\r\n\r\nx`,
    );
    const text = await new Promise<string>((resolve) => socket.once("data", (data) => resolve(String(data))));
    expect(text).toMatch(/^HTTP\/1\.1 408/);
    socket.destroy();
    await closeStudio(slow);
  });
});

import { spawn } from "node:child_process";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readPngText } from "../../src/io/index.ts";
import type { JobRecord, ToolInfo } from "../../src/studio/api-types.ts";
import { startStudio } from "../../src/studio/index.ts";
import { clientOf, closeStudio, type Opened, openStudio, spawnStudio, temporaryFolder } from "./server.ts";

const gradient = (width = 24, height = 16): Promise<Buffer> =>
  sharp(
    Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 5) % 256),
    {
      raw: { width, height, channels: 3 },
    },
  )
    .png()
    .toBuffer();

let s: Opened;
beforeAll(async () => {
  s = await openStudio({ limits: { bytes: 2 * 2 ** 20, pixels: 500_000 } });
});
afterAll(() => closeStudio(s));

describe("forms", () => {
  test("come from the declaration, without any path", async () => {
    const { tools } = await s.json<{ tools: ToolInfo[] }>(s.ask("/api/tools"));
    const run = tools[0]!.tasks.find((t) => t.name === "run")!;
    expect(Object.keys(run.options.properties)).toEqual(["strength", "passes", "pause", "fail"]);
    expect(run.inputs).toEqual([expect.objectContaining({ name: "image", required: true })]);
    expect(run.options.properties.strength).toMatchObject({ minimum: 0, maximum: 1, default: 1 });
    expect(run.checkpoint).toBe("needed");
    expect(tools[0]!.tasks.find((t) => t.name === "train")).toMatchObject({
      resumable: true,
      checkpoint: "optional",
    });
  });

  test("are described by an OpenAPI document", async () => {
    const api = await s.json<{ openapi: string; paths: Record<string, object> }>(s.ask("/api/openapi.json"));
    expect(api.openapi).toBe("3.1.0");
    expect(Object.keys(api.paths)).toContain("/api/jobs/{id}/cancel");
    expect(JSON.stringify(api.paths["/api/jobs"])).toContain("how much of it is turned");
    const names = {
      id: "zzzzzzzzz-00000000",
      hash: "0".repeat(64),
      tool: "x",
      sample: "x",
      index: "0",
      size: "64",
    };
    for (const [path, methods] of Object.entries(api.paths))
      for (const [method, operation] of Object.entries(methods)) {
        const { parameters, summary } = operation as {
          parameters: { name: string; in: string }[];
          summary: string;
        };
        const inPath = parameters.filter((p) => p.in === "path").map((p) => `{${p.name}}`);
        expect([path, inPath, summary]).toEqual([
          path,
          path.match(/\{\w+\}/g) ?? [],
          expect.stringMatching(/./),
        ]);
        const address = path.replaceAll(/\{(\w+)\}/g, (_, name: keyof typeof names) => names[name]);
        const abort = new AbortController();
        const answer = await s.ask(address, { method: method.toUpperCase(), signal: abort.signal });
        if (!answer.ok)
          expect([path, await answer.text()]).toEqual([
            path,
            expect.not.stringContaining("nothing at this address"),
          ]);
        abort.abort();
      }
  });
});

describe("jobs", () => {
  test("run in the queue and leave pictures with their settings inside", async () => {
    const { hash } = await s.upload(await gradient());
    const job = await s.add({ tool: "demo", task: "run", inputs: { image: hash }, options: { strength: 1 } });
    expect(job.state).toMatch(/queued|running/);
    const done = await s.settled(job.id);
    expect(done).toMatchObject({ state: "done", checkpoint: "plain", progress: { done: 3, total: 3 } });
    const index = done.artifacts.findIndex((a) => a.kind === "picture");
    expect(done.artifacts[index]).toMatchObject({ label: "negative", width: 24, height: 16, over: "image" });
    const answer = await s.ask(`/api/jobs/${job.id}/results/${index}?download=1`);
    expect(answer.headers.get("content-disposition")).toMatch(
      /^attachment; filename="demo-.*-negative\.png"$/,
    );
    const png = Buffer.from(await answer.arrayBuffer());
    const settings = JSON.parse(readPngText(png).find((t) => t.keyword === "tweedie-studio")!.text);
    expect(settings).toMatchObject({
      tool: "demo",
      task: "run",
      inputs: { image: [{ hash }] },
      checkpoint: "plain",
    });
    const [before, after] = await Promise.all(
      [await gradient(), png].map((bytes) => sharp(bytes).removeAlpha().raw().toBuffer()),
    );
    expect(after).toEqual(before!.map((v) => 255 - v));
  });

  test("one at a time, and one that waits can be cancelled", async () => {
    const { hash } = await s.upload(await gradient());
    const slow = { tool: "demo", task: "run", inputs: { image: hash }, options: { passes: 1000, pause: 50 } };
    const [first, second] = [await s.add(slow), await s.add(slow)];
    await s.until(first.id, (j) => (j.progress?.done ?? 0) > 2);
    expect((await s.job(second.id)).state).toBe("queued");
    expect((await s.ask(`/api/jobs/${first.id}`, { method: "DELETE" })).status).toBe(409);
    expect((await s.post(`/api/jobs/${second.id}/cancel`)).status).toBe(200);
    expect((await s.job(second.id)).state).toBe("cancelled");
    await s.post(`/api/jobs/${first.id}/cancel`);
    expect((await s.settled(first.id)).state).toBe("cancelled");
    expect((await s.post(`/api/jobs/${first.id}/cancel`)).status).toBe(409);
    expect((await s.post(`/api/jobs/${first.id}/pause`)).status).toBe(409);
    expect((await s.ask(`/api/jobs/${first.id}`, { method: "DELETE" })).status).toBe(200);
    expect((await s.ask(`/api/jobs/${first.id}`)).status).toBe(404);
  });

  test("a job that is cancelled before its process has started does not run", async () => {
    const { hash } = await s.upload(await gradient());
    const job = await s.add({ tool: "demo", task: "run", inputs: { image: hash }, options: { pause: 3000 } });
    await s.post(`/api/jobs/${job.id}/cancel`);
    expect((await s.settled(job.id)).state).toBe("cancelled");
  });

  test.each([
    ["defect", "a defect of the test's own making"],
    ["exit", "ended with exit code 3"],
  ])("a process that fails by %s says so", async (fail, message) => {
    const { hash } = await s.upload(await gradient());
    const job = await s.add({ tool: "demo", task: "run", inputs: { image: hash }, options: { fail } });
    const failed = await s.settled(job.id);
    expect(failed.state).toBe("failed");
    expect(failed.error).toContain(message);
  });

  test("a training is paused, resumed to the same end, and its model can be chosen", async () => {
    const job = await s.add({ tool: "demo", task: "train", options: { steps: 60, pause: 30 } });
    await s.until(job.id, (j) => (j.progress?.done ?? 0) >= 10);
    await s.post(`/api/jobs/${job.id}/pause`);
    const paused = await s.settled(job.id);
    expect(paused.state).toBe("paused");
    expect(paused.progress!.done).toBeLessThan(60);
    await s.post(`/api/jobs/${job.id}/resume`);
    const done = await s.settled(job.id);
    expect(done.state).toBe("done");
    expect(done.messages.some((m) => m.startsWith("goes on after step"))).toBe(true);
    const { rows } = await s.json<{ rows: { step: number; values: Record<string, number> }[] }>(
      s.ask(`/api/jobs/${job.id}/metrics`),
    );
    expect(rows.map((r) => r.step)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(rows.at(-1)!.values["descend x"]!).toBeCloseTo(Math.SQRT2, 4);
    const file = done.artifacts.findIndex((a) => a.kind === "file");
    const { hash } = await s.upload(await gradient());
    const next = await s.add({
      tool: "demo",
      task: "run",
      inputs: { image: [{ hash }] },
      checkpoint: `${job.id}.${file}`,
    });
    expect((await s.settled(next.id)).state).toBe("done");
  });

  test("tables are results too", async () => {
    const job = await s.add({ tool: "demo", task: "evaluate", options: { count: 100 } });
    const done = await s.settled(job.id);
    const table = await s.json<{ rows: number[][] }>(s.ask(`/api/jobs/${job.id}/results/0`));
    expect(done.artifacts[0]).toMatchObject({ kind: "table", label: "Sum" });
    expect(table.rows).toEqual([[100, 5050]]);
  });
});

describe("bad requests have honest answers", () => {
  test.each<[string, unknown, number, string]>([
    ["no such tool", { tool: "nothing", task: "run" }, 404, 'no tool "nothing"'],
    ["no such task", { tool: "demo", task: "toString" }, 404, 'no task "toString"'],
    ["no picture", { tool: "demo", task: "run" }, 422, "a picture is needed"],
    [
      "a path for a picture",
      { tool: "demo", task: "run", inputs: { image: "/etc/passwd" } },
      422,
      "no uploaded",
    ],
    ["an unknown input", { tool: "demo", task: "run", inputs: { __proto__x: "a" } }, 422, "no input"],
    ["a path as an option", { tool: "demo", task: "train", options: { out: "/tmp/x" } }, 422, "out"],
    ["an option out of range", { tool: "demo", task: "train", options: { steps: 0 } }, 422, "steps"],
    ["an option of another type", { tool: "demo", task: "train", options: { steps: "many" } }, 422, "steps"],
    ["an unknown checkpoint", { tool: "demo", task: "train", checkpoint: "../x" }, 422, "checkpoint"],
    ["not an object", [1, 2], 400, "expected object"],
  ])("%s", async (_, body, status, words) => {
    const answer = await s.post("/api/jobs", body);
    expect([answer.status, ((await answer.json()) as { error: string }).error]).toEqual([
      status,
      expect.stringContaining(words),
    ]);
  });

  test("bodies that are no JSON, of another type, or too large", async () => {
    const send = (body: string, type = "application/json") =>
      s.ask("/api/jobs", { method: "POST", body, headers: { "content-type": type } }).then((r) => r.status);
    expect(await send("{")).toBe(400);
    expect(await send("{}", "text/plain")).toBe(415);
    expect(await send(JSON.stringify({ tool: "x".repeat(300_000), task: "run" }))).toBe(413);
  });

  test.each<[string, () => Promise<Uint8Array>, number]>([
    ["text", async () => Buffer.from("no picture"), 422],
    ["an empty body", async () => new Uint8Array(), 400],
    ["a picture that is cut off", async () => (await gradient()).subarray(0, 200), 422],
    [
      "a picture of too many pixels",
      () =>
        sharp({ create: { width: 800, height: 800, channels: 3, background: "red" } })
          .png()
          .toBuffer(),
      422,
    ],
    ["too many bytes", async () => new Uint8Array(3 * 2 ** 20), 413],
  ])("an upload of %s", async (_, body, status) => {
    const answer = await s
      .ask("/api/uploads", { method: "POST", body: new Uint8Array(await body()) })
      .catch(() => undefined);
    if (answer) expect(answer.status).toBe(status);
    else expect(status).toBe(413); // the connection was closed before all was sent
  });
});

test("no job begins where its results have no room on the disk", async () => {
  const full = await openStudio({ keepFree: 2 ** 60 });
  const answer = await full.post("/api/jobs", { tool: "demo", task: "run" });
  expect([answer.status, await answer.json()]).toEqual([
    507,
    { error: expect.stringMatching(/are free where results are kept, .* must stay free: remove jobs/) },
  ]);
  expect((await full.json<{ jobs: unknown[] }>(full.ask("/api/jobs"))).jobs).toEqual([]);
  await closeStudio(full);
});

describe("events", () => {
  test("tell of every job until it is done, to several browsers", async () => {
    const statesOf = async (answer: Response, id: string): Promise<string[]> => {
      const states: string[] = [];
      let text = "";
      for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
        text += new TextDecoder().decode(chunk);
        for (const block of text.split("\n\n").slice(0, -1)) {
          const job = /^event: job$/m.test(block) && JSON.parse(/^data: (.*)$/m.exec(block)![1]!);
          if (job && job.id === id) states.push(job.state);
        }
        text = text.slice(text.lastIndexOf("\n\n") + 2);
        if (states.at(-1) === "done") break;
      }
      return states;
    };
    const listening = [await s.ask("/api/events"), await s.ask("/api/events")];
    const { hash } = await s.sample("shapes");
    const job = await s.add({ tool: "demo", task: "run", inputs: { image: hash }, options: { passes: 20 } });
    for (const states of await Promise.all(listening.map((answer) => statesOf(answer, job.id)))) {
      expect(states.at(-1)).toBe("done");
      expect(states).toContain("running");
    }
  });
});

describe("nothing is lost", () => {
  test("when the server is killed while it works", async () => {
    const data = await temporaryFolder();
    const first = await spawnStudio(data);
    const client = clientOf(first);
    const finished = await client.add({ tool: "demo", task: "evaluate" });
    await client.settled(finished.id);
    const training = await client.add({
      tool: "demo",
      task: "train",
      options: { steps: 100_000, pause: 20 },
    });
    const waiting = await client.add({ tool: "demo", task: "evaluate" });
    await client.until(training.id, (j) => (j.progress?.done ?? 0) >= 5);
    first.child.kill("SIGKILL");
    await new Promise((resolve) => first.child.once("exit", resolve));

    const second = await spawnStudio(data);
    const again = clientOf(second);
    expect((await again.job(finished.id)).state).toBe("done");
    expect((await again.job(training.id)).state).toBe("interrupted");
    expect((await again.settled(waiting.id)).state).toBe("done");
    await again.post(`/api/jobs/${training.id}/resume`);
    await again.until(training.id, (j) => j.state === "running" && (j.progress?.done ?? 0) >= 8);
    second.child.kill("SIGTERM"); // an orderly end keeps the training as well
    await new Promise((resolve) => second.child.once("exit", resolve));

    // The index is only a shortcut: without it, and with one that is damaged, everything is still there.
    for (const damage of [
      () => rm(join(data, "index.json")),
      () => writeFile(join(data, "index.json"), "{"),
    ]) {
      await damage();
      const third = await openStudio({ data });
      const states = (await third.json<{ jobs: JobRecord[] }>(third.ask("/api/jobs"))).jobs.map(
        (j) => j.state,
      );
      expect(states.sort()).toEqual(["done", "done", "interrupted"]);
      await third.studio.close();
    }
    await rm(data, { recursive: true, force: true });
  });

  test("the index is not believed when a job's own file says something newer", async () => {
    const data = await temporaryFolder();
    const first = await openStudio({ data });
    const job = await first.add({ tool: "demo", task: "train", options: { steps: 5 } });
    await first.settled(job.id);
    await first.studio.close();
    const path = join(data, "jobs", job.id, "job.json");
    const record = JSON.parse(await readFile(path, "utf8"));
    await writeFile(path, JSON.stringify({ ...record, state: "running" })); // as a kill after a resume leaves it
    const second = await openStudio({ data });
    expect(await second.job(job.id)).toMatchObject({ state: "interrupted", metrics: 5 });
    await closeStudio(second);
  });

  test("two studios do not share a folder", async () => {
    await expect(startStudio({ data: s.data, port: 0 })).rejects.toThrow("in use by process");
  });

  test("a job that cannot be read is reported and left alone", async () => {
    const data = await temporaryFolder();
    const first = await openStudio({ data });
    const job = await first.add({ tool: "demo", task: "evaluate" });
    await first.settled(job.id);
    await first.studio.close();
    await rm(join(data, "index.json"));
    await writeFile(join(data, "jobs", job.id, "job.json"), '{"id":');
    const second = await openStudio({ data });
    expect(second.studio.warnings).toEqual([expect.stringContaining(job.id)]);
    expect(await readdir(join(data, "jobs", job.id))).toContain("job.json");
    await closeStudio(second);
  });

  test("no temporary files are left behind", async () => {
    const names = await readdir(s.data, { recursive: true });
    expect(names.filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(JSON.parse(await readFile(join(s.data, "index.json"), "utf8")).length).toBeGreaterThan(0);
  });
});

test("the command serves until it is told to stop", async () => {
  const data = await temporaryFolder();
  const child = spawn(
    process.execPath,
    [
      "--import",
      "tsx",
      "--input-type=module",
      "--eval",
      `const { studio } = await import("./src/cli/studio/index.ts"); await studio(${JSON.stringify(["--port", "0", "--json", "--data", data])});`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const line = await new Promise<string>((resolve) => child.stdout.once("data", (d) => resolve(String(d))));
  const { port, url } = JSON.parse(line) as { port: number; url: string };
  const { ask } = clientOf({ port });
  expect((await ask("/api/status")).status, "somebody else on this machine").toBe(401);
  const token = new URL(url).searchParams.get("token");
  expect((await ask("/api/status", { headers: { authorization: `Bearer ${token}` } })).status).toBe(200);
  child.kill("SIGINT");
  expect(await new Promise((resolve) => child.once("exit", resolve))).toBe(0);
  await rm(data, { recursive: true, force: true });
});

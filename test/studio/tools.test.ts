import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodePicture, encodePicture, readPngText } from "../../src/io/index.ts";
import { watchHistories } from "../../src/studio/histories.ts";
import { watchOutputs } from "../../src/studio/outputs.ts";
import { formOf } from "../../src/studio/server/tool-info.ts";
import { systemTool } from "../../src/studio/system-tool.ts";
import { SYSTEMS } from "../../src/systems/index.ts";
import { createSDSeg, PRESETS, sdsegFile } from "../../src/systems/sdseg/model.ts";
import { optionSchemas } from "../../src/systems/system.ts";
import { writeTinyControlNet, writeTinyLora, writeTinyStableDiffusion } from "../pipelines/tiny-pipelines.ts";
import { closeStudio, type Opened, openStudio } from "./server.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-tools-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const CATALOG = new URL("../../src/studio/catalog.ts", import.meta.url);

describe("every declared system", () => {
  const settings = { models: {}, loras: {}, controls: {}, folders: { cells: "/data/cells" } };
  test.each(SYSTEMS.map((system) => [system.name, system] as const))(
    "%s becomes a tool without free paths",
    (_, system) => {
      const tool = systemTool(system, settings, { root: "/root", exists: () => true });
      expect(tool.name).toMatch(/^[a-z0-9-]+$/);
      expect(Object.keys(tool.tasks).length).toBeGreaterThan(0);
      expect(tool.checkpoints.map((c) => c.name)).toEqual(system.checkpoints.map((c) => c.name));
      for (const task of Object.values(tool.tasks))
        for (const [name, field] of Object.entries(formOf(task.options).properties)) {
          const path = (field as { path?: string }).path;
          expect([name, path]).toEqual([name, undefined]);
          expect([name, field.description]).toEqual([name, expect.stringMatching(/./)]);
        }
    },
  );
});

test("every option of a system that is a path declares what it stands for", () => {
  const undeclared = SYSTEMS.flatMap(({ name, actions }) =>
    Object.entries(actions).flatMap(([action, declared]) =>
      optionSchemas(declared)
        .filter(({ path, role }) => path !== undefined && role === undefined)
        .map((option) => `${name} ${action} ${option.name}`),
    ),
  );
  expect(undeclared).toEqual([]);
});

test("SDSeg's form asks for a picture and a checkpoint; folders are those that were named at the start", () => {
  const sdseg = SYSTEMS.find((s) => s.name === "sdseg")!;
  const settings = { models: {}, loras: {}, controls: {}, folders: { cells: "/data/cells" } };
  const { run, train } = systemTool(sdseg, settings, { root: "/root", exists: () => false }).tasks;
  expect(Object.keys(run!.inputs)).toEqual(["image"]);
  expect([run!.checkpoint, train!.checkpoint]).toEqual(["needed", "optional"]);
  expect(formOf(train!.options).properties.data).toMatchObject({ enum: ["cells"] });
  expect(train!.options.strict().safeParse({ data: "/etc" }).success).toBe(false);
  expect(train!.options.strict().safeParse({ initDenoiser: "/etc/passwd" }).success).toBe(false);
});

test("a task whose data were not named at the start says what is missing", () => {
  const system = SYSTEMS.find((candidate) => candidate.name === "q-dit")!;
  const unavailable = (folders: Record<string, string>) =>
    systemTool(
      system,
      { models: {}, loras: {}, controls: {}, folders },
      { root: "/root", exists: () => true },
    ).tasks.train!.unavailable;
  expect(unavailable({})).toContain("--folder NAME=DIR");
  expect(unavailable({ fashion: "/data/fashion-mnist" })).toBeUndefined();
});

test("curves follow the files, also when a run goes on from an earlier step", async () => {
  const run = join(folder, "run", "out", "denoiser");
  await mkdir(run, { recursive: true });
  const file = join(run, "history.jsonl");
  const line = (step: number): string => `{"step":${step},"loss":${1 / step},"missing":null}\n`;
  const watch = watchHistories(join(folder, "run"));
  const rows = async () => {
    const steps: number[] = [];
    for await (const { step, values } of watch.rows(true)) {
      expect(values).toEqual({ "denoiser loss": 1 / step });
      steps.push(step);
    }
    return steps;
  };
  expect(await rows()).toEqual([]);
  await writeFile(file, `${line(1)}${line(2)}{"step":3,"lo`);
  expect(await rows()).toEqual([1, 2]); // the line that is being written waits
  await writeFile(file, line(1) + line(2) + line(3));
  expect(await rows()).toEqual([3]);
  await writeFile(file, line(1));
  expect(await rows()).toEqual([]);
  await writeFile(file, line(1) + line(2) + line(3) + line(4));
  expect(await rows()).toEqual([3, 4]);
});

test("pictures that a system writes become results; of a training's course the newest counts", async () => {
  const job = join(folder, "job");
  await mkdir(join(job, "out", "samples"), { recursive: true });
  const png = await encodePicture({ width: 2, height: 1, channels: 1, data: Uint8Array.of(0, 255) });
  const watch = watchOutputs(job, 0);
  const names = async () => {
    const found: string[] = [];
    for await (const event of watch.pictures(true)) found.push(`${event.name}: ${event.label}`);
    return found;
  };
  await writeFile(join(job, "out", `${"0a".repeat(32)}-mask.png`), png);
  await writeFile(join(job, "out", "broken.png"), "no picture");
  await writeFile(join(job, "result-000.png"), png);
  await writeFile(join(job, "out", "samples", "step-000500.png"), png);
  expect(await names()).toEqual(["mask: mask", "step: samples/step-000500"]);
  await writeFile(join(job, "out", "samples", "step-001000.png"), png);
  expect(await names()).toEqual(["step: samples/step-001000"]);
});

describe("with the real catalog", () => {
  let s: Opened;
  beforeAll(async () => {
    await writeTinyStableDiffusion(join(folder, "sd"));
    await writeTinyLora(join(folder, "lora.safetensors"));
    await writeTinyControlNet(join(folder, "control"));
    s = await openStudio({
      catalog: CATALOG,
      models: { tiny: join(folder, "sd") },
      loras: { brush: join(folder, "lora.safetensors") },
      controls: { edges: join(folder, "control") },
    });
  });
  afterAll(() => closeStudio(s));

  test("pictures are made from text, with previews, and the same seed gives the same picture", async () => {
    const options = { prompt: "a red cat", steps: 2, seed: 7, count: 2 };
    const make = async () => s.settled((await s.add({ tool: "generate", task: "run", options })).id);
    const [first, second] = [await make(), await make()];
    expect(first.error).toBeUndefined();
    expect(first.state).toBe("done");
    expect(first.artifacts.map((a) => a.name)).toEqual(["seed-7", "seed-8"]);
    expect(first.preview).toBeGreaterThan(0);
    const png = async (id: string) =>
      Buffer.from(await (await s.ask(`/api/jobs/${id}/results/0`)).arrayBuffer());
    const [a, b] = [await png(first.id), await png(second.id)];
    expect((await decodePicture(a)).data).toEqual((await decodePicture(b)).data);
    const text = readPngText(a).find((t) => t.keyword === "tweedie-studio")!.text;
    expect(JSON.parse(text).options).toMatchObject({ prompt: "a red cat", seed: 7, model: "tiny" });

    const pixels = async (more: object, inputs = {}): Promise<Uint8Array> => {
      const wanted = { ...options, count: 1, ...more };
      const job = await s.settled(
        (await s.add({ tool: "generate", task: "run", inputs, options: wanted })).id,
      );
      expect(job.error).toBeUndefined();
      return Uint8Array.from((await decodePicture(await png(job.id))).data);
    };
    const plain = Uint8Array.from((await decodePicture(a)).data);
    expect(await pixels({ lora: "brush", loraWeight: 0 })).toEqual(plain);
    expect(await pixels({ lora: "brush", loraWeight: 2 })).not.toEqual(plain);
    const { hash } = await s.json<{ hash: string }>(s.post("/api/tools/generate/samples/shapes"));
    expect(await pixels({ control: "edges", controlScale: 2 }, { control: hash })).not.toEqual(plain);
    const alone = await s.add({ tool: "generate", task: "run", options: { ...options, control: "edges" } });
    expect((await s.settled(alone.id)).error).toContain("needs a control picture");
    const path = { ...options, lora: "/etc/passwd" };
    expect((await s.post("/api/jobs", { tool: "generate", task: "run", options: path })).status).toBe(422);
  });
});

describe("SDSeg", () => {
  let s: Opened;
  beforeAll(async () => {
    process.env.TWEEDIE_TEST_CHECKPOINT = join(folder, "smoke.safetensors");
    const origin = { name: "smoke", training: "none", seed: "5", date: "2026-01-01", scale: 1 };
    await sdsegFile.save(process.env.TWEEDIE_TEST_CHECKPOINT, createSDSeg(PRESETS.smoke, 5), origin);
    s = await openStudio();
  });
  afterAll(async () => {
    delete process.env.TWEEDIE_TEST_CHECKPOINT;
    await closeStudio(s);
  });

  test("segments a sample; its results lie over the picture", async () => {
    const { hash } = await s.json<{ hash: string }>(s.post("/api/tools/sdseg/samples/lesion-1"));
    const job = await s.add({ tool: "sdseg", task: "run", inputs: { image: hash } });
    const done = await s.settled(job.id);
    expect(done.error).toBeUndefined();
    const pictures = done.artifacts.filter((a) => a.kind === "picture");
    expect(pictures.map((p) => p.name).sort()).toEqual(["mask", "overlay", "probability"]);
    expect(pictures.every((p) => p.over === "image" && p.width === 64)).toBe(true);
    expect(done.messages.join()).not.toContain(s.data); // no paths of this machine
  });

  test("is made for the page, once", async () => {
    const ask = () => s.ask("/api/tools/sdseg/browser/64");
    const [first, second] = await Promise.all([ask(), ask()]);
    const [a, b] = await Promise.all([first, second].map(async (r) => Buffer.from(await r.arrayBuffer())));
    expect(a!.length).toBeGreaterThan(100_000);
    expect(a!.equals(b!)).toBe(true);
    expect((await s.ask("/api/tools/sdseg/browser/65")).status).toBe(422);
    expect((await s.ask("/api/tools/sdseg/browser/64?checkpoint=..%2Fx")).status).toBe(409);
    expect((await s.ask("/api/tools/demo/browser/64")).status).toBe(404);
  });
});

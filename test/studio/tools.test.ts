import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { decodePicture, readPngText } from "../../src/io/index.ts";
import { worldSamples } from "../../src/studio/samples.ts";
import { formOf } from "../../src/studio/server/tool-info.ts";
import { systemTool } from "../../src/studio/system-tool.ts";
import type { TaskEvent } from "../../src/studio/tool.ts";
import { SYSTEMS } from "../../src/systems/index.ts";
import { outFolder } from "../../src/systems/options.ts";
import { createSDSeg, PRESETS, sdsegFile } from "../../src/systems/sdseg/model.ts";
import { action, optionSchemas, type System } from "../../src/systems/system.ts";
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

test("what a system tells while it works becomes curves, pictures, tables and files of the job", async () => {
  const job = join(folder, "job");
  const inside = join(job, "out", "numbers.json");
  const picture = { width: 2, height: 1, channels: 1, data: Uint8Array.of(0, 255) };
  const teller = action({
    about: "tells",
    options: z.object({ out: outFolder("out/teller", "where it goes") }),
    async *run({ out }) {
      expect(out).toBe(join(job, "out"));
      yield { type: "progress", stage: "denoiser", done: 1, total: 2, note: "loss 1" };
      yield { type: "metrics", stage: "denoiser", step: 20, values: { loss: 0.5, dice: 0.25 } };
      yield { type: "picture", name: "Samples of 20", picture };
      yield { type: "figure", name: "f", caption: "two", pictures: [picture, picture], columns: 2 };
      yield { type: "chart", name: "c", caption: "chart", svg: "<svg/>" };
      yield { type: "warning", text: `${job}/x.png is broken` };
      yield { type: "file", path: inside, about: "numbers" };
      yield { type: "file", path: "/elsewhere/model.safetensors", about: "a model" };
      return { summary: `done in ${job}`, metrics: { dice: 0.123456789, seconds: 3 } };
    },
  });
  const system: System = {
    ...SYSTEMS[0]!,
    name: "teller",
    checkpoints: [],
    actions: { run: teller },
  };
  const settings = { models: {}, loras: {}, controls: {}, folders: {} };
  const { run } = systemTool(system, settings, { root: "/root", exists: () => false }).tasks;
  const events: TaskEvent[] = [];
  const context = {
    inputs: {},
    options: {},
    checkpoint: undefined,
    folder: job,
    signal: new AbortController().signal,
  };
  for await (const event of run!.run(context)) events.push(event);
  expect(events).toEqual([
    { type: "progress", done: 1, total: 2, note: "denoiser: loss 1" },
    { type: "metrics", step: 20, values: { "denoiser loss": 0.5, "denoiser dice": 0.25 } },
    { type: "picture", name: "samples-of-20", label: "Samples of 20", picture },
    { type: "picture", name: "f", label: "two", picture: expect.objectContaining({ channels: 3 }) },
    { type: "chart", name: "c", label: "chart", svg: "<svg/>" },
    { type: "message", text: "Warning: the job's folder/x.png is broken" },
    { type: "file", name: "numbers.json", label: "numbers", path: inside },
    { type: "message", text: "a model: /elsewhere/model.safetensors" },
    { type: "message", text: "done in the job's folder" },
    {
      type: "table",
      name: "measured",
      label: "Measured",
      table: { columns: ["measure", "value"], rows: [["dice", 0.123457]] },
    },
  ]);
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

  test("shows its own samples alone, and a tool without any those of the world", async () => {
    const { tools } = await s.json<{ tools: { name: string; samples: { name: string }[] }[] }>(
      s.ask("/api/tools"),
    );
    const names = (tool: string) => tools.find(({ name }) => name === tool)!.samples.map(({ name }) => name);
    expect(names("sdseg")).toEqual(["lesion-1", "lesion-2", "lesion-3"]);
    expect(names("demo")).toEqual(worldSamples.map(({ name }) => name));
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

import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodePicture, encodePicture, readSafetensors } from "../../../src/io/index.ts";
import { systemTool } from "../../../src/studio/system-tool.ts";
import { samplePicture } from "../../../src/systems/decomp/data.ts";
import { sumWeights } from "../../../src/systems/decomp/run.ts";
import { decomp } from "../../../src/systems/decomp/system.ts";
import type { ActionName } from "../../../src/systems/system.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

/** An action with options as a command line has them. */
async function done(name: ActionName, options: Record<string, unknown>, previews = false) {
  const action = decomp.actions[name]!;
  const events: WorkEvent[] = [];
  const work = action.run(action.options.parse({ threads: 1, ...options }), { previews });
  const result = await drained(work, (event) => {
    events.push(event);
  });
  return { result, events };
}
const pixels = async (...names: string[]): Promise<number[]> =>
  Array.from((await decodePicture(await readFile(at(...names)))).data);

const SHORT = { preset: "smoke", steps: 4, batch: 4, limit: 60 };
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-decomp-"));
  for (const [name, index] of [
    ["a", 1],
    ["b", 2],
  ] as const)
    await writeFile(at(`${name}.png`), await encodePicture(await samplePicture(index)));
  await done("train", { ...SHORT, dropLatents: 0.2, out: at("run") }, true);
  await done("train", { ...SHORT, components: 3, latent: 4, also: "blocks2-other", out: at("other") });
}, 60_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

const model = (): string => at("run", "model.safetensors");

describe("run", () => {
  it("writes components, reconstruction, latents and a sheet; done pictures are passed over", async () => {
    const options = { image: at("a.png"), model: model(), steps: 2, out: at("parts") };
    const { result, events } = await done("run", options, true);
    expect((await readdir(at("parts"))).sort()).toEqual(
      ["component-1.png", "component-2.png", "latents.safetensors", "reconstruction.png", "sheet.png"].map(
        (n) => `a-${n}`,
      ),
    );
    const { tensors } = await readSafetensors(at("parts", "a-latents.safetensors"));
    expect(tensors.get("latents")!.shape).toEqual([2, 8]);
    const album = events.find((event) => event.type === "album");
    expect(album).toMatchObject({
      view: "components",
      parts: [{ label: "component 1" }, { label: "component 2" }],
    });
    expect(result.metrics).toMatchObject({ pictures: 1, kept: 0 });
    expect((await done("run", options)).result.metrics).toMatchObject({ pictures: 0, kept: 1 });
    expect((await done("run", { ...options, seed: 1 })).result.metrics).toMatchObject({ pictures: 1 });
  });

  it("mixes by a mask, so that all of the first picture is its reconstruction", async () => {
    const options = { image: at("a.png"), with: at("b.png"), model: model(), steps: 2 };
    await done("run", { image: at("b.png"), model: model(), steps: 2, out: at("whole") });
    await done("run", { image: at("a.png"), model: model(), steps: 2, out: at("whole") });
    for (const [mask, name] of [
      ["11", "a"],
      ["00", "b"],
    ] as const) {
      await done("run", { ...options, mask, out: at(`mask-${mask}`) });
      expect(await pixels(`mask-${mask}`, "a-mixture.png")).toEqual(
        await pixels("whole", `${name}-reconstruction.png`),
      );
    }
    await done("run", { ...options, mode: "add", out: at("sum") });
    expect(await readdir(at("sum"))).toContain("a-sum.png");
    await done("run", { ...options, with: at(), mode: "vary", component: 2, out: at("varied") });
    expect(await readdir(at("varied"))).toContain("a-varied-2.png");
    await done("run", { image: at("a.png"), model: model(), steps: 2, mode: "build-up", out: at("up") });
    expect(await pixels("up", "a-first-2.png")).toEqual(await pixels("whole", "a-reconstruction.png"));
  });

  it("composes components of two models, and guides one that was trained for it", async () => {
    const withModel = at("other", "model.safetensors");
    const options = { image: at("a.png"), with: at("b.png"), model: model(), withModel, steps: 2 };
    await done("run", { ...options, mode: "add", out: at("both") });
    expect(await readdir(at("both"))).toContain("a-sum.png");
    await done("run", { image: at("a.png"), model: model(), guidance: 2, steps: 2, out: at("led") });
    const refused = done("run", {
      image: at("a.png"),
      model: withModel,
      guidance: 2,
      steps: 2,
      out: at("not"),
    });
    await expect(refused).rejects.toThrow(/trained with latents dropped/);
  });

  it.each([
    [{ with: "b.png", mask: "101" }, /mask of 3 for 2/],
    [{ mode: "mix" }, /needs a second picture/],
    [{ mode: "vary", with: "b.png", component: 3 }, /component 3 of 2/],
    [{ weights: "1,2,3" }, /expected 2 finite weights/],
  ] as const)("refuses %j", async (more, message) => {
    const given = "with" in more ? { ...more, with: at(more.with) } : more;
    const run = done("run", { image: at("a.png"), model: model(), steps: 1, out: at("bad"), ...given });
    await expect(run).rejects.toThrow(message);
  });

  it("finds the weights with which parts add up", () => {
    const picture = (...data: number[]) => ({
      width: 3,
      height: 1,
      channels: 1,
      data: Uint8Array.from(data),
    });
    const [a, b] = [picture(100, 0, 50), picture(0, 80, 20)];
    const [x, y] = sumWeights([a, b], picture(50, 80, 45));
    expect(x).toBeCloseTo(0.5, 1);
    expect(y).toBeCloseTo(1, 1);
  });
});

describe("evaluate", () => {
  it("measures by masks, and by factors", async () => {
    const { result, events } = await done("evaluate", { model: model(), limit: 6, steps: 2 });
    expect(Object.keys(result.metrics!)).toEqual(["error", "miou", "overlap"]);
    const table = events.find((event) => event.type === "table")!;
    expect(JSON.stringify(table)).toContain("recombination IoU");
    const balls = await done("evaluate", { model: model(), data: "litball", limit: 40, steps: 2 });
    expect(Object.keys(balls.result.metrics!)).toEqual(["error", "mig"]);
  });
});

describe("train", () => {
  it("needs a folder for a published size", async () => {
    await expect(done("train", { preset: "clevr", out: at("none") })).rejects.toThrow(
      /preset clevr needs a folder/,
    );
  });
});

describe("the studio", () => {
  it("asks for a picture and offers a second one, shows own samples, and chooses the shipped model by name", async () => {
    const settings = { models: {}, loras: {}, controls: {}, folders: {} };
    const tool = systemTool(decomp, settings, { root: "/root", exists: () => true });
    const { image, with: second } = tool.tasks.run!.inputs;
    expect([image!.kind, image!.required, second!.kind, second!.required]).toEqual([
      "picture",
      true,
      "picture",
      false,
    ]);
    expect(tool.samples.map(({ name }) => name)).toContain("blocks-1");
    expect(tool.checkpoints.map(({ name }) => name)).toEqual(["blocks"]);
    const sample = await tool.samples.find(({ name }) => name === "blocks-2")!.make();
    expect([sample.width, sample.channels]).toEqual([8, 3]);
  });
});

describe("what ships", () => {
  it("takes blocks apart: components overlap little and cover most of them", async () => {
    const { result } = await done("evaluate", { model: "blocks", limit: 24, steps: 10, threads: 2 });
    expect(result.metrics!.miou).toBeGreaterThan(0.45);
    expect(result.metrics!.overlap).toBeLessThan(0.2);
    expect(result.metrics!.error).toBeLessThan(0.061);
  });
});

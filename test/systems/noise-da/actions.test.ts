/** What a user does with Noise-DA: two folders give an adapted network and a report; it goes on where it stopped; what is refused. */
import { mkdir, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { deadLeaves } from "../../../src/data/index.ts";
import { ArgumentError, FormatError, ShapeError } from "../../../src/errors.ts";
import { encodePicture, type Picture, writeSafetensors } from "../../../src/io/index.ts";
import { RestorationUNet, type Restorer } from "../../../src/networks/index.ts";
import { createRng, parameters } from "../../../src/nn/index.ts";
import { createNoiseGuesser } from "../../../src/systems/noise-da/model.ts";
import {
  loadAnyRestorer,
  officialDiffusion,
  officialRestorer,
} from "../../../src/systems/noise-da/official.ts";
import { noiseDa } from "../../../src/systems/noise-da/system.ts";
import { buildInPage } from "../../../src/systems/noise-da/use.ts";
import type { ActionName } from "../../../src/systems/system.ts";
import { importOnnx, type Tensor, tensor, zeros } from "../../../src/tensor/index.ts";
import { restorerFile, writeWeights } from "../../../src/training/index.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

async function act(name: ActionName, options: object, events: WorkEvent[] = []) {
  const action = noiseDa.actions[name]!;
  const given = action.options.parse({ threads: 1, ...options });
  return await drained(action.run(given, { previews: true }), (event) => events.push(event));
}

const leaves = (index: number, size = 40, noise = 0): Picture => {
  const { data, ...rest } = deadLeaves(index, { size });
  return {
    ...rest,
    data: Uint8Array.from(data, (v, i) => Math.round(255 * v) + noise * (((i * 7919) % 11) - 5)),
  };
};
const gray = (size: number): Picture => ({
  ...{ width: size, height: size, channels: 1 },
  data: new Uint8Array(size * size).map((_, i) => (i * 31) % 256),
});

const written = async (pictures: Readonly<Record<string, Picture>>, ...names: string[]) => {
  await mkdir(at(...names), { recursive: true });
  for (const [name, picture] of Object.entries(pictures))
    await writeFile(at(...names, `${name}.png`), await encodePicture(picture));
};
const TINY = { steps: 3, batch: 2, crop: 16, diffusion: "smoke", network: "dncnn" };
const both = () => ({ synthetic: at("clean"), real: at("real") });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "noise-da-"));
  await written({ a: leaves(0), b: leaves(1), gray: gray(32) }, "clean");
  await written({ c: leaves(2, 40, 4), small: leaves(3, 12, 4), gray: gray(20) }, "real");
  await written({ one: leaves(4, 24, 4) }, "single");
  await written({ tiny: leaves(5, 8) }, "tiny");
  await written({ x: leaves(6, 24, 4) }, "pairs", "noisy");
  await written({ x: leaves(6, 24) }, "pairs", "clean");
}, 60_000);

describe("training", () => {
  it("gives a network without its diffusion model, a report of before and after, and says what it left out", async () => {
    const events: WorkEvent[] = [];
    const { summary } = await act("train", { ...TINY, ...both(), out: at("run") }, events);
    expect(summary).toMatch(/Noise-DA, 3 steps of 2 crops of 16, 3 clean pictures \(noise\) and 2 real ones/);
    expect(events).toContainEqual({
      type: "warning",
      text: "1 of 3 real pictures are smaller than the crop of 16 and left out",
    });
    const { model, notes } = await restorerFile.load(at("run", "model.safetensors"));
    expect([...parameters(model).keys()].every((key) => key.startsWith("model."))).toBe(true);
    expect(notes).toMatchObject({ task: "noise", command: expect.stringContaining("--synthetic") });
    const report = await readFile(at("run", "report.html"), "utf8");
    expect(report).toContain("Real pictures: before, after.");
    expect(report).toContain("slopes of real pictures, restored over degraded");
    const curves = events.flatMap((event) => (event.type === "metrics" ? Object.keys(event.values) : []));
    expect(curves).toEqual(
      expect.arrayContaining(["loss", "pixels", "positive", "negative", "contrast", "diffusion"]),
    );
    expect(events.find((event) => event.type === "album")).toMatchObject({ view: "comparison" });
  }, 60_000);

  it("that was stopped goes on, to the same network to the last bit; other settings are refused", async () => {
    const options = { ...TINY, steps: 6, ...both() };
    const stop = new AbortController();
    const action = noiseDa.actions.train!;
    const given = action.options.parse({ threads: 1, ...options, out: at("stopped") });
    const stopped = drained(action.run(given, { signal: stop.signal }), (event) => {
      if (event.type === "progress" && event.stage === "network" && event.done === 2) stop.abort();
    });
    await expect(stopped).rejects.toThrow(/stopped after step 2/);
    const events: WorkEvent[] = [];
    await act("train", { ...options, out: at("stopped") }, events);
    expect(events).toContainEqual({ type: "message", text: "network: goes on after step 2" });
    await act("train", { ...options, out: at("whole") });
    const weightsOf = async (name: string) =>
      await (
        parameters((await restorerFile.load(at(name, "model.safetensors"))).model).get(
          "model.0.weight",
        ) as Tensor
      ).toArray();
    expect(await weightsOf("stopped")).toEqual(await weightsOf("whole"));
    await expect(act("train", { ...options, out: at("stopped"), alpha: 1 })).rejects.toThrow(
      /other settings/,
    );
  }, 60_000);

  it("warns of a folder with one picture, and of folders with the same pictures", async () => {
    const texts = async (options: object) => {
      const events: WorkEvent[] = [];
      await act("train", { ...TINY, steps: 1, mode: "0", diffusion: undefined, ...options }, events);
      return events.flatMap((event) => (event.type === "warning" ? [event.text] : []));
    };
    const single = await texts({ synthetic: at("clean"), real: at("single"), out: at("one") });
    expect(single.join()).toMatch(/one real picture/);
    const same = await texts({ synthetic: at("clean"), real: at("clean"), out: at("same") });
    expect(same.join()).toMatch(/same pictures/);
  }, 60_000);

  it("from a network shows what that one makes of the real pictures, too", async () => {
    const from = at("run", "model.safetensors");
    await act("train", { ...TINY, steps: 1, ...both(), from, out: at("from") });
    expect(await readFile(at("from", "report.html"), "utf8")).toContain(
      "Real pictures: before, network at the start, after.",
    );
  }, 60_000);
});

describe("use", () => {
  it("restores pictures, and evaluates beside another network", async () => {
    const model = at("run", "model.safetensors");
    const run = await act("run", { image: at("real"), model, out: at("out") });
    expect(run.metrics).toMatchObject({ pictures: 3 });
    expect((await readdir(at("out"))).filter((name) => name.endsWith("restored.png"))).toHaveLength(3);
    const events: WorkEvent[] = [];
    const against = at("whole", "model.safetensors");
    await act("evaluate", { model, against, pairs: at("pairs"), out: at("scores.json") }, events);
    const table = events.find((event) => event.type === "table");
    expect(table?.type === "table" && table.table.rows.map(([name]) => name)).toEqual([
      `model ${model}`,
      `model ${against}`,
      "as they are",
      "blur of 1 pixel",
    ]);
    expect(JSON.parse(await readFile(at("scores.json"), "utf8")).conventions.detail).toMatch(/slope/);
  }, 60_000);

  it("exports a graph for pages that restores as the network does", async () => {
    const { model } = await restorerFile.load(at("run", "model.safetensors"));
    const graph = await importOnnx(await buildInPage(at("run", "model.safetensors"), 16));
    const x = tensor(deadLeaves(1, { size: 16 }).data, { shape: [1, 16, 16, 3] }).transpose([0, 3, 1, 2]);
    const [restored] = Object.values(await graph.run({ image: x })) as Tensor[];
    expect(await restored!.sub(model.restore(x).clip(0, 1)).abs().max().item()).toBeLessThan(1e-5);
    await graph.close();
  }, 60_000);
});

describe("the official layout", () => {
  const net = new RestorationUNet({ base: 4, depth: 2, alignCorners: true }, createRng(3));
  const inFile = (): Map<string, Tensor> =>
    new Map([
      ...[...parameters(net)].map(([key, t]) => [`RestorationNet.module.${key}`, t] as const),
      ["denoise_fn.cond_embed.0.weight", zeros([2, 2])],
      ["gammas", zeros([1000])],
      ["posterior_mean_coef1", zeros([1000])],
    ]);

  it("loads whatever its prefixes and buffers, in the range of its metadata", async () => {
    const file = new Map(
      await Promise.all(
        [...inFile()].map(
          async ([key, t]) => [key, { dtype: t.dtype, shape: t.shape, data: await t.data() }] as const,
        ),
      ),
    );
    await writeSafetensors(at("official.safetensors"), file, { range: "signed" });
    const { model } = await loadAnyRestorer(at("official.safetensors"));
    expect((model as RestorationUNet).config).toMatchObject({
      ...{ base: 4, depth: 2, alignCorners: true, range: "signed" },
    });
    const y = tensor(new Float32Array(192).fill(0.25), { shape: [1, 3, 8, 8] });
    const expected = y
      .mul(2)
      .sub(1)
      .add(net.call(y.mul(2).sub(1)))
      .add(1)
      .div(2);
    expect(await (model as Restorer).restore(y).sub(expected).abs().max().item()).toBeLessThan(1e-5);
    const { model: own } = await loadAnyRestorer(at("run", "model.safetensors"));
    expect(own.channels).toBe(3);
  });

  it("says which tensors are missing, and refuses other files", async () => {
    const lacking = inFile();
    lacking.delete("RestorationNet.module.last.bias");
    expect(() => officialRestorer("f", lacking)).toThrow(/last\.bias/);
    expect(() => officialRestorer("f", new Map([["x", zeros([1])]]))).toThrow(FormatError);
    await writeWeights(at("other.safetensors"), { a: zeros([1]) }, { format: "tweedie.prior" });
    await expect(loadAnyRestorer(at("other.safetensors"))).rejects.toThrow(/restoration network/);
  });

  it("calls the embedding of gamma cond_embed; the diffusion model loads with it", () => {
    expect(() => officialDiffusion("f", inFile())).toThrow(FormatError);
    expect(() => officialDiffusion("f", new Map())).toThrow(/no tensors of a diffusion model/);
    expect([...parameters(createNoiseGuesser("smoke", 0)).keys()]).toContain("time_embed.0.weight");
  });
});

describe("bad input is refused by name", () => {
  it.each([
    [
      "real pictures that are all smaller than the crop",
      () => act("train", { ...TINY, ...both(), real: at("tiny"), out: at("no") }),
      ShapeError,
      /--real .* all 1 pictures are smaller than the crop of 16 \(one is 8x8\)/,
    ],
    [
      "no real pictures",
      async () => {
        await mkdir(at("empty"), { recursive: true });
        return act("train", { ...TINY, ...both(), real: at("empty"), out: at("no") });
      },
      ArgumentError,
      /empty|no pictures/,
    ],
    [
      "a crop that the diffusion model cannot take",
      () => act("train", { ...TINY, ...both(), crop: 15, out: at("no") }),
      ArgumentError,
      /multiple of 2, got 15/,
    ],
    [
      "timesteps in the wrong order",
      () => act("train", { ...TINY, ...both(), tMin: 50, tMax: 10, out: at("no") }),
      ArgumentError,
      /least first, got 50 to 10/,
    ],
    [
      "a model that is not there",
      () => act("run", { image: at("real"), model: "no" }),
      ArgumentError,
      /no model "no"/,
    ],
  ] as const)("%s", async (_, make, error, message) => {
    const failed = await make().then(
      () => undefined,
      (cause: unknown) => cause,
    );
    expect(failed).toBeInstanceOf(error);
    expect((failed as Error).message).toMatch(message);
  });
});

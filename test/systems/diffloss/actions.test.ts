/** What a user does with DiffLoss: trains a prior and a network with it, restores, evaluates; and what is refused, by name. */
import { mkdir, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { DEGRADATIONS, deadLeaves, fromArray, ownPictures } from "../../../src/data/index.ts";
import { ArgumentError, FormatError, NonFiniteError, ShapeError } from "../../../src/errors.ts";
import { decodePicture, encodePicture, type Picture } from "../../../src/io/index.ts";
import { createRestorer, type Restorer } from "../../../src/networks/index.ts";
import { createRng, parameters } from "../../../src/nn/index.ts";
import { createPrior, PriorNetwork, priorFile, randomPrior } from "../../../src/systems/diffloss/model.ts";
import { diffloss } from "../../../src/systems/diffloss/system.ts";
import { diffLossOf, trainPrior } from "../../../src/systems/diffloss/train.ts";
import { buildInPage } from "../../../src/systems/diffloss/use.ts";
import { degradedSample } from "../../../src/systems/restoring-page.ts";
import type { ActionName } from "../../../src/systems/system.ts";
import { importOnnx, type Tensor, tensor } from "../../../src/tensor/index.ts";
import {
  degradedCrops,
  restorationBatches,
  restorerFile,
  trainRestorer,
} from "../../../src/training/index.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

async function act(name: ActionName, options: object, events: WorkEvent[] = []) {
  const action = diffloss.actions[name]!;
  const given = action.options.parse({ threads: 1, ...options });
  return await drained(action.run(given, { previews: true }), (event) => events.push(event));
}

const TINY = { steps: 4, batch: 2, crop: 16, pictures: 9 };
const png = (picture: Picture) => encodePicture(picture);
const leaves = (index: number, size = 40): Picture => {
  const { data, ...rest } = deadLeaves(index, { size });
  return { ...rest, data: Uint8Array.from(data, (v) => Math.round(255 * v)) };
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "diffloss-"));
  await act("train", { ...TINY, part: "prior", size: "smoke", out: at("prior") });
  for (const [side, shift] of [
    ["noisy", 1],
    ["clean", 0],
  ] as const) {
    await mkdir(at("pairs", side), { recursive: true });
    for (let i = 0; i < 3; i++) {
      const picture = leaves(i);
      const data = (picture.data as Uint8Array).map((v, k) => Math.min(255, v + shift * ((k * 37) % 60)));
      await writeFile(at("pairs", side, `${i}.png`), await png({ ...picture, data }));
    }
  }
}, 120_000);

describe("training", () => {
  it("goes from a prior to a network with its loss; the prior stays as it was", async () => {
    const before = await readFile(at("prior/prior.safetensors"));
    const events: WorkEvent[] = [];
    const options = { ...TINY, diffloss: true, prior: at("prior/prior.safetensors"), out: at("network") };
    const { summary, metrics } = await act("train", options, events);
    expect(summary).toMatch(/l1 and DiffLoss \(weights .*\), 4 steps of 2 crops of 16.*held-out PSNR/);
    expect(metrics!.psnr).toBeGreaterThan(0);
    const names = events.flatMap((event) => (event.type === "metrics" ? Object.keys(event.values) : []));
    expect(names).toEqual(
      expect.arrayContaining(["loss", "l1", "naturalness", "semantics", "held-out PSNR"]),
    );
    expect(events.some((event) => event.type === "picture")).toBe(true);
    expect(await readFile(at("prior/prior.safetensors"))).toEqual(before);
    const { notes } = await restorerFile.load(at("network/model.safetensors"));
    expect(notes).toMatchObject({ task: "noise", training: expect.stringContaining("our own pictures") });
  }, 60_000);

  it("with the loss detached is training without it, bit for bit; with it, another one after a step", async () => {
    const net = createRestorer({ network: "unet", base: 2, depth: 2 }, createRng(0)) as Restorer;
    const prior = randomPrior("smoke", 1);
    const crops = degradedCrops(ownPictures("restorer", 4), DEGRADATIONS.noise, 0);
    const settings = {
      ...{ steps: 3, batch: 2, crop: 16, seed: 0, learningRate: 1e-3, warmup: 0, clip: 0 },
      ...({ schedule: "constant", pixel: "l1" } as const),
    };
    const weights = { natural: 1, semantic: 1 };
    const trained = async (more: object): Promise<number[]> => {
      const work = trainRestorer({ stage: "test", net, source: crops, settings, threads: 1, ...more });
      const { final } = await drained(work);
      return await (parameters(final).get("last.weight") as Tensor).toArray();
    };
    const plain = await trained({});
    const detached = await trained({ further: diffLossOf(prior, { weights, seed: 0, detachPrior: true }) });
    const full = await trained({ further: diffLossOf(prior, { weights, seed: 0 }) });
    expect(detached).toEqual(plain);
    expect(full).not.toEqual(plain);
  }, 60_000);

  it("of pairs of files, from a checkpoint, resumes where it was", async () => {
    const options = { ...TINY, pairs: at("pairs"), from: at("network/model.safetensors"), out: at("paired") };
    await act("train", options);
    const events: WorkEvent[] = [];
    await act("train", options, events);
    expect(events).toContainEqual({ type: "message", text: "network: goes on after step 4" });
    await expect(act("train", { ...options, batch: 3 })).rejects.toThrow(
      /made with other settings \(batch 2, now 3\)/,
    );
  }, 60_000);
});

describe("use", () => {
  it("restores a folder: picture, difference and sheet of each, of its own kind; a second time nothing", async () => {
    await mkdir(at("in"), { recursive: true });
    const gray = { width: 21, height: 13, channels: 1, data: new Uint16Array(273).fill(30_000) };
    await writeFile(at("in", "gray.png"), await png(gray));
    await writeFile(at("in", "colour.png"), await png(leaves(5)));
    await writeFile(at("in", "broken.png"), "nothing");
    const options = { image: at("in"), model: at("network/model.safetensors"), out: at("out") };
    const events: WorkEvent[] = [];
    const result = await act("run", options, events);
    expect(result).toMatchObject({ incomplete: true, metrics: { pictures: 2, broken: 1 } });
    const restored = await decodePicture(await readFile(at("out", "gray-restored.png")), {
      colour: "as-is",
      depth: "file",
    });
    expect([
      restored.width,
      restored.height,
      restored.channels,
      restored.data instanceof Uint16Array,
    ]).toEqual([21, 13, 1, true]);
    const sheet = await decodePicture(await readFile(at("out", "colour-sheet.png")));
    expect([sheet.width, sheet.height]).toEqual([3 * 42 + 2, 44]);
    expect((await readdir(at("out"))).sort()).toEqual(
      ["colour", "gray"].flatMap((name) =>
        ["difference", "restored", "sheet"].map((kind) => `${name}-${kind}.png`),
      ),
    );
    const album = events.find((event) => event.type === "album");
    expect(album).toMatchObject({ view: "comparison", parts: [{ label: "before" }, { label: "after" }] });
    expect((await act("run", options)).metrics).toMatchObject({ pictures: 0, kept: 2 });
  }, 60_000);

  it("evaluates beside the degraded picture and a blur", async () => {
    const events: WorkEvent[] = [];
    await act(
      "evaluate",
      { model: at("network/model.safetensors"), pairs: at("pairs"), out: at("scores.json") },
      events,
    );
    const table = events.find((event) => event.type === "table");
    expect(table?.type === "table" && table.table.rows.map(([name]) => name)).toEqual([
      `model ${at("network/model.safetensors")}`,
      "as they are",
      "blur of 1 pixel",
    ]);
    const { pictures, conventions } = JSON.parse(await readFile(at("scores.json"), "utf8"));
    expect(pictures["as they are"]).toHaveLength(3);
    expect(conventions.psnrY).toMatch(/65.481 R/);
  }, 60_000);

  it("exports a graph for pages that restores as the network does", async () => {
    const { model } = await restorerFile.load(at("network/model.safetensors"));
    const bytes = await buildInPage(at("network/model.safetensors"), 16);
    const x = tensor(deadLeaves(1, { size: 16 }).data, { shape: [1, 16, 16, 3] }).transpose([0, 3, 1, 2]);
    const graph = await importOnnx(bytes);
    const [restored] = Object.values(await graph.run({ image: x })) as Tensor[];
    const gap = await restored!.sub(model.restore(x).clip(0, 1)).abs().max().item();
    expect(gap).toBeLessThan(1e-5);
    await graph.close();
    await expect(buildInPage(at("network/model.safetensors"), 18)).rejects.toThrow(/multiples of 4, got 18/);
  }, 60_000);

  it("has degraded pictures to try", async () => {
    const picture = await degradedSample("rain", 1, 32);
    expect([picture.width, picture.data.length]).toEqual([32, 3072]);
  });
});

describe("bad input is refused by name", () => {
  const crops = (picture: Picture) =>
    restorationBatches(degradedCrops(fromArray([{ image: picture, name: "x" }]), DEGRADATIONS.noise, 0), {
      ...{ batch: 1, crop: 16, seed: 0 },
    })(0);
  const float = (value: number): Picture => ({
    ...{ width: 16, height: 16, channels: 3 },
    data: new Float32Array(768).fill(value),
  });
  const small = { part: "network", ...TINY };
  const cases: readonly (readonly [
    string,
    () => Promise<unknown>,
    new (...args: never[]) => Error,
    RegExp,
  ])[] = [
    [
      "pictures smaller than the crop",
      () => crops(leaves(0, 8)),
      ShapeError,
      /8x8 is smaller than the crop of 16/,
    ],
    [
      "pictures with NaN",
      () => crops(float(Number.NaN)),
      NonFiniteError,
      /x: the picture has NaN at element 0/,
    ],
    [
      "an empty folder",
      () => act("train", { ...small, data: at("empty") }),
      ArgumentError,
      /empty|no pictures/,
    ],
    [
      "files without a partner",
      () => act("train", { ...small, pairs: at("lonely") }),
      ArgumentError,
      /2 files have no partner/,
    ],
    [
      "a prior that is not there",
      () => act("train", { ...small, diffloss: true, prior: "no" }),
      ArgumentError,
      /no model "no"/,
    ],
    [
      "a network as a prior",
      () => act("train", { ...small, diffloss: true, prior: at("network/model.safetensors") }),
      FormatError,
      /diffusion prior/,
    ],
    [
      "timesteps beyond the prior's",
      () =>
        act("train", {
          ...small,
          diffloss: true,
          prior: at("prior/prior.safetensors"),
          tMax: 1000,
          published: true,
        }),
      ArgumentError,
      /timesteps from 0 to 999.*got 10 to 1000/,
    ],
    [
      "the prior's loss without the switch",
      () => act("train", { ...small, strength: 2 }),
      ArgumentError,
      /--strength has no effect.*--diffloss/,
    ],
    [
      "a crop that the network cannot take",
      () => act("train", { ...small, crop: 18, out: at("never") }),
      ArgumentError,
      /multiple of the network's 4, got 18/,
    ],
    [
      "a crop that the prior cannot take",
      () =>
        drained(
          trainPrior({
            stage: "prior",
            prior: createPrior("smoke", 0),
            source: degradedCrops(ownPictures("prior", 2), DEGRADATIONS.noise, 0),
            settings: {
              ...TINY,
              crop: 17,
              seed: 0,
              ema: 0,
              learningRate: 1,
              warmup: 0,
              schedule: "constant",
              clip: 0,
            },
          }),
        ),
      ArgumentError,
      /multiple of the prior's 2, got 17/,
    ],
    [
      "an overlap as large as the tile",
      () => act("run", { image: at("pairs"), tile: 64, overlap: 64, model: at("network/model.safetensors") }),
      ArgumentError,
      /overlap: expected less than the tile of 64/,
    ],
    [
      "a prior's file with other keys",
      async () => {
        const other = new PriorNetwork({ ...createPrior("smoke", 0).config, timesteps: 1 }, createRng(0));
        await priorFile.save(at("other.safetensors"), other, {});
        const bytes = await readFile(at("other.safetensors"));
        const text = bytes.toString("latin1").replace("out.2.bias", "out.9.bias");
        await writeFile(at("other.safetensors"), Buffer.from(text, "latin1"));
        await priorFile.load(at("other.safetensors"));
      },
      FormatError,
      /out\.2\.bias/,
    ],
  ];
  beforeAll(async () => {
    await mkdir(at("empty"), { recursive: true });
    await mkdir(at("lonely/noisy"), { recursive: true });
    await mkdir(at("lonely/clean"), { recursive: true });
    await writeFile(at("lonely/noisy/a.png"), await png(leaves(0, 16)));
    await writeFile(at("lonely/clean/b.png"), await png(leaves(0, 16)));
  });
  it.each(cases)("%s", async (_, make, error, message) => {
    const failed = await make().then(
      () => undefined,
      (cause: unknown) => cause,
    );
    expect(failed).toBeInstanceOf(error);
    expect((failed as Error).message).toMatch(message);
  });
});

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeLatents, encodeLatents } from "../../../src/data/latent-pictures.ts";
import { shapes10 } from "../../../src/data/world/shapes10.ts";
import { encodePicture, readSafetensors } from "../../../src/io/index.ts";
import { autoencoderKL, initMaskedAutoencoder } from "../../../src/networks/index.ts";
import { createRng } from "../../../src/nn/index.ts";
import type { Action, ActionContext, ActionResult } from "../../../src/systems/system.ts";
import { openPictures } from "../../../src/systems/umd/data.ts";
import { umdFile } from "../../../src/systems/umd/model.ts";
import { umd } from "../../../src/systems/umd/system.ts";
import { writeWeights } from "../../../src/training/weights.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "umd-actions-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function perform(
  name: "train" | "run" | "evaluate",
  options: Record<string, unknown>,
  context: ActionContext = {},
) {
  const action = umd.actions[name] as Action;
  const events: WorkEvent[] = [];
  const run = action.run(action.options.parse({ threads: 1, ...options }), context);
  const result: ActionResult = await drained(run, (event) => events.push(event));
  return { events, result };
}

describe("the actions of UMD", () => {
  it("train, fine-tune, sample, fill in, describe and probe", async () => {
    const [pre, tuned] = [join(folder, "pre"), join(folder, "tuned")];
    const small = { preset: "smoke", limit: 64, batch: 8, steps: 3 };
    const { result } = await perform("train", { ...small, out: pre });
    const again = await perform("train", { ...small, out: pre });
    expect(again.result.metrics).toEqual(result.metrics); // a finished run knows its last loss
    const model = join(pre, "model.safetensors");
    await perform("train", { ...small, preset: undefined, phase: "finetune", from: model, out: tuned });
    const file = join(tuned, "model.safetensors");
    expect((await umdFile.load(file)).model.config.classes).toBe(10);
    await perform("run", { model: file, count: 4, steps: 2, guidance: 2, label: 3, out: folder });
    expect(existsSync(join(folder, "samples.png"))).toBe(true);
    const filled = await perform("run", { model: file, mode: "reconstruct", limit: 4, out: folder });
    const { hiddenError, meanColourError } = filled.result.metrics!;
    expect(filled.result.summary).toContain(`${hiddenError!.toFixed(4)}; the mean`);
    expect(meanColourError).toBeLessThan(1);
    await perform("run", { model: file, mode: "features", limit: 20, out: folder });
    const { tensors } = await readSafetensors(join(folder, "features.safetensors"));
    expect(tensors.get("representation")!.shape).toEqual([20, 32]);
    const probed = await perform("evaluate", { model: file, limit: 200 });
    const [table] = probed.events.flatMap((event) => (event.type === "table" ? [event.table] : []));
    expect(table!.columns).toEqual(["features", "10-shot %", "all labels %"]);
    expect(table!.rows).toHaveLength(4);
    const found = table!.rows.map((row) => row.at(-1));
    expect(found).toContain((100 * probed.result.metrics!.ridge!).toFixed(1));
  });

  it("train tells the terms of the loss, also of pictures that were held out, as curves", async () => {
    const { events } = await perform("train", {
      ...{ preset: "smoke", limit: 64, batch: 8, steps: 3, out: join(folder, "curves") },
    });
    const curves = events.flatMap((event) => (event.type === "metrics" ? Object.keys(event.values) : []));
    expect([...new Set(curves)].sort()).toEqual(
      ["loss", "gradient_norm", "mae", "eps", "x0", "held-out mae", "held-out eps", "held-out x0"].sort(),
    );
  });

  it("train from a checkpoint takes its sizes, interpolates for others, and refuses what contradicts it", async () => {
    const start = join(folder, "start");
    const small = { limit: 32, batch: 4, steps: 1 };
    await perform("train", { ...small, preset: "smoke", out: start });
    const from = join(start, "model.safetensors");
    await perform("train", { ...small, from, size: 24, out: join(folder, "larger") });
    const { config } = (await umdFile.load(join(folder, "larger", "model.safetensors"))).model;
    expect(config).toMatchObject({ size: 24, dim: 32, patch: 4 });
    const refused = (more: Record<string, unknown>) =>
      perform("train", { ...small, from, out: folder, ...more });
    await expect(refused({ preset: "micro" })).rejects.toThrow("--preset has no effect with --from");
    await expect(refused({ autoencoder: "vae" })).rejects.toThrow(/no use for the autoencoder vae/);
  });

  it("a published MAE begins an encoder, and is probed", async () => {
    const sizes = { imageSize: 16, patchSize: 4, inChannels: 3, dim: 32, depth: 2, heads: 4, mlpRatio: 4 };
    const decoder = { eps: 1e-6, decoderDim: 16, decoderDepth: 1, decoderHeads: 2, normPixLoss: false };
    const file = join(folder, "mae.safetensors");
    await writeWeights(file, initMaskedAutoencoder({ ...sizes, ...decoder }, createRng(4)), {});
    const run = {
      preset: "smoke",
      initEncoder: file,
      limit: 2,
      batch: 1,
      steps: 1,
      out: join(folder, "begun"),
    };
    await perform("train", run);
    const { config } = (await umdFile.load(join(folder, "begun", "model.safetensors"))).model;
    expect(config).toMatchObject({ classTokens: 1, activation: "gelu", dim: 32 });
    const probed = await perform("evaluate", { model: file, limit: 20 });
    expect(probed.events.find((event) => event.type === "table")).toMatchObject({
      table: { columns: ["features", "all labels %"], rows: [["class token", expect.any(String)]] },
    });
    await expect(perform("evaluate", { model: file, linear: true })).rejects.toThrow(
      /not for a published MAE/,
    );
  });

  it("shows what is in the making to who watches, and does the same work", async () => {
    const train = { preset: "smoke", limit: 32, batch: 8, steps: 2, seed: 4 };
    const [plain, watched] = [join(folder, "plain"), join(folder, "watched")];
    const unseen = await perform("train", { ...train, out: plain });
    const seen = await perform("train", { ...train, out: watched }, { previews: true });
    const pictures = ({ events }: typeof seen) => events.filter((event) => event.type === "picture");
    expect([pictures(unseen).length, pictures(seen).length]).toEqual([0, 1]);
    expect(seen.result.metrics).toEqual(unseen.result.metrics);
    const run = { model: join(plain, "model.safetensors"), count: 2, steps: 4, out: folder };
    const [a, b] = [await perform("run", run), await perform("run", run, { previews: true })];
    const previews = ({ events }: typeof a) => events.filter((event) => event.type === "preview");
    expect(previews(a)).toHaveLength(0);
    expect(previews(b).length).toBeGreaterThan(2);
    const last = (events: readonly WorkEvent[]) => events.filter((e) => e.type === "picture").at(-1);
    expect(last(b.events)).toEqual(last(a.events));
  });

  it("latents: pictures through an autoencoder and back, scaled as it says", async () => {
    const vae = autoencoderKL(
      {
        in_channels: 3,
        out_channels: 3,
        block_out_channels: [8, 8],
        down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        layers_per_block: 1,
        norm_num_groups: 4,
        latent_channels: 4,
      },
      createRng(1),
    );
    const pictures = shapes10({ seed: 0, count: 3, size: 16 });
    const latents = await encodeLatents(vae, pictures, { batch: 2 });
    expect([latents.count, latents.channels, latents.size]).toEqual([3, 4, 8]);
    expect(vae.scale.scalingFactor).toBe(0.18215);
    const back = await decodeLatents(vae, latents, { batch: 2 });
    expect([back.count, back.channels, back.size]).toEqual([3, 3, 16]);
    expect(back.values.every((v) => Math.abs(v) <= 1)).toBe(true);
    await expect(encodeLatents(vae, shapes10({ seed: 0, count: 1, size: 15 }))).rejects.toThrow(
      /divisible by 2/,
    );
  });

  it("reads any folder of pictures, by class or without", async () => {
    const plain = join(folder, "plain");
    const classes = join(folder, "classes");
    for (const [k, dir] of [plain, join(classes, "a"), join(classes, "b")].entries()) {
      await mkdir(dir, { recursive: true });
      for (let i = 0; i < 6; i++) {
        const data = new Uint8Array(12 * 8 * 3).fill(40 * k + i);
        await writeFile(
          join(dir, `${i}.png`),
          await encodePicture({ width: 12, height: 8, channels: 3, data }),
        );
      }
    }
    const open = (dir: string, half: "train" | "test") =>
      openPictures({ folder: dir, half, size: 8, channels: 1 });
    const { pictures } = await open(classes, "train");
    expect([pictures.count, pictures.size, pictures.channels]).toEqual([10, 8, 1]);
    expect([...pictures.labels!]).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    expect(pictures.values[0]).toBeCloseTo((2 * 40) / 255 - 1, 5);
    expect((await open(classes, "test")).pictures.count).toBe(2);
    expect((await open(plain, "train")).pictures.labels).toBeUndefined();
    await expect(open(join(folder, "nowhere"), "train")).rejects.toThrow(/nowhere: there/);
  });

  it("names what is missing", async () => {
    await expect(perform("train", { preset: "L/2", out: folder })).rejects.toThrow(/needs an autoencoder/);
    await expect(perform("run", { model: "nothing" })).rejects.toThrow(/no model "nothing"/);
    const other = join(folder, "other.png");
    await writeFile(other, "no weights");
    await expect(perform("run", { model: other })).rejects.toThrow();
  });
});

const shared = fileURLToPath(new URL("../../../../shared/data/", import.meta.url));
describe.skipIf(!existsSync(shared))("published sets", () => {
  it("Fashion-MNIST and CIFAR-10", async () => {
    const open = (name: string, size: number, channels: number) =>
      openPictures({ folder: join(shared, name), half: "test", size, channels, limit: 50 });
    const fashion = (await open("fashion-mnist", 28, 1)).pictures;
    expect([fashion.count, fashion.labels![0], fashion.classes.length]).toEqual([50, 9, 10]);
    const cifar = (await open("cifar10", 32, 3)).pictures;
    expect([cifar.count, cifar.labels![0], cifar.classes[cifar.labels![0]!]]).toEqual([50, 3, "cat"]);
  });
});

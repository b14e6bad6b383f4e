import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Labelled } from "../../../src/data/picture-set.ts";
import { shapes10 } from "../../../src/data/world/shapes10.ts";
import { encodePicture, readSafetensors } from "../../../src/io/index.ts";
import { autoencoderKL } from "../../../src/networks/index.ts";
import { createRng } from "../../../src/nn/index.ts";
import type { Action, ActionContext, ActionEvent, ActionResult } from "../../../src/systems/system.ts";
import { openPictures } from "../../../src/systems/umd/actions/common.ts";
import { loadUMD } from "../../../src/systems/umd/checkpoint.ts";
import { PRESETS } from "../../../src/systems/umd/config.ts";
import {
  type ExperimentResult,
  runExperiment,
  stepsFor,
  VARIANTS,
} from "../../../src/systems/umd/experiment.ts";
import { decodeLatents, encodeLatents } from "../../../src/systems/umd/latents.ts";
import { umd } from "../../../src/systems/umd/system.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "umd-actions-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function perform(
  name: "train" | "run" | "evaluate" | "reproduce",
  options: Record<string, unknown>,
  context: ActionContext = {},
) {
  const action = umd.actions[name] as Action;
  const run = action.run(action.options.parse({ threads: 1, ...options }), context);
  const events: ActionEvent[] = [];
  for (;;) {
    const { done, value } = await run.next();
    if (done) return { events, result: value as ActionResult };
    events.push(value);
  }
}

describe("the actions of UMD", () => {
  it("train, fine-tune, sample, fill in, describe and probe", async () => {
    const [pre, tuned] = [join(folder, "pre"), join(folder, "tuned")];
    const small = { preset: "smoke", limit: 64, batch: 8, steps: 3 };
    const { result } = await perform("train", { ...small, out: pre });
    expect(result.metrics!.loss).toBeGreaterThan(0);
    const model = join(pre, "model.safetensors");
    await perform("train", { ...small, phase: "finetune", from: model, out: tuned });
    const file = join(tuned, "model.safetensors");
    expect((await loadUMD(file)).model.config.classes).toBe(10);
    await perform("run", { model: file, count: 4, steps: 2, guidance: 2, label: 3, out: folder });
    expect(existsSync(join(folder, "samples.png"))).toBe(true);
    const filled = await perform("run", { model: file, mode: "reconstruct", limit: 4, out: folder });
    expect(filled.result.metrics!.hiddenError).toBeGreaterThan(0);
    await perform("run", { model: file, mode: "features", limit: 20, out: folder });
    const { tensors } = await readSafetensors(join(folder, "features.safetensors"));
    expect(tensors.get("representation")!.shape).toEqual([20, 32]);
    const probed = await perform("evaluate", { model: file, limit: 200 });
    expect(probed.result.metrics!.ridge).toBeGreaterThan(0.02);
    const table = probed.events.find((event) => event.type === "table");
    expect(table?.type === "table" && table.table.rows).toHaveLength(4);
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
    const last = (events: readonly ActionEvent[]) => events.filter((e) => e.type === "picture").at(-1);
    expect(last(b.events)).toEqual(last(a.events));
  });

  it("reproduce writes tables of every method", async () => {
    const [out, work] = [join(folder, "results"), join(folder, "work")];
    const options = {
      train: 1500,
      test: 100,
      size: 16,
      preset: "smoke",
      seeds: 1,
      steps: 2,
      tuneSteps: 2,
      batch: 8,
      samples: 20,
      sampleSteps: 2,
      guidances: "1.5",
      classifierSteps: 2,
      equal: "images",
      out,
      work,
    };
    const { result } = await perform("reproduce", options);
    expect(result.metrics!.criteria).toBe(8);
    await expect(perform("reproduce", { ...options, variants: "umd,vae" })).rejects.toThrow(
      /unknown variant "vae"; known are UMD, DiT/,
    );
    await expect(perform("reproduce", { ...options, guidances: "1;2" })).rejects.toThrow(/such as 1,2/);
    const text = await readFile(join(out, "equal-images.md"), "utf8");
    expect(text).toContain("FID-like, w 1.5 |");
    expect(text).not.toContain("w 2");
    for (const { name } of VARIANTS) expect(text).toContain(`| ${name} |`);
    expect(text).toContain("| raw pixels |");
    expect(text).toContain("--variants UMD,DiT,MaskDiT,MAE,MAE-adaLN --seeds 1 --steps 2 --tune-steps 2");
    const { runs } = JSON.parse(await readFile(join(out, "equal-images.json"), "utf8"));
    expect(runs).toHaveLength(5);
  });

  it("an experiment does nothing twice", async () => {
    const options = {
      train: shapes10({ seed: 1, count: 1500, size: 16 }) as Labelled,
      test: shapes10({ seed: 1, count: 50, size: 16, first: 5000 }) as Labelled,
      base: PRESETS.smoke,
      variants: VARIANTS.slice(0, 1),
      seeds: [0],
      steps: 2,
      batch: 8,
      learningRate: 1e-3,
      tuneSteps: 0,
      samples: 20,
      sampleSteps: 2,
      guidances: [1],
      classifierSteps: 1,
      equal: "images" as const,
      work: join(folder, "twice"),
      threads: 1,
    };
    const watched = async (): Promise<[ExperimentResult, string[]]> => {
      const run = runExperiment(options);
      const notes: string[] = [];
      for (;;) {
        const { done, value } = await run.next();
        if (done) return [value, notes];
        notes.push(value.note ?? "");
      }
    };
    const [[first, trained], [second, loaded]] = [await watched(), await watched()];
    expect(trained.some((note) => note.startsWith("loss"))).toBe(true);
    expect(loaded.some((note) => note.startsWith("loss"))).toBe(false);
    expect(second.runs[0]!.best).toEqual(first.runs[0]!.best);
  });

  it("reproduce says beforehand what is too little", async () => {
    const little = { train: 1000, test: 100, size: 16, preset: "smoke", out: folder, work: folder };
    await expect(perform("reproduce", little)).rejects.toThrow(
      /100 shots of each class are needed, "\w+" has \d+/,
    );
    await expect(perform("reproduce", { ...little, train: 1500 })).rejects.toThrow(
      /2000 samples .* there are 100/,
    );
  });

  it("at equal arithmetic the cheaper methods take more steps", () => {
    const pictures = shapes10({ seed: 0, count: 1 });
    const options = { steps: 1000, equal: "flops", train: pictures, base: PRESETS.mini } as never;
    const [umdSteps, dit, maskdit, mae] = VARIANTS.map((variant) => stepsFor(options, variant)) as [
      number,
      number,
      number,
      number,
    ];
    expect(dit).toBe(1000);
    expect(maskdit).toBeGreaterThan(1100);
    expect(umdSteps).toBeGreaterThan(1400);
    expect(mae).toBeGreaterThan(umdSteps);
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
    await expect(open(join(folder, "nowhere"), "train")).rejects.toThrow(/cannot be read as a folder/);
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

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  captionSplit,
  dataset,
  drawShapeScene,
  mirrorScene,
  openShapes,
  renderShapes,
} from "../../src/data/index.ts";
import { captionAgreement } from "../../src/metrics/index.ts";
import { parameters } from "../../src/nn/index.ts";
import {
  encodePrompts,
  loadPipelineComponents,
  planPictures,
  savePipeline,
} from "../../src/pipelines/index.ts";
import {
  type CaptionedPicture,
  drawPrompts,
  newPipeline,
  SHAPES_TEXT,
  type TextToPictureSettings,
  textToPictureBatches,
  trainTextToPicture,
} from "../../src/training/index.ts";
import { drained } from "../../src/work.ts";

const TINY = { ...SHAPES_TEXT, size: 16, channels: [8, 16], text: { width: 16, layers: 1 }, steps: 3 };
const CAPTIONS = ["a red one", "a blue one"];
const settings: TextToPictureSettings = {
  ...{ steps: 12, batch: 4, learningRate: 3e-3, warmup: 1, schedule: "constant", clip: 1, seed: 0 },
  ...{ dropCaptions: 0.1, ema: 0.5, weightDecay: 0 },
};
/** Red or blue all over. */
const source = dataset(8, (i): CaptionedPicture => {
  const data = new Uint8Array(16 * 16 * 3);
  for (let p = i % 2 ? 2 : 0; p < data.length; p += 3) data[p] = 255;
  return { image: { width: 16, height: 16, channels: 3, data }, caption: CAPTIONS[i % 2]! };
});

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "text-to-picture-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const train = (options: Partial<TextToPictureSettings> = {}, more = {}) =>
  drained(
    trainTextToPicture({
      ...{
        stage: "test",
        pipeline: newPipeline(TINY, CAPTIONS),
        source,
        settings: { ...settings, ...options },
        threads: 1,
      },
      ...more,
    }),
  );
const weightsOf = async (pipeline: Awaited<ReturnType<typeof train>>) =>
  Promise.all(
    [...parameters(pipeline.unet!.model).values()].map(async (t) => [...(await t.data())].map(Number)),
  );

describe("a text-to-picture model from nothing", () => {
  it("goes on bit for bit where it was stopped, and is a pipeline like any other when it is saved", async () => {
    const whole = await train();
    const controller = new AbortController();
    const run = join(folder, "run");
    const stopped = trainTextToPicture({
      ...{ stage: "test", pipeline: newPipeline(TINY, CAPTIONS), source, settings, threads: 1, folder: run },
      signal: controller.signal,
    });
    await expect(
      drained(stopped, (event) => {
        if (event.type === "progress" && event.done === 5) controller.abort();
      }),
    ).rejects.toThrow(/stopped/);
    const resumed = await train({}, { folder: run });
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));

    const path = join(folder, "model");
    await savePipeline(path, whole, { dtype: "f16" });
    const loaded = await loadPipelineComponents(path);
    expect([loaded.kind, loaded.className, loaded.vae?.className]).toEqual([
      "sd",
      "StableDiffusionPipeline",
      "SpaceToDepth",
    ]);
    const { settings: planned } = planPictures(loaded, { prompt: "a red one", seeds: [1] });
    expect(planned).toMatchObject({ width: 16, height: 16, steps: TINY.steps, guidance: TINY.guidance });
    const { warnings } = await encodePrompts(loaded, "a red dragon, (BLUE:1.2)", "castle");
    expect(warnings).toEqual(["words that the model has never seen in training: dragon, castle"]);
    const drawn = await drained(drawPrompts(loaded, CAPTIONS, { threads: 1 }));
    expect(drawn.shape).toEqual([2, 3, 16, 16]);
  });

  it("sees the caption of its picture, the empty one where it is left out", async () => {
    const pipeline = newPipeline(TINY, CAPTIONS);
    const idsFor = async (dropCaptions: number) => {
      const batch = await textToPictureBatches(pipeline, source, { ...settings, dropCaptions })(0);
      const [ids, pictures] = [await batch.ids!.data(), await batch.pictures.data()];
      const width = batch.ids!.shape[1]!;
      return Array.from({ length: 4 }, (_, i) => ({
        ids: Array.from(ids.slice(i * width, (i + 1) * width), Number),
        red: Number(pictures[i * 768]) > 0,
      }));
    };
    const kept = await idsFor(0);
    for (const { ids, red } of kept) expect(ids).toEqual(kept.find((one) => one.red === red)!.ids);
    expect(new Set(kept.map(({ ids }) => ids.join())).size).toBe(new Set(kept.map(({ red }) => red)).size);
    expect(new Set((await idsFor(1)).map(({ ids }) => ids.join())).size).toBe(1);
  });

  it("is unconditional without captions", async () => {
    const plain = newPipeline({ ...TINY, channels: [16, 16] }, undefined);
    expect([plain.kind, plain.textEncoders.length]).toEqual(["unconditional", 0]);
    const trained = await train({ steps: 2 }, { pipeline: plain });
    const path = join(folder, "plain");
    await savePipeline(path, trained);
    const loaded = await loadPipelineComponents(path);
    expect((await drained(drawPrompts(loaded, ["", ""], { threads: 1 }))).shape).toEqual([2, 3, 16, 16]);
  });

  it("refuses sizes that do not go together", () => {
    expect(() => newPipeline({ ...TINY, size: 18 }, CAPTIONS)).toThrow(/multiple of 4/);
    expect(() => newPipeline({ ...TINY, channels: [12, 16] }, CAPTIONS)).toThrow(/multiples of 8, got 12/);
  });
});

describe("the shape world for text to picture", () => {
  it("is mirrored with its joints: picture, classes and pose", () => {
    for (let i = 0; i < 6; i++) {
      const scene = drawShapeScene(3, i);
      const [plain, mirror] = [renderShapes(scene), renderShapes(mirrorScene(scene))];
      for (let at = 0; at < 1024; at++) {
        const other = 32 * Math.floor(at / 32) + 31 - (at % 32);
        expect(mirror.image[3 * at]).toBeCloseTo(plain.image[3 * other]!, 4);
        expect(mirror.pose[3 * at + 1]).toBeCloseTo(plain.pose[3 * other + 1]!, 4);
      }
      expect(mirror.caption).toBe(plain.caption);
    }
  });

  it("holds captions out in whole, in either order of their things", async () => {
    const [train, held] = (["train", "held-out"] as const).map((split) =>
      openShapes({ seed: 0, count: 60, split, mirror: 0.5 }),
    );
    for (let i = 0; i < 60; i++) {
      const [a, b] = [(await train!.get(i)).scene, (await held!.get(i)).scene];
      expect([captionSplit(a), captionSplit(b)]).toEqual(["train", "held-out"]);
      expect(captionSplit({ ...b, shapes: [...b.shapes].reverse() })).toBe("held-out");
    }
  });

  it("is judged thing by thing, in any order", () => {
    const scene = {
      ground: "teal",
      horizon: 16,
      shapes: [
        { name: "circle", colour: "red" },
        { name: "square", colour: "blue" },
      ],
    } as never;
    // Ground teal; near a red circle, far a blue square: the caption names them the other way round.
    const answers = (near: number, nearColour: number, far: number, farColour: number) => {
      const one = (n: number, k: number) => Array.from({ length: n }, (_, i) => (i === k ? 1 : 0));
      const probabilities = Float32Array.from([
        ...one(4, 0),
        ...one(4, near),
        ...one(6, nearColour),
        ...one(5, far),
        ...one(7, farColour),
      ]);
      return { probabilities, classes: 26, heads: [4, 4, 6, 5, 7], features: undefined as never };
    };
    expect(captionAgreement(answers(0, 0, 1, 2), [scene])).toMatchObject({
      all: 1,
      shapes: 1,
      colours: 1,
      right: [1],
    });
    expect(captionAgreement(answers(1, 0, 0, 2), [scene])).toMatchObject({ all: 0, shapes: 1, colours: 1 }); // colours swapped
    expect(captionAgreement(answers(0, 0, 4, 6), [scene])).toMatchObject({ all: 0, ground: 1, count: 0 }); // one thing missing
  });
});

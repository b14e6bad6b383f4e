/** A picture that a model was not made for gets a confident mask: it is said, and how much is marked. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  countObjects,
  type FloatPicture,
  pictureStatistics,
  setStatistics,
  unlike,
} from "../../../src/data/index.ts";
import { lesion } from "../../../src/data/world/lesions.ts";
import { decodePicture, encodePicture } from "../../../src/io/index.ts";
import { openModel } from "../../../src/systems/sdseg/actions.ts";
import { CHECKPOINTS, runOptions } from "../../../src/systems/sdseg/options.ts";
import { runAction } from "../../../src/systems/sdseg/run.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

const gray = (width: number, data: readonly number[]): FloatPicture => ({
  ...{ width, height: data.length / width, channels: 1 },
  data: Float32Array.from(data),
});

describe("statistics of pictures", () => {
  it("are the mean, the deviation, the skew, and the mean step between neighbours over the deviation", () => {
    const { mean, deviation, skew, roughness } = pictureStatistics(gray(4, [0, 0, 0, 4, 0, 0, 0, 4]));
    expect(mean).toBe(1);
    expect(deviation).toBeCloseTo(Math.sqrt(3), 6);
    expect(skew).toBeCloseTo(6 / 3 ** 1.5, 6);
    expect(roughness).toBeCloseTo(4 / 3 / Math.sqrt(3), 6);
    expect(pictureStatistics(gray(2, [3, 3]))).toEqual({ mean: 3, deviation: 0, skew: 0, roughness: 0 });
  });

  it("tell a picture that lies far outside of a set's, and how", () => {
    const set = setStatistics([gray(4, [0, 0, 0, 1]), gray(4, [0, 0, 1, 0])].map(pictureStatistics));
    expect(unlike(pictureStatistics(gray(4, [0, 1, 0, 0])), set)).toEqual([]);
    expect(unlike(pictureStatistics(gray(4, [1, 1, 1, 0])), set)).toEqual([
      "brighter",
      "darker where those are bright",
    ]);
  });
});

describe("objects of a mask", () => {
  it("are pieces that touch, at a corner too, not across the edge of the picture", () => {
    const map = [1, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 3, 1, 0, 0, 3];
    expect(countObjects(map, 4)).toBe(4);
    expect(countObjects(new Uint8Array(16), 4)).toBe(0);
  });
});

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-unlike-"));
  const { image } = lesion(900_000, 1);
  const { width, height } = image;
  const data = Uint8Array.from(image.data, (v) => Math.round(255 * Math.max(0, Math.min(1, v))));
  await writeFile(join(folder, "lesion.png"), await encodePicture({ width, height, channels: 1, data }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function said(model: string): Promise<{ warnings: string[]; messages: string[] }> {
  const events: WorkEvent[] = [];
  const image = join(folder, "lesion.png");
  await drained(runAction(runOptions.parse({ image, model, out: join(folder, model) }), {}), (event) =>
    events.push(event),
  );
  const texts = (type: "warning" | "message") =>
    events.flatMap((event) => (event.type === type ? [event.text] : []));
  return { warnings: texts("warning"), messages: texts("message") };
}

describe("a segmentation", () => {
  it("warns of a picture that is unlike what its model was trained on", async () => {
    expect((await said("nuclei")).warnings).toEqual([
      expect.stringMatching(/^lesion\.png: unlike what this model was trained on \(.*\); look at its mask/),
    ]);
  });

  it("of a picture like those says how much is marked, and warns of nothing", async () => {
    const { warnings, messages } = await said("lesions");
    expect(warnings).toEqual([]);
    expect(messages).toEqual([
      expect.stringMatching(/^lesion\.png: \d+\.\d % of the pixels are marked, in \d+ pieces?$/),
    ]);
  });

  it("by any model that ships can be told from one of other pictures", async () => {
    for (const { name } of CHECKPOINTS) expect((await openModel(name)).notes.seen, name).toBeDefined();
  });
});

it("an overlay lies over the picture in its own colours, though the model sees it gray", async () => {
  const data = Uint8Array.from({ length: 3 * 64 * 64 }, (_, i) => (i % 3 === 0 ? 200 : 20)); // red
  const image = join(folder, "red.png");
  await writeFile(image, await encodePicture({ width: 64, height: 64, channels: 3, data }));
  const out = join(folder, "red");
  await drained(runAction(runOptions.parse({ image, model: "lesions", out }), {}));
  const { data: over } = await decodePicture(await readFile(join(out, "red-overlay.png")));
  const { data: mask } = await decodePicture(await readFile(join(out, "red-mask.png")), { colour: "gray" });
  const clear = mask.indexOf(0);
  expect(clear).toBeGreaterThanOrEqual(0);
  expect([...over.slice(3 * clear, 3 * clear + 3)]).toEqual([200, 20, 20]);
});

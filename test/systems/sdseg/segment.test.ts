import { afterAll, describe, expect, it } from "vitest";
import { AbortError, ArgumentError, NonFiniteError, ShapeError } from "../../../src/errors.ts";
import { mapParameters } from "../../../src/nn/index.ts";
import { createSDSeg, PRESETS, type SDSeg, withParts } from "../../../src/systems/sdseg/model.ts";
import { MODES } from "../../../src/systems/sdseg/options.ts";
import {
  openSegmenter,
  type SegmentOptions,
  type StepsDone,
  type TilingOptions,
} from "../../../src/systems/sdseg/use.ts";
import { fillNormal, fromHost, type Tensor } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";

const picture = (n: number, h: number, w: number, channels = 1): Tensor => {
  const values = fillNormal(new Float32Array(n * channels * h * w), { seed: 5 });
  return fromHost(
    "f32",
    [n, channels, h, w],
    values.map((v) => Math.max(-1, Math.min(1, 0.4 * v))),
  );
};

/** A small model that has not learned, with outputs that are not zero. */
function busyModel(classes = 2): SDSeg {
  const model = createSDSeg({ ...PRESETS.smoke, classes }, 1);
  let k = 0;
  const network = mapParameters(model.network, (t) => {
    const noise = fillNormal(new Float32Array(t.size), { seed: 50 + k++ });
    return t.add(fromHost("f32", t.shape, noise).mul(0.05));
  });
  return withParts(model, { network, scaleFactor: 0.5 });
}

const segmenter = openSegmenter(busyModel());
const several = openSegmenter(busyModel(3));
afterAll(async () => {
  await segmenter.close();
  await several.close();
});

describe("segmenting", () => {
  it("gives the same for the same seed, alone and in a batch, and something else for another", async () => {
    const both = picture(2, 16, 16);
    const values = (await both.data()) as Float32Array;
    const second = fromHost("f32", [1, 1, 16, 16], values.slice(256));
    const together = await segmenter.segment(both, { seed: 3 });
    const again = await segmenter.segment(both, { seed: 3 });
    const alone = await segmenter.segment(second, { seed: 3 });
    expect(again.probability).toEqual(together.probability);
    alone.probability.forEach((p, i) => {
      expect(p).toBeCloseTo(together.probability[256 + i]!, 5);
    });
    expect((await segmenter.segment(both, { seed: 4 })).probability).not.toEqual(together.probability);
    expect(together.calls).toBe(1);
    expect(together.mask).toEqual(Uint8Array.from(together.probability, (p) => (p > 0.5 ? 1 : 0)));
    expect(together.latent.shape).toEqual([2, 4, 4, 4]);
  });

  it.each(MODES)("runs %s, deterministic per seed and finite", async (mode) => {
    const image = picture(1, 16, 16);
    const options = { mode, steps: 4, seed: 2 };
    const one = await segmenter.segment(image, options);
    expect(one.probability.every((p) => p >= 0 && p <= 1)).toBe(true);
    expect((await segmenter.segment(image, options)).probability).toEqual(one.probability);
    expect(one.calls).toBe(mode === "direct" ? 1 : mode === "plms" ? 5 : 4);
  });

  it("is one trailing step of DDIM without noise, up to where that ends", async () => {
    const image = picture(1, 16, 16);
    const direct = await segmenter.segment(image);
    const ddim = await segmenter.segment(image, { mode: "ddim", steps: 1, spacing: "trailing", eta: 0 });
    ddim.probability.forEach((p, i) => {
      expect(p).toBeCloseTo(direct.probability[i]!, 3);
    });
  });

  it("averages the probabilities of an ensemble", async () => {
    const image = picture(1, 16, 16);
    const three = await segmenter.segment(image, { ensemble: 3 });
    expect(three.calls).toBe(3);
    expect(three.probability).not.toEqual((await segmenter.segment(image)).probability);
  });

  it("extends pictures of any size on request, down to one pixel, and tiles large ones", async () => {
    for (const [h, w] of [
      [1, 1],
      [7, 19],
      [16, 9],
    ] as const) {
      const { mask, probability } = await segmenter.segment(picture(1, h, w), { pad: true });
      expect([mask.length, probability.length]).toEqual([h * w, h * w]);
    }
    const run = segmenter.segmentTiled(picture(1, 50, 70), { tile: 32 });
    const seen: number[] = [];
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        expect(value.mask.length).toBe(50 * 70);
        expect(value.calls).toBe(seen.length);
        break;
      }
      seen.push(value.done);
    }
    expect(seen.length).toBeGreaterThan(3);
  });

  it("shows the map in the making when it is asked for, the last one as it will be", async () => {
    const guesses = async (options: SegmentOptions) => {
      const seen: StepsDone[] = [];
      const run = segmenter.segmentTiled(picture(1, 16, 16), options);
      const { probability } = await drained(run, (event) => seen.push(event));
      return { maps: seen.flatMap(({ guess }) => guess ?? []), probability };
    };
    const { maps, probability } = await guesses({ mode: "ddim", steps: 4, guessEvery: 2 });
    expect(maps.map(({ width, height }) => [width, height])).toEqual([
      [16, 16],
      [16, 16],
    ]);
    expect(maps[1]!.data).toEqual(probability);
    expect(maps[0]!.data).not.toEqual(probability);
    expect((await guesses({ mode: "ddim", steps: 4 })).maps).toEqual([]);
    expect((await guesses({ guessEvery: 1 })).maps).toEqual([]);
  });

  it("tells every step of every sample of every tile, and how many there will be", async () => {
    const told = async (size: number, options: SegmentOptions & TilingOptions) => {
      const seen: StepsDone[] = [];
      await drained(segmenter.segmentTiled(picture(1, size, size), options), (event) => seen.push(event));
      expect(seen.map(({ done }) => done)).toEqual(seen.map((_, i) => i + 1));
      expect(new Set(seen.map(({ total }) => total))).toEqual(new Set([seen.length]));
      return seen.length;
    };
    expect(await told(16, {})).toBe(1);
    expect(await told(16, { mode: "ddim", steps: 4, ensemble: 3 })).toBe(12);
    expect(await told(16, { mode: "plms", steps: 4, spacing: "trailing" })).toBe(4);
    expect(await told(50, { tile: 32, overlap: 8, mode: "ddim", steps: 2 })).toBe(8);
  });

  it("takes gray and colour, whatever the model sees", async () => {
    expect((await segmenter.segment(picture(1, 16, 16, 3))).mask.length).toBe(256);
  });

  it("tells several classes apart, each with a call of its own", async () => {
    const image = picture(1, 16, 16);
    const { mask, calls, probability } = await several.segment(image);
    expect(calls).toBe(3);
    expect(mask.every((label) => label < 3)).toBe(true);
    expect(probability.every((p) => p >= 0 && p <= 1)).toBe(true);
    const some = await several.segment(image, { classes: [0, 2] });
    expect(some.mask.includes(1)).toBe(false);
  });

  it("gives nothing for nothing", async () => {
    const { mask, probability } = await segmenter.segment(
      fromHost("f32", [0, 1, 16, 16], new Float32Array(0)),
    );
    expect([mask.length, probability.length]).toEqual([0, 0]);
  });
});

describe("what cannot be segmented", () => {
  const spoiled = (at: number, value: number): Tensor => {
    const values = new Float32Array(256);
    values[at] = value;
    return fromHost("f32", [1, 1, 16, 16], values);
  };
  it.each([
    [
      "a size that is no multiple of the stride",
      () => segmenter.segment(picture(1, 15, 16)),
      ShapeError,
      /8.*15 x 16/,
    ],
    ["four channels", () => segmenter.segment(picture(1, 16, 16, 4)), ShapeError, /\[1, 4, 16, 16\]/],
    ["NaN", () => segmenter.segment(spoiled(7, Number.NaN)), NonFiniteError, /NaN at element 7/],
    ["infinity", () => segmenter.segment(spoiled(0, Number.POSITIVE_INFINITY)), NonFiniteError, /Infinity/],
    ["bytes", () => segmenter.segment(spoiled(3, 255)), ArgumentError, /255 at element 3; is it in 0 to 255/],
    ["no steps", () => segmenter.segment(picture(1, 16, 16), { mode: "ddim", steps: 0 }), ArgumentError, /0/],
    [
      "too many steps",
      () => segmenter.segment(picture(1, 16, 16), { mode: "ddim", steps: 1001 }),
      ArgumentError,
      /1001/,
    ],
    [
      "an empty ensemble",
      () => segmenter.segment(picture(1, 16, 16), { ensemble: 0 }),
      ArgumentError,
      /ensemble/,
    ],
    [
      "classes of a binary model",
      () => segmenter.segment(picture(1, 16, 16), { classes: [1] }),
      ArgumentError,
      /binary/,
    ],
    [
      "a class that is no list",
      () => several.segment(picture(1, 16, 16), { classes: 2 as never }),
      ArgumentError,
      /list of class numbers, got 2/,
    ],
    [
      "an unknown class",
      () => several.segment(picture(1, 16, 16), { classes: [3] }),
      ArgumentError,
      /class 3/,
    ],
    [
      "work that was called off",
      () => segmenter.segment(picture(1, 16, 16), { signal: AbortSignal.abort() }),
      AbortError,
      /./,
    ],
  ] as const)("%s", async (_, run, kind, message) => {
    await expect(run()).rejects.toThrow(kind);
    await expect(run()).rejects.toThrow(message);
  });
});

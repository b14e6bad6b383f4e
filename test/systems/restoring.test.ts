/** Pictures of any size, depth and kind of colour are restored; tiles give what the whole gives. */
import { afterAll, describe, expect, it } from "vitest";
import { ArgumentError, NonFiniteError } from "../../src/errors.ts";
import type { Picture } from "../../src/io/index.ts";
import { DnCNN, RestorationUNet, type Restorer } from "../../src/networks/index.ts";
import { createRng } from "../../src/nn/index.ts";
import { openRestoring, type Restoring } from "../../src/systems/restoring.ts";
import { createNoise, type Tensor, tensor } from "../../src/tensor/index.ts";
import { drained } from "../../src/work.ts";

const opened: Restoring[] = [];
const open = (net: Restorer): Restoring => {
  const one = openRestoring(net, { threads: 1 });
  opened.push(one);
  return one;
};
afterAll(() => Promise.all(opened.map((one) => one.close())));

const picture = (...shape: [number, number, number, number]): Tensor =>
  tensor(
    createNoise("philox", 1)
      .normal(shape, { sample: 0, purpose: "picture", step: 0 })
      .map((v) => 0.5 + 0.2 * v),
    { shape },
  );

/** Largest difference between two results. */
async function gap(a: Tensor, b: Tensor): Promise<number> {
  expect(a.shape).toEqual(b.shape);
  return await a.sub(b).abs().max().item();
}

const unet = open(new RestorationUNet({ base: 2, depth: 3 }, createRng(2)));
const gray = open(new DnCNN({ channels: 1, width: 4, depth: 5 }, createRng(3)));

describe("tiles", () => {
  it.each([
    ["a U-Net", unet, [1, 3, 201, 173], 100],
    ["a stack of convolutions", gray, [1, 1, 67, 90], 40],
  ] as [string, Restoring, [number, number, number, number], number][])(
    "of %s give what the whole gives, at the borders too",
    async (_, restoring, shape, tile) => {
      const y = picture(...shape);
      const whole = await drained(restoring.restoreTensor(y));
      let tiles = 0;
      const tiled = await drained(
        restoring.restoreTensor(y, { tile, overlap: restoring === gray ? 26 : 88 }),
        () => tiles++,
      );
      expect(tiles).toBeGreaterThan(3);
      expect(await gap(whole, tiled)).toBeLessThan(1e-5);
    },
  );

  it("with little overlap make seams: the overlap is what makes them equal", async () => {
    const y = picture(1, 1, 40, 80);
    const whole = await drained(gray.restoreTensor(y));
    const tiled = await drained(gray.restoreTensor(y, { tile: 40, overlap: 2 }));
    expect(await gap(whole, tiled)).toBeGreaterThan(1e-4);
  });

  it("that are smaller than their overlap are refused", async () => {
    await expect(drained(unet.restoreTensor(picture(1, 3, 64, 64), { tile: 32 }))).rejects.toThrow(
      ArgumentError,
    );
  });

  it("of a network with aligned corners differ from the whole, which its documentation says", async () => {
    const aligned = open(new RestorationUNet({ base: 2, depth: 3, alignCorners: true }, createRng(2)));
    const y = picture(1, 3, 160, 64);
    const whole = await drained(aligned.restoreTensor(y));
    const tiled = await drained(aligned.restoreTensor(y, { tile: 100, overlap: 88 }));
    expect(await gap(whole, tiled)).toBeGreaterThan(1e-4);
  });
});

/** A network that adds a fifth: 51 of 255, 13,107 of 65,535. */
const brighter = (channels: number): Restorer =>
  Object.assign(new DnCNN({ channels, width: 1, depth: 1 }, createRng(0)), {
    restore: (y: Tensor) => y.add(0.2),
  });

const of = (channels: number, data: Picture["data"], width = 2): Picture => ({
  width,
  height: data.length / channels / width,
  channels,
  data,
});

describe("pictures", () => {
  const colours = open(brighter(3));
  const restored = (given: Picture, by = colours) => drained(by.restore(given));

  it("keep size, depth and channels: 8 and 16 bits, floats, gray, alpha", async () => {
    expect((await restored(of(3, Uint8Array.of(0, 100, 255, 1, 2, 3)))).data).toEqual(
      Uint8Array.of(51, 151, 255, 52, 53, 54),
    );
    expect((await restored(of(1, Uint16Array.of(0, 1000, 60_000, 65_535)))).data).toEqual(
      Uint16Array.of(13_107, 14_107, 65_535, 65_535),
    );
    expect((await restored(of(2, Uint8Array.of(10, 77, 20, 99)))).data).toEqual(
      Uint8Array.of(61, 77, 71, 99),
    );
    expect((await restored(of(4, Uint8Array.of(1, 2, 3, 9, 4, 5, 6, 200)))).data).toEqual(
      Uint8Array.of(52, 53, 54, 9, 55, 56, 57, 200),
    );
    const float = await restored(of(1, Float32Array.of(0, 0.5), 1));
    expect([...float.data]).toEqual([expect.closeTo(0.2, 6), expect.closeTo(0.7, 6)]);
  });

  it("of odd sizes come back in their size, down to one pixel", async () => {
    for (const [width, height] of [
      [1, 1],
      [5, 3],
      [7, 10],
    ] as const) {
      const small = { width, height, channels: 3, data: new Uint8Array(width * height * 3).fill(50) };
      const got = await drained(unet.restore(small));
      expect([got.width, got.height, got.data.length]).toEqual([width, height, width * height * 3]);
    }
  });

  it.each([
    [
      "colours through a network of gray pictures",
      gray,
      of(3, new Uint8Array(6)),
      ArgumentError,
      /1 channel, got 3/,
    ],
    ["values that are none", unet, of(1, Float32Array.of(0, Number.NaN)), NonFiniteError, /NaN at element 1/],
  ] as const)("with %s are refused", async (_, restoring, given, error, message) => {
    const run = drained(restoring.restore(given));
    await expect(run).rejects.toThrow(error);
    await expect(drained(restoring.restore(given))).rejects.toThrow(message);
  });
});

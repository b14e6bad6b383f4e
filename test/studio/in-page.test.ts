/** Pictures of any size through a model in the page: tiles of one size, blended; colours come back with their alpha. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { inTiles, pictureOf, planesOf } from "../../src/studio/page/lib/in-page.ts";

class Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
  constructor(width: number, height: number) {
    [this.width, this.height] = [width, height];
    this.data = new Uint8ClampedArray(4 * width * height);
  }
}
beforeAll(() => vi.stubGlobal("ImageData", Pixels));
afterAll(() => vi.unstubAllGlobals());

/** A picture whose every byte says where it is. */
function picture(width: number, height: number): ImageData {
  const pixels = new ImageData(width, height);
  for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = (i * 7) % 251;
  return pixels;
}

describe("a model that gives a picture", () => {
  test.each([
    [8, 8],
    [5, 3],
    [21, 13],
  ])("keeps a picture of %i x %i that it leaves alone, alpha included", async (width, height) => {
    const given = picture(width, height);
    let calls = 0;
    const model = {
      size: 8,
      run: async (pixels: ImageData) => {
        calls++;
        expect([pixels.width, pixels.height]).toEqual([8, 8]);
        return planesOf(pixels);
      },
    };
    const told: number[] = [];
    const planes = await inTiles(model, given, 3, (done) => told.push(done));
    expect(pictureOf(planes, given).data).toEqual(given.data);
    expect(told.length).toBe(calls);
  });

  test("of one plane gives one value for each pixel", async () => {
    const given = picture(12, 9);
    const red = (pixels: ImageData) => planesOf(pixels).slice(0, 64);
    const plane = await inTiles({ size: 8, run: async (pixels) => red(pixels) }, given, 1);
    expect(plane.length).toBe(108);
    for (const i of [0, 50, 107]) expect(plane[i]! * 255).toBeCloseTo(given.data[4 * i]!, 3);
  });
});

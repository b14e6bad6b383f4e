import { describe, expect, it } from "vitest";
import { createDraw, randomFlip, shapes10 } from "../../src/data/index.ts";
import { augmentedRows } from "../../src/data/picture-set.ts";

describe("augmented rows", () => {
  const pictures = shapes10({ seed: 1, count: 6, size: 8 });
  const drawOf = (i: number) => createDraw(3, i, 0);

  it("mirror every plane of a picture, and leave the rows that were given as they are", async () => {
    const before = pictures.values.slice();
    const mirrored = await augmentedRows(pictures.values, pictures, randomFlip({ p: 1 }), drawOf);
    expect(pictures.values).toEqual(before);
    mirrored.forEach((value, at) => {
      expect(value).toBe(before[at - (at % 8) + 7 - (at % 8)]);
    });
  });

  it("have draws of their own", async () => {
    const some = await augmentedRows(pictures.values, pictures, randomFlip(), drawOf);
    const plane = 3 * 64;
    const changed = [0, 1, 2, 3, 4, 5].filter((i) => some[i * plane] !== pictures.values[i * plane]);
    expect(changed.length).toBeGreaterThan(0);
    expect(changed.length).toBeLessThan(6);
  });
});

import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createDraw, overPictures, randomFlip, shapes10 } from "../../src/data/index.ts";
import { augmentedRows, classMeans, type Labelled, readFashion } from "../../src/data/picture-set.ts";
import { AbortError } from "../../src/errors.ts";
import { fromHost, type Tensor } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

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

describe("a function over pictures", () => {
  const pictures = shapes10({ seed: 1, count: 7, size: 8 });

  it("gives the same in batches as at once, with what each picture's number says", async () => {
    const run = (batch: number) =>
      overPictures(
        pictures,
        (x, { shift }: { shift: Tensor }) => ({ sum: x.sum([1, 2, 3]).add(shift), x: x.mul(2) }),
        {
          batch,
          inputs: (first, n) => ({
            shift: fromHost(
              "f32",
              [n],
              Float32Array.from({ length: n }, (_, i) => first + i),
            ),
          }),
          threads: 1,
        },
      );
    const [whole, parts] = [await run(7), await run(3)];
    expect(whole.x).toEqual({ shape: [7, 3, 8, 8], values: pictures.values.map((v) => 2 * v) });
    expect(parts.x).toEqual(whole.x);
    expect(parts.sum.shape).toEqual([7]);
    parts.sum.values.forEach((v, i) => {
      const own = pictures.values.subarray(i * 192, (i + 1) * 192);
      expect(v).toBeCloseTo(own.reduce((a, b) => a + b, 0) + i, 3);
    });
  });

  it("stops with its signal", async () => {
    const run = overPictures(pictures, (x) => ({ x }), { signal: AbortSignal.abort() });
    await expect(run).rejects.toThrow(AbortError);
  });
});

it("class means are the mean picture of each label, over and over", () => {
  const pictures = shapes10({ seed: 1, count: 60, size: 8 }) as Labelled;
  const means = classMeans(pictures, 12);
  expect([...means.labels!]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
  const own = [...pictures.labels].flatMap((label, i) =>
    label === 1 ? [pictures.values[i * 192 + 5]!] : [],
  );
  const mean = own.reduce((a, b) => a + b, 0) / own.length;
  expect(means.values[192 + 5]).toBeCloseTo(mean, 5);
  expect(means.values[11 * 192 + 5]).toBe(means.values[192 + 5]);
});

describe("a set in the layout of MNIST", () => {
  const at = useTemporaryFolder();
  const rules = { size: 2, channels: 1 };

  it("is read with and without compression, and says what it misses and what is there", async () => {
    await expect(readFashion(at("none"), "test", rules)).rejects.toThrow(/none: there is no such folder/);
    writeFileSync(at("cat.png"), "");
    await expect(readFashion(at(), "test", rules)).rejects.toThrow(
      /expected t10k-images-idx3-ubyte\.gz, .*; found cat\.png/,
    );
    writeFileSync(
      at("t10k-images-idx3-ubyte"),
      Buffer.from([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 255, 0, 255]),
    );
    writeFileSync(at("t10k-labels-idx1-ubyte"), Buffer.from([0, 0, 8, 1, 0, 0, 0, 1, 7]));
    const { count, values, labels } = await readFashion(at(), "test", rules);
    expect([count, [...values], [...labels!]]).toEqual([1, [-1, 1, -1, 1], [7]]);
  });
});

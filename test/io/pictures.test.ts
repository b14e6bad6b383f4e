import { writeFileSync } from "node:fs";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { FormatError, ShapeError } from "../../src/errors.ts";
import { encodePng, pictureSize, readMask, readPicture, toPixels } from "../../src/io/index.ts";
import { zeros } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const path = useTemporaryFolder();
const SIZE = { width: 7, height: 5 };
const pixels = Uint8Array.from({ length: 7 * 5 * 3 }, (_, i) => (i * 53) % 256);

describe("pictures as tensors", () => {
  test("pixels come back through PNG and [-1, 1]", async () => {
    writeFileSync(path("a.png"), await encodePng(pixels, SIZE));
    const x = await readPicture(path("a.png"));
    expect(x.shape).toEqual([1, 3, 5, 7]);
    expect(Math.max(...(await x.toArray()).map(Math.abs))).toBeLessThanOrEqual(1);
    expect(await toPixels(x)).toEqual(pixels);
    expect(await pictureSize(path("a.png"))).toEqual(SIZE);
    writeFileSync(path("large.png"), await encodePng(pixels, SIZE, { width: 70, height: 50 }));
    expect(await pictureSize(path("large.png"))).toEqual({ width: 70, height: 50 });
  });

  test("gray, palette, transparent and rotated pictures", async () => {
    await sharp(pixels.slice(0, 35), { raw: { ...SIZE, channels: 1 } })
      .png()
      .toFile(path("gray.png"));
    const gray = await toPixels(await readPicture(path("gray.png")));
    expect(gray).toEqual(Uint8Array.from({ length: 105 }, (_, i) => pixels[Math.floor(i / 3)]!));
    const rgba = Uint8Array.from({ length: 35 * 4 }, (_, i) => (i % 4 === 3 ? 0 : 200));
    await sharp(rgba, { raw: { ...SIZE, channels: 4 } })
      .png()
      .toFile(path("clear.png"));
    expect((await toPixels(await readPicture(path("clear.png")))).every((v) => v === 200)).toBe(true);
    await sharp(pixels, { raw: { ...SIZE, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toFile(path("turned.jpg"));
    expect(await pictureSize(path("turned.jpg"))).toEqual({ width: 5, height: 7 });
    expect((await readPicture(path("turned.jpg"))).shape).toEqual([1, 3, 7, 5]);
  });

  test("a mask is the brightness, and both are scaled to a size", async () => {
    const red = Uint8Array.from({ length: 105 }, (_, i) => (i % 3 === 0 ? 255 : 0));
    writeFileSync(path("red.png"), await encodePng(red, SIZE));
    const mask = await readMask(path("red.png"), { size: { width: 16, height: 8 } });
    expect(mask.shape).toEqual([1, 1, 8, 16]);
    for (const v of await mask.toArray()) expect(v).toBeCloseTo(76 / 255, 6);
    expect((await readPicture(path("red.png"), { size: { width: 16, height: 8 } })).shape).toEqual([
      1, 3, 8, 16,
    ]);
  });

  test("what is no picture is refused by name", async () => {
    writeFileSync(path("b.png"), "version https://git-lfs.github.com/spec/v1");
    await expect(readPicture(path("b.png"))).rejects.toThrow(FormatError);
    await expect(readMask(path("b.png"))).rejects.toThrow(/b\.png: not the file.*git-LFS pointer/);
    await expect(pictureSize(path("b.png"))).rejects.toThrow(FormatError);
    await expect(readPicture(path("none.png"))).rejects.toThrow("none.png: there is no such file");
    await expect(toPixels(zeros([1, 4, 2, 2]))).rejects.toThrow(ShapeError);
  });
});

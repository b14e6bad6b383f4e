/** Pictures of every depth, byte order and orientation, as instruments and programs write them. */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { crc32, deflateSync } from "node:zlib";
import fc from "fast-check";
import sharp from "sharp";
import { describe, expect, it, test } from "vitest";
import { readPictureFile, readTiffStack } from "../../src/data/index.ts";
import { FormatError } from "../../src/errors.ts";
import { decodePicture, encodePicture, type Picture } from "../../src/io/index.ts";
import { upright } from "../../src/io/picture-file.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";
import { TIFF_TYPES, type TiffType, tiffBytes } from "./tiff-writer.ts";

const file = useTemporaryFolder();
const fixture = (path: string): Promise<Buffer> =>
  readFile(fileURLToPath(new URL(`../fixtures/files/${path}`, import.meta.url)));

/** Whole numbers that every type holds, and some that only it holds. */
const VALUES: Record<TiffType, readonly number[]> = {
  u8: [0, 1, 128, 255],
  i8: [-128, -1, 0, 127],
  u16: [0, 1, 4095, 65535],
  i16: [-32768, -1000, 0, 32767],
  u32: [0, 399, 65536, 2 ** 24],
  i32: [-(2 ** 24), -1, 399, 2 ** 24],
  f16: [-1024, -0.5, 1, 1.5],
  f32: [-1000.5, 0, 0.25, 1e10],
  f64: [-1000.5, 0, 399, 2 ** 20],
};

/** Where EXIF's and TIFF's orientation puts the stored pixel (x, y) of a w x h picture, from the standard's words. */
const PLACES: Record<number, (x: number, y: number, w: number, h: number) => [x: number, y: number]> = {
  1: (x, y) => [x, y],
  2: (x, y, w) => [w - 1 - x, y], // row 0 at the top, column 0 at the right
  3: (x, y, w, h) => [w - 1 - x, h - 1 - y], // bottom, right
  4: (x, y, _, h) => [x, h - 1 - y], // bottom, left
  5: (x, y) => [y, x], // left, top
  6: (x, y, _, h) => [h - 1 - y, x], // right, top
  7: (x, y, w, h) => [h - 1 - y, w - 1 - x], // right, bottom
  8: (x, y, w) => [y, w - 1 - x], // left, bottom
};

function placed(values: readonly number[], [w, h]: [number, number], orientation: number): number[] {
  const width = orientation > 4 ? h : w;
  const out: number[] = [];
  for (const [i, value] of values.entries()) {
    const [x, y] = PLACES[orientation]!(i % w, Math.floor(i / w), w, h);
    out[y * width + x] = value;
  }
  return out;
}

describe("TIFF files", () => {
  it("of every type, byte order, size, and orientation give the values that were written, upright", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...TIFF_TYPES),
        fc.boolean(),
        fc.integer({ min: 1, max: 8 }),
        fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 })),
        fc.array(fc.nat(), { minLength: 147, maxLength: 147 }),
        fc.constantFrom(1, 3),
        async (type, littleEndian, orientation, [width, height], picks, channels) => {
          const values = picks.slice(0, width * height * channels).map((pick) => VALUES[type][pick % 4]!);
          const bytes = tiffBytes({ width, height, channels, type, values, littleEndian, orientation });
          const path = file("a.tif");
          await writeFile(path, bytes);
          const turned = orientation > 4;
          const planes = Array.from({ length: channels }, (_, c) =>
            placed(
              values.filter((_, i) => i % channels === c),
              [width, height],
              orientation,
            ),
          );
          const expected = planes[0]!.flatMap((_, i) =>
            planes.map((plane) => (type === "u8" || type === "u16" ? plane[i]! : Math.fround(plane[i]!))),
          );
          const readers = [
            () => readPictureFile(path, { colour: "as-is" }),
            () => readTiffStack(path).then(({ slices }) => slices[0]!),
            ...(channels === 3
              ? [() => readPictureFile(path, { colour: "rgb", depth: "file" } as const)]
              : [() => readPictureFile(path, { colour: "gray", depth: "file" } as const)]),
          ];
          for (const read of readers) {
            const found = await read();
            expect([found.width, found.height]).toEqual(turned ? [height, width] : [width, height]);
            expect([...found.data]).toEqual(expected);
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it("that end before their pixels do are refused, where sharp would read zeros", async () => {
    for (const type of TIFF_TYPES) {
      const values = Array.from({ length: 64 }, (_, i) => i);
      const bytes = tiffBytes({ width: 8, height: 8, channels: 1, type, values });
      await expect(decodePicture(bytes.subarray(0, -1), { name: "cut.tif" }), type).rejects.toThrow(
        /cut\.tif: the TIFF file is cut off: its pixels end at byte \d+ of \d+/,
      );
    }
  });

  it.each(TIFF_TYPES)("in colours of %s keep their channels, and become gray by ITU-R 601", async (type) => {
    const values = [10, 100, 40, 1, 2, 4];
    const bytes = tiffBytes({ width: 2, height: 1, channels: 3, type, values });
    expect([...(await decodePicture(bytes, { colour: "as-is" })).data]).toEqual(values);
    const gray = await decodePicture(bytes, { colour: "gray", depth: "file" });
    const luma = 0.299 * 10 + 0.587 * 100 + 0.114 * 40; // 66.25
    expect(gray.data[0]).toBeCloseTo(type === "u8" || type === "u16" ? 66 : luma, 4);
  });
});

/** A PNG file of 8 or 16 bits, row by row without filters. */
function pngBytes(width: number, height: number, channels: number, depth: 8 | 16, values: readonly number[]) {
  const chunk = (type: string, data: Uint8Array): Buffer => {
    const out = Buffer.alloc(12 + data.length);
    out.writeUInt32BE(data.length, 0);
    out.write(type, 4, "latin1");
    out.set(data, 8);
    out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, { 1: 0, 2: 4, 3: 2, 4: 6 }[channels]!, 0, 0, 0], 8);
  const rows = Array.from({ length: height }, (_, y) => {
    const row = values.slice(y * width * channels, (y + 1) * width * channels);
    return [0, ...(depth === 8 ? row : row.flatMap((v) => [v >> 8, v & 255]))];
  });
  const body = deflateSync(Uint8Array.from(rows.flat()));
  const magic = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  return Buffer.concat([magic, chunk("IHDR", header), chunk("IDAT", body), chunk("IEND", new Uint8Array(0))]);
}

test("PNG files of every depth and number of channels give the values that were written", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(8 as const, 16 as const),
      fc.constantFrom(1, 2, 3, 4),
      fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 })),
      fc.array(fc.nat(), { minLength: 196, maxLength: 196 }),
      async (depth, channels, [width, height], picks) => {
        const values = picks.slice(0, width * height * channels).map((pick) => pick % 2 ** depth);
        const found = await decodePicture(pngBytes(width, height, channels, depth, values), {
          colour: "as-is",
        });
        expect([found.width, found.height, found.channels]).toEqual([width, height, channels]);
        expect([...found.data]).toEqual(values);
      },
    ),
    { numRuns: 100 },
  );
});

describe("in bytes", () => {
  const gray = (type: TiffType, values: number[]) =>
    decodePicture(tiffBytes({ width: values.length, height: 1, channels: 1, type, values }), {
      colour: "gray",
      name: "x.tif",
    }).then(({ data }) => [...data]);

  test("16 bits are scaled, floats up to 1 are shares of white, numbers up to 255 stay", async () => {
    expect(await gray("u16", [0, 257, 65535])).toEqual([0, 1, 255]);
    expect(await gray("f32", [0, 0.5, 1])).toEqual([0, 128, 255]);
    expect(await gray("i32", [0, 7, 255])).toEqual([0, 7, 255]);
  });

  test("other numbers are refused with their range", async () => {
    await expect(gray("i16", [-1000, 2910])).rejects.toThrow(FormatError);
    await expect(gray("i16", [-1000, 2910])).rejects.toThrow(/x\.tif: values from -1000 to 2910/);
    await expect(gray("f32", [0, Number.NaN])).rejects.toThrow(/x\.tif: a picture with the value NaN/);
  });
});

/** From tifffile and Pillow; see the names of the files. */
test.each([
  ["01-tiff-depth/hu-int16.tif", [-1000, -830, -660, -490], 24],
  ["01-tiff-depth/labels-int32-0to399.tif", [0, 1, 2, 3], 400],
  ["01-tiff-depth/labels-float64.tif", [0, 1, 2, 3], 400],
  ["01-tiff-depth/signed-int8.tif", [-120, -110, -100, -90], 24],
])("%s begins as tifffile reads it", async (path, first, different) => {
  const { data } = await decodePicture(await fixture(path), { colour: "as-is" });
  expect([...data.slice(0, 4)]).toEqual(first);
  expect(new Set(data).size).toBe(different);
});

describe("gray", () => {
  // Pillow's convert("L").
  test.each([
    ["rgb_0_255_0", 150],
    ["rgb_255_0_0", 76],
    ["rgb_0_0_255", 29],
  ])("%s is %i", async (name, expected) => {
    const { channels, data } = await decodePicture(await fixture(`12-gray/${name}.png`), { colour: "gray" });
    expect([channels, data[0]]).toEqual([1, expected]);
  });

  test("is the same picture in 8 and in 16 bits", async () => {
    const read = async (name: string) =>
      decodePicture(await fixture(`12-gray/${name}`), { colour: "gray", depth: "file" });
    const [byte, word] = [await read("blue-disc-8bit.png"), await read("blue-disc-16bit.tif")];
    expect(word.data).toBeInstanceOf(Uint16Array);
    for (const [i, v] of byte.data.entries()) expect(Math.abs(word.data[i]! / 257 - v)).toBeLessThan(1);
  });
});

test("orientation turns 16-bit pictures as their copy in 8 bits", async () => {
  const read = async (name: string) =>
    decodePicture(await fixture(`03-orientation-16bit/${name}`), { colour: "gray", depth: "file" });
  const [word, byte] = [await read("o6.tif"), await read("o6-8bit-for-comparison.png")];
  expect([word.width, word.height]).toEqual([byte.width, byte.height]);
  const middle = ({ width, data }: Picture): [number, number] => {
    const most = Math.max(...data);
    let [x, y, n] = [0, 0, 0];
    data.forEach((v, i) => {
      if (v > most / 2) [x, y, n] = [x + (i % width), y + Math.floor(i / width), n + 1];
    });
    return [x / n, y / n];
  };
  for (const [i, v] of middle(word).entries()) expect(v).toBeCloseTo(middle(byte)[i]!, 1);
});

test("upright refuses an orientation that there is not", () => {
  expect(() => upright({ width: 1, height: 1, channels: 1, data: Uint8Array.of(0) }, 9)).toThrow(
    /expected 1 to 8, got 9/,
  );
});

/** A BMP file of 3 x 2 pixels from the bytes of its rows, without padding, from the top. */
function bmp(
  bits: number,
  rows: number[][],
  { palette = [] as number[], topDown = false, masks = [] as number[] } = {},
) {
  const rowBytes = Math.ceil((3 * bits) / 32) * 4;
  const pixels = 54 + 4 * masks.length + palette.length;
  const out = Buffer.alloc(pixels + 2 * rowBytes);
  out.write("BM");
  out.writeUInt32LE(pixels, 10);
  out.writeUInt32LE(40, 14);
  out.writeInt32LE(3, 18);
  out.writeInt32LE(topDown ? -2 : 2, 22);
  out.writeUInt16LE(1, 26);
  out.writeUInt16LE(bits, 28);
  out.writeUInt32LE(masks.length > 0 ? 3 : 0, 30);
  out.writeUInt32LE(palette.length / 4, 46);
  for (const [i, mask] of masks.entries()) out.writeUInt32LE(mask, 54 + 4 * i);
  out.set(palette, 54 + 4 * masks.length);
  for (const [y, row] of rows.entries()) out.set(row, pixels + rowBytes * (topDown ? y : 1 - y));
  return out;
}

describe("BMP files", () => {
  const ALL = [1, 2, 3, 4, 5, 6];
  const grays = Array.from({ length: 256 }, (_, i) => [i, i, i, 0]).flat();
  const bgr = (from: number) => [0, 1, 2].flatMap((i) => [30 + from + i, 20 + from + i, 10 + from + i]);
  const colours = ALL.flatMap((_, i) => [10 + i, 20 + i, 30 + i]);

  test.each([
    [
      "8 bits, gray",
      bmp(
        8,
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        { palette: grays },
      ),
      1,
      ALL,
    ],
    [
      "8 bits, from the top",
      bmp(
        8,
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        { palette: grays, topDown: true },
      ),
      1,
      ALL,
    ],
    [
      "8 bits, a gray palette in another order",
      bmp(
        8,
        [
          [0, 1, 0],
          [1, 1, 0],
        ],
        { palette: [255, 255, 255, 0, 0, 0, 0, 0] },
      ),
      1,
      [255, 0, 255, 0, 0, 255],
    ],
    [
      "4 bits",
      bmp(
        4,
        [
          [0x12, 0x30],
          [0x45, 0x60],
        ],
        { palette: grays.slice(0, 64) },
      ),
      1,
      ALL,
    ],
    [
      "1 bit",
      bmp(1, [[0b10100000], [0b01000000]], { palette: [0, 0, 0, 0, 255, 255, 255, 0] }),
      1,
      [255, 0, 255, 0, 255, 0],
    ],
    ["24 bits", bmp(24, [bgr(0), bgr(3)]), 3, colours],
    [
      "32 bits",
      bmp(
        32,
        [0, 3].map((from) => [0, 1, 2].flatMap((i) => [30 + from + i, 20 + from + i, 10 + from + i, 0])),
      ),
      3,
      colours,
    ],
    [
      "16 bits with masks",
      bmp(
        16,
        [
          [0, 0xf8, 0xe0, 7, 0x1f, 0],
          [0, 0, 0xff, 0xff, 0, 0],
        ],
        { masks: [0xf800, 0x7e0, 0x1f] },
      ),
      3,
      [255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0],
    ],
  ])("of %s are read", async (_, bytes, channels, expected) => {
    const found = await decodePicture(bytes, { colour: "as-is" });
    expect(found).toEqual({ width: 3, height: 2, channels, data: Uint8Array.from(expected) });
  });

  test("of other programs are read; damaged, compressed and huge ones are refused", async () => {
    const bytes = await fixture("11-bmp/train/images/a.bmp");
    const first = (await decodePicture(bytes, { colour: "gray" })).data.slice(0, 5);
    expect([...first]).toEqual([55, 61, 55, 34, 62]);
    const refused = (change: Uint8Array, words: RegExp) =>
      expect(decodePicture(change, { name: "b.bmp" })).rejects.toThrow(words);
    await refused(bytes.subarray(0, 40), /b\.bmp: a BMP file of 40 bytes/);
    await refused(bytes.subarray(0, 1500), /cut off before its end/);
    const changed = (at: number, value: number): Buffer => {
      const copy = Buffer.from(bytes);
      copy.writeInt32LE(value, at);
      return copy;
    };
    await refused(changed(18, 10_000_000), /more than the limit/);
    await refused(changed(30, 1), /a compressed BMP file \(kind 1\)/);
  });
});

describe("palettes", () => {
  test("become colours, or indices for labels, of any width in bits", async () => {
    for (const colours of [2, 4, 16, 200]) {
      const pixels = Uint8Array.from(
        { length: 9 * 7 * 3 },
        (_, i) => ((Math.floor(i / 3) % colours) * 7) % 256,
      );
      const png = await sharp(pixels, { raw: { width: 9, height: 7, channels: 3 } })
        .png({ palette: true, colours, dither: 0 })
        .toBuffer();
      const shown = await decodePicture(png, { colour: "rgb" });
      const indices = await decodePicture(png, { colour: "labels" });
      expect([indices.channels, indices.data.length]).toEqual([1, 63]);
      // Pixels of one index have one colour, and the other way round.
      const byIndex = new Map<number, number>();
      for (const [i, index] of indices.data.entries()) {
        const colour = shown.data[3 * i]!;
        expect(byIndex.get(index) ?? colour).toBe(colour);
        byIndex.set(index, colour);
      }
      expect(byIndex.size).toBe(new Set(pixels).size);
    }
  });
});

test("colours and transparency of 16 bits are kept at their depth", async () => {
  const data = Uint16Array.of(65535, 0, 0, 65535, 0, 65535, 0, 0);
  const png = await encodePicture({ width: 2, height: 1, channels: 4, data });
  const over = await decodePicture(png, { colour: "rgb", depth: "file", background: [0, 0, 255] });
  expect([...over.data]).toEqual([65535, 0, 0, 0, 0, 65535]);
  const bytes = await decodePicture(png, { colour: "rgba" });
  expect([...bytes.data]).toEqual([255, 0, 0, 255, 0, 255, 0, 0]);
});

import { writeFileSync } from "node:fs";
import { crc32, deflateSync } from "node:zlib";
import fc from "fast-check";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, FormatError } from "../../src/errors.ts";
import { type NewPngText, readPngText, readPngTextFile, withPngText } from "../../src/io/index.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const path = useTemporaryFolder();
let picture: Uint8Array;
beforeAll(async () => {
  const pixels = Uint8Array.from({ length: 5 * 4 * 3 }, (_, i) => (i * 37) % 256);
  picture = await sharp(pixels, { raw: { width: 5, height: 4, channels: 3 } })
    .png()
    .toBuffer();
});

function chunk(type: string, data: Uint8Array, length = data.length): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** The picture with raw chunks put behind its header (8 bytes of signature, 25 of IHDR). */
const withChunks = (...chunks: Buffer[]): Buffer =>
  Buffer.concat([picture.subarray(0, 33), ...chunks, picture.subarray(33)]);

const typesOf = (png: Uint8Array): string[] => {
  const types: string[] = [];
  const view = new DataView(png.buffer, png.byteOffset);
  for (let at = 8; at < png.length; at += 12 + view.getUint32(at))
    types.push(Buffer.from(png.subarray(at + 4, at + 8)).toString("latin1"));
  return types;
};

const latin = (text: string): Buffer => Buffer.from(text, "latin1");

describe("text in PNG files", () => {
  test("any text comes back, and the pixels do not change", async () => {
    const before = await sharp(picture).raw().toBuffer();
    const keyword = fc.stringMatching(/^[a-zA-Z0-9]{1,79}$/);
    const text = fc.record({ keyword, text: fc.string({ unit: "grapheme" }), utf8: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(text, { selector: (t) => t.keyword }), async (texts) => {
        const written = withPngText(picture, texts);
        expect(readPngText(written)).toEqual(texts.map(({ keyword, text }) => ({ keyword, text })));
        expect(await sharp(written).raw().toBuffer()).toEqual(before);
      }),
      { numRuns: 50 },
    );
  });

  test("Latin-1 is written as tEXt, other text and text marked utf8 as iTXt, before the pixels", () => {
    const texts: NewPngText[] = [
      { keyword: "parameters", text: "caf\u00e9\nSteps: 1" },
      { keyword: "japanese", text: "\u732b" },
      { keyword: "tweedie", text: "{}", utf8: true },
    ];
    const types = typesOf(withPngText(picture, texts));
    expect(types.slice(0, 4)).toEqual(["IHDR", "tEXt", "iTXt", "iTXt"]);
    expect(types.indexOf("IDAT")).toBeGreaterThan(3);
  });

  test("a text of the same keyword is replaced", () => {
    const once = withPngText(picture, [{ keyword: "parameters", text: "old" }]);
    const twice = withPngText(once, [{ keyword: "parameters", text: "new" }]);
    expect(readPngText(twice)).toEqual([{ keyword: "parameters", text: "new" }]);
  });

  test("compressed chunks are read", () => {
    const z = chunk("zTXt", Buffer.concat([latin("a\0\0"), deflateSync(latin("caf\u00e9"))]));
    const i = chunk("iTXt", Buffer.concat([latin("b\0\x01\0de\0\0"), deflateSync(Buffer.from("\u732b"))]));
    expect(readPngText(withChunks(z, i))).toEqual([
      { keyword: "a", text: "caf\u00e9" },
      { keyword: "b", text: "\u732b" },
    ]);
  });

  test("a file is read by path, and its path is in the error", async () => {
    writeFileSync(path("a.png"), withPngText(picture, [{ keyword: "k", text: "v" }]));
    expect(await readPngTextFile(path("a.png"))).toEqual([{ keyword: "k", text: "v" }]);
    writeFileSync(path("b.png"), "<!doctype html><p>404");
    await expect(readPngTextFile(path("b.png"))).rejects.toThrow(/b\.png: not the file.*web page/);
  });

  test("a keyword that PNG does not allow is refused", () => {
    for (const keyword of ["", "a".repeat(80), "\u732b", "a\0b"])
      expect(() => withPngText(picture, [{ keyword, text: "" }])).toThrow(ArgumentError);
  });
});

describe("hostile PNG files", () => {
  const refused = (png: Uint8Array, message: RegExp): void => {
    expect(() => readPngText(png)).toThrow(FormatError);
    expect(() => readPngText(png)).toThrow(message);
  };

  test("every truncation is refused", () => {
    const whole = withPngText(picture, [{ keyword: "k", text: "v" }]);
    for (let n = 0; n < whole.length; n++) refused(whole.subarray(0, n), /cut off|beginning|empty/);
  });

  test("a damaged byte anywhere is found", () => {
    const whole = withPngText(picture, [{ keyword: "k", text: "v" }]);
    for (let at = 0; at < whole.length; at++) {
      const bad = Uint8Array.from(whole);
      bad[at]! ^= 0x20;
      expect(() => readPngText(bad), `byte ${at}`).toThrow(FormatError);
    }
  });

  test("a chunk that claims more than there is", () => {
    refused(withChunks(chunk("tEXt", latin("a\0b"), 0xffffffff)), /claims 4294967295 bytes/);
  });

  test("a compressed text that would fill the memory", () => {
    const bomb = deflateSync(Buffer.alloc(64 * 2 ** 20));
    refused(withChunks(chunk("zTXt", Buffer.concat([latin("a\0\0"), bomb]))), /larger than 16777216 bytes/);
    const eight = deflateSync(Buffer.alloc(8 * 2 ** 20));
    const many = Array.from({ length: 3 }, (_, i) =>
      chunk("iTXt", Buffer.concat([latin(`${i}\0\x01\0\0\0`), eight])),
    );
    refused(withChunks(...many), /larger than 16777216 bytes/);
  });

  test("text chunks that are malformed", () => {
    refused(withChunks(chunk("tEXt", latin("no separator"))), /zero byte after the keyword/);
    refused(withChunks(chunk("tEXt", latin("\0no keyword"))), /keyword of 1 to 79/);
    refused(withChunks(chunk("zTXt", latin("a\0\x07abc"))), /compression method 0, got 7/);
    refused(withChunks(chunk("zTXt", latin("a\0\0garbage"))), /compressed text is damaged/);
    refused(withChunks(chunk("iTXt", latin("a\0\0\0en"))), /zero byte after the language/);
    refused(withChunks(chunk("iTXt", latin("a\0\x02\0\0\0b"))), /compression flag/);
    refused(withChunks(chunk("iTXt", latin("a\0\0\0\0\0\xff"))), /UTF-8/);
    refused(withChunks(chunk("IHDR", new Uint8Array(13))), /IHDR first and once/);
    refused(withChunks(chunk("a\0b1", new Uint8Array(0))), /type of a PNG chunk/);
  });

  test("bytes behind the end are ignored", () => {
    const text = withPngText(picture, [{ keyword: "k", text: "v" }]);
    expect(readPngText(Buffer.concat([text, latin("anything")]))).toEqual([{ keyword: "k", text: "v" }]);
  });
});

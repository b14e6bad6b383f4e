import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fileFingerprint, fingerprint } from "../../src/study/index.ts";
import { temporaryFolder } from "./folder.ts";

describe("a fingerprint", () => {
  it("does not depend on the order of keys, nor on fields that are undefined", () => {
    expect(fingerprint({ a: 1, b: { c: 2, d: 3 } })).toBe(
      fingerprint({ b: { d: 3, c: 2 }, a: 1, e: undefined }),
    );
  });

  it("is another one for every other value, also of another type or place", () => {
    const values = [
      1,
      "1",
      1n,
      true,
      "true",
      null,
      "null",
      undefined,
      Number.NaN,
      "NaN",
      [],
      {},
      [1],
      [[1]],
      [1, undefined],
      { a: 1 },
      { a: "1" },
      { b: 1 },
      { a: { a: 1 } },
      ["a", "b"],
      ["a,b"],
      new Float32Array([1]),
      new Float32Array([1, 0]),
      new Int32Array([1]),
    ];
    expect(new Set(values.map((value) => fingerprint(value))).size).toBe(values.length);
  });

  it("changes with any one number of settings of any depth", () => {
    const settings = fc.dictionary(fc.string(), fc.oneof(fc.integer(), fc.string(), fc.array(fc.double())));
    fc.assert(
      fc.property(settings, fc.string(), fc.integer(), (given, name, value) => {
        const other = { ...given, [name]: { value } };
        expect(fingerprint(other)).not.toBe(fingerprint(given));
        expect(fingerprint({ outer: [given] })).not.toBe(fingerprint({ outer: [other] }));
      }),
    );
  });

  it("refuses what has no text of its own, and says where it stands", () => {
    expect(() => fingerprint({ a: [{ loss: () => 0 }] })).toThrow(/given\.a\[0\]\.loss is a function/);
    expect(() => fingerprint({ seen: new Map() })).toThrow(/given\.seen is an object of class Map/);
  });

  it("of a file is that of its bytes", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "extractor");
    await writeFile(path, "weights");
    const before = await fileFingerprint(path);
    expect(before).toMatch(/^[0-9a-f]{12}$/);
    await writeFile(path, "weighty");
    expect(await fileFingerprint(path)).not.toBe(before);
  });
});

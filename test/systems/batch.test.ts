import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AbortError, ArgumentError, FormatError } from "../../src/errors.ts";
import { decodePicture, encodePicture, encodePng, type Picture, readPngText } from "../../src/io/index.ts";
import { partOf, shardOf } from "../../src/study/shard.ts";
import {
  type BatchOptions,
  type BatchResult,
  batchSummary,
  listBatch,
  type MakeResults,
  runBatch,
} from "../../src/systems/batch.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tweedie-batch-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const put = (name: string, bytes: Uint8Array | string): void => {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
};
const pictureOf = (value: number): Picture => ({
  width: 3,
  height: 2,
  channels: 1,
  data: new Uint8Array(6).fill(value),
});
const png = (value: number): Promise<Uint8Array> => encodePicture(pictureOf(value));

/** Inverts a picture; counts how often. */
function inverting(): { work: MakeResults; sources: string[] } {
  const sources: string[] = [];
  return {
    sources,
    async *work({ path, source }) {
      const picture = await decodePicture(readFileSync(path), { colour: "gray", name: path });
      sources.push(source);
      yield { type: "progress", stage: "part", done: 1, total: 1 };
      const inverse = { ...picture, data: Uint8Array.from(picture.data, (v) => 255 - v) };
      return { inverse, same: picture };
    },
  };
}

const defaults = (): BatchOptions => ({
  image: join(folder, "in"),
  out: join(folder, "out"),
  force: false,
  settings: { strength: 1 },
  kinds: ["inverse", "same"],
});

async function run(
  work: MakeResults,
  options: Partial<BatchOptions> = {},
  signal?: AbortSignal,
): Promise<{ result: BatchResult; warnings: string[] }> {
  const warnings: string[] = [];
  const running = runBatch({ ...defaults(), ...options }, { ...(signal && { signal }) }, work);
  for (;;) {
    const { done, value } = await running.next();
    if (done) return { result: value, warnings };
    if (value.type === "warning") warnings.push(value.text);
  }
}

/** Names and bytes of all files of a folder. */
const contents = (name: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(join(folder, name), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => [
        join(entry.parentPath, entry.name).slice(join(folder, name).length),
        readFileSync(join(entry.parentPath, entry.name)).toString("base64"),
      ])
      .sort(),
  );

describe("a folder as a job", () => {
  it("names results by picture, with sub-folders, and none by two", async () => {
    for (const name of [
      "a.png",
      "a.jpg",
      "A.webp",
      "b.png",
      "sub/a.png",
      "c.png",
      "c.png.tiff",
      ".hidden.png",
    ])
      put(`in/${name}`, "x");
    put("in/notes.txt", "x");
    put("in/out/b-inverse.png", "x");
    const items = await listBatch(join(folder, "in"), join(folder, "in", "out"));
    expect(items.map(({ source, name }) => [source, name])).toEqual([
      ["A.webp", "A.webp"],
      ["a.jpg", "a.jpg"],
      ["a.png", "a.png"],
      ["b.png", "b"],
      ["c.png", "c"],
      ["c.png.tiff", "c.png.tiff"],
      ["sub/a.png", "sub/a"],
    ]);
    expect(new Set(items.map(({ name }) => name.toLowerCase())).size).toBe(items.length);
  });

  it("refuses a folder of results among the pictures, and one without pictures", async () => {
    put("in/a.png", "x");
    await expect(listBatch(join(folder, "in"), `${join(folder, "in")}/.`)).rejects.toThrow(/choose another/);
    put("only/out/a-mask.png", "x");
    await expect(listBatch(join(folder, "only"), join(folder, "only", "out"))).rejects.toThrow(ArgumentError);
  });

  it("parts of it are apart and together all of it", () => {
    const items = Array.from({ length: 11 }, (_, i) => i);
    const parts = [1, 2, 3].map((index) => partOf(items, { index, count: 3 }));
    expect(parts.flat().sort((a, b) => a - b)).toEqual(items);
    expect(parts.map((p) => p.length)).toEqual([4, 4, 3]);
    expect(partOf(items, shardOf("12/12"))).toEqual([]);
    for (const text of ["0/3", "4/3", "1", "1/0", "a/b", "1/2/3", "-1/2"])
      expect(() => shardOf(text), text).toThrow(ArgumentError);
  });
});

describe("running a batch", () => {
  beforeEach(async () => {
    for (let i = 0; i < 5; i++) put(`in/${i % 2 ? "odd/" : ""}${i}.png`, await png(i * 10));
  });

  it("two parts give, byte for byte, what one run gives", async () => {
    await run(inverting().work);
    const first = await run(inverting().work, { shard: "1/2", out: join(folder, "parts") });
    const second = await run(inverting().work, { shard: "2/2", out: join(folder, "parts") });
    expect([first.result.done, second.result.done]).toEqual([3, 2]);
    expect(Object.keys(contents("out"))).toHaveLength(10);
    expect(contents("parts")).toEqual(contents("out"));
    const bytes = readFileSync(join(folder, "out", "odd", "1-inverse.png"));
    expect((await decodePicture(bytes, { colour: "gray" })).data).toEqual(new Uint8Array(6).fill(245));
    expect(JSON.parse(readPngText(bytes)[0]!.text)).toMatchObject({ settings: { strength: 1 } });
  });

  it("passes over what is done and valid, and makes the rest", async () => {
    await run(inverting().work);
    const before = contents("out");
    rmSync(join(folder, "out", "0-same.png"));
    const damaged = join(folder, "out", "2-inverse.png");
    writeFileSync(damaged, readFileSync(damaged).subarray(0, 60));
    put("in/4.png", await png(200));
    const again = inverting();
    const { result } = await run(again.work);
    expect(again.sources).toEqual(["0.png", "2.png", "4.png"]);
    expect(result).toEqual({ done: 3, kept: 2, failed: [] });
    const after = contents("out");
    expect(after["/2-inverse.png"]).toBe(before["/2-inverse.png"]);
    expect(after["/4-inverse.png"]).not.toBe(before["/4-inverse.png"]);
    expect(batchSummary(result, "turned")).toBe("3 pictures turned; 2 pictures done before");
  });

  it("makes all of it again when settings differ, or by force", async () => {
    await run(inverting().work);
    expect((await run(inverting().work)).result).toMatchObject({ done: 0, kept: 5 });
    expect((await run(inverting().work, { settings: { strength: 2 } })).result.done).toBe(5);
    expect((await run(inverting().work, { settings: { strength: 2 }, force: true })).result.done).toBe(5);
  });

  it("reports what cannot be used and does the rest", async () => {
    put("in/1.png", "no picture");
    const { result, warnings } = await run(inverting().work);
    expect(result).toEqual({ done: 5, kept: 0, failed: ["1.png"] });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("1.png");
    expect(batchSummary(result, "turned")).toContain("1 picture could not be used: 1.png");
    await expect(run(inverting().work, { image: join(folder, "in", "1.png") })).rejects.toThrow(FormatError);
  });

  it("ends with an error when none can be used, or when the job itself is wrong", async () => {
    put("bad/1.png", "no picture");
    await expect(run(inverting().work, { image: join(folder, "bad") })).rejects.toThrow(/1\.png/);
    // biome-ignore lint/correctness/useYield: it fails before it has anything to say
    const wrong: MakeResults = async function* () {
      throw new ArgumentError("overlap: expected less than the tile");
    };
    await expect(run(wrong)).rejects.toThrow("overlap");
  });

  it("does not write over a picture that is not its own", async () => {
    put("out/0-same.png", await encodePng(new Uint8Array(3), { width: 1, height: 1 }));
    await expect(run(inverting().work)).rejects.toThrow(/0-same\.png.*--force/);
    expect((await run(inverting().work, { force: true })).result.done).toBe(5);
  });

  it("stops between pictures and goes on from there", async () => {
    const stop = new AbortController();
    const { work, sources } = inverting();
    const stopping: MakeResults = async function* (item) {
      if (sources.length === 2) stop.abort();
      return yield* work(item);
    };
    const stopped = run(stopping, {}, stop.signal);
    await expect(stopped).rejects.toThrow(AbortError);
    await expect(stopped).rejects.toThrow("3 of 5 pictures are done");
    expect((await run(inverting().work)).result).toMatchObject({ done: 2, kept: 3 });
  });
});

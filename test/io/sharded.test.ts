import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, FormatError, LifetimeError } from "../../src/errors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../src/io/safetensors.ts";
import { writeSafetensors } from "../../src/io/safetensors-file.ts";
import { openSharded, parseShardIndex, writeSharded } from "../../src/io/sharded.ts";
import { expectLinearTime } from "../growth.ts";
import { namedTensors } from "./arbitraries.ts";
import { valuesOf } from "./safetensors-bytes.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const at = useTemporaryFolder();
const f32 = (...values: number[]) => ({
  dtype: "f32" as const,
  shape: [values.length],
  data: new Float32Array(values),
});
const INDEX = "model.safetensors.index.json";
const parse = (json: string) => parseShardIndex(new TextEncoder().encode(json), "x.index.json");

/** Two shards, `1` with tensor a and `2` with tensor b, and the given map. */
async function twoShards(map: Record<string, string>, folder = at()): Promise<string> {
  await writeSafetensors(`${folder}/1`, { a: f32(1) });
  await writeSafetensors(`${folder}/2`, { b: f32(2) });
  writeFileSync(`${folder}/${INDEX}`, JSON.stringify({ metadata: { total_size: 8 }, weight_map: map }));
  return `${folder}/${INDEX}`;
}

describe("sharded weights", () => {
  it("merge to what a single file holds", async () => {
    await fc.assert(
      fc.asyncProperty(namedTensors, fc.integer({ min: 1, max: 300 }), async (tensors, maxShardBytes) => {
        rmSync(at("m"), { recursive: true, force: true });
        mkdirSync(at("m"));
        const sharded = await openSharded(await writeSharded(at("m"), tensors, { maxShardBytes }));
        const merged = await sharded.readAll();
        await sharded.close();
        expect(merged).toEqual(decodeSafetensors(encodeSafetensors(tensors)).tensors);
      }),
      { numRuns: 30 },
    );
  });

  it("are split at the size limit, with a lone shard for a larger tensor", async () => {
    const tensors = { a: f32(1, 2), b: f32(3, 4), c: f32(1, 2, 3, 4, 5, 6), d: f32(1) };
    await writeSharded(at(), tensors, { maxShardBytes: 16, metadata: { format: "pt" } });
    expect(readdirSync(at()).sort()).toEqual([
      "model-00001-of-00003.safetensors",
      "model-00002-of-00003.safetensors",
      "model-00003-of-00003.safetensors",
      INDEX,
    ]);
    expect(JSON.parse(readFileSync(at(INDEX), "utf8"))).toEqual({
      metadata: { total_size: 44 },
      weight_map: {
        a: "model-00001-of-00003.safetensors",
        b: "model-00001-of-00003.safetensors",
        c: "model-00002-of-00003.safetensors",
        d: "model-00003-of-00003.safetensors",
      },
    });
    expect((await openSharded(at(INDEX))).metadata.get("format")).toBe("pt");
  });

  it("are read one by one by name", async () => {
    const sharded = await openSharded(await twoShards({ a: "1", b: "2" }));
    expect(valuesOf(await sharded.read("b"))).toEqual([2]);
    await expect(sharded.read("c")).rejects.toThrow(ArgumentError);
    await writeSafetensors(at("2"), { b: f32(2, 3) });
    await expect(sharded.read("b")).rejects.toThrow(/changed its size/);
    await sharded.close();
    await expect(sharded.read("a")).rejects.toThrow(LifetimeError);
  });

  it("are refused when a shard is missing, truncated or a folder", async () => {
    const index = await twoShards({ a: "1", b: "2" });
    writeFileSync(at("2"), readFileSync(at("2")).subarray(0, -1));
    await expect(openSharded(index)).rejects.toThrow(FormatError);
    rmSync(at("2"));
    await expect(openSharded(index)).rejects.toThrow(/2: the shard is missing/);
    mkdirSync(at("2"));
    await expect(openSharded(index)).rejects.toThrow(FormatError);
  });

  it("are refused when a tensor is in the wrong shard, in two shards, in none, or not in the index", async () => {
    await expect(openSharded(await twoShards({ a: "2", b: "1" }))).rejects.toThrow(
      /in shard 2, but in 1 by the index|in shard 1, but in 2 by the index/,
    );
    await expect(openSharded(await twoShards({ a: "1", b: "2", c: "2" }))).rejects.toThrow(
      /"c" is not in its shard 2/,
    );
    await expect(openSharded(await twoShards({ a: "1", b: "1" }))).rejects.toThrow(FormatError);
    const index = await twoShards({ a: "1", b: "2" });
    await writeSafetensors(at("2"), { a: f32(9), b: f32(2) });
    await expect(openSharded(index)).rejects.toThrow(/"a" is in shard 2, but in 1 by the index/);
    await writeSafetensors(at("2"), { extra: f32(9), b: f32(2) });
    await expect(openSharded(index)).rejects.toThrow(/"extra" is in shard 2, but not in the index/);
  });
});

describe("links to shards", () => {
  it("are followed in the layout of the Hugging Face cache, also from a subfolder", async () => {
    for (const [sub, up] of [
      ["", "../../"],
      ["/unet", "../../../"],
    ] as const) {
      const root = at(`models--x${sub.length}`);
      const snapshot = `${root}/snapshots/abc${sub}`;
      mkdirSync(snapshot, { recursive: true });
      mkdirSync(`${root}/blobs`);
      await twoShards({ a: "1", b: "2" }, snapshot);
      for (const name of ["1", "2", INDEX]) {
        renameSync(`${snapshot}/${name}`, `${root}/blobs/hash-${name}`);
        symlinkSync(`${up}blobs/hash-${name}`, `${snapshot}/${name}`);
      }
      const sharded = await openSharded(`${snapshot}/${INDEX}`);
      expect(valuesOf(await sharded.read("a"))).toEqual([1]);
    }
  });

  it("are followed inside the folder, and when the folder itself is a link", async () => {
    mkdirSync(at("real"));
    await twoShards({ a: "1", b: "2" }, at("real"));
    renameSync(at("real", "2"), at("real", "2.bin"));
    symlinkSync("2.bin", at("real", "2"));
    symlinkSync("real", at("link"));
    expect((await (await openSharded(at("link", INDEX))).readAll()).size).toBe(2);
  });

  it("are refused when they leave the folder, lead to themselves, to nothing or to a folder", async () => {
    mkdirSync(at("model"));
    const index = await twoShards({ a: "1", b: "2" }, at("model"));
    copyFileSync(at("model", "2"), at("outside"));
    mkdirSync(at("blobs"));
    copyFileSync(at("outside"), at("blobs", "b"));
    for (const [target, message] of [
      ["../outside", /leaves the model's folder/],
      [at("outside"), /leaves the model's folder/],
      ["../blobs/b", /leaves the model's folder/],
      ["2", /leads to itself/],
      ["nothing", /missing/],
      ["..", /leaves the model's folder/],
    ] as const) {
      rmSync(at("model", "2"));
      symlinkSync(target, at("model", "2"));
      await expect(openSharded(index)).rejects.toThrow(FormatError);
      await expect(openSharded(index)).rejects.toThrow(message);
    }
    expect(existsSync(at("outside"))).toBe(true);
  });
});

describe("shard index", () => {
  for (const name of [
    "/etc/passwd",
    "../x",
    "..",
    ".",
    "",
    "a/b",
    "a\\\\b",
    "\\\\\\\\server\\\\share",
    "C:x",
    "C:\\\\x",
    "https://host/x",
    "file:x",
    "a\\u0000b",
    "x".repeat(256),
  ]) {
    it(`refuses the shard name ${JSON.stringify(name.slice(0, 30))}`, () => {
      expect(() => parse(`{"weight_map":{"a":"${name}"}}`)).toThrow(FormatError);
      expect(() => parse(`{"weight_map":{"a":"${name}"}}`)).toThrow(/^x\.index\.json: .*plain name/);
    });
  }

  for (const [what, json] of Object.entries({
    "no map": "{}",
    "an array": "[]",
    "a map that is an array": '{"weight_map":[]}',
    "a number as shard": '{"weight_map":{"a":1}}',
    "a tensor given twice": '{"weight_map":{"a":"1","a":"1"}}',
    "two maps": '{"weight_map":{},"weight_map":{}}',
    "text behind": '{"weight_map":{}}x',
    "a deep metadata": `{"metadata":${"[".repeat(100_000)}`,
    "10,001 shards": `{"weight_map":{${Array.from({ length: 10_001 }, (_, i) => `"t${i}":"s${i}"`)}}}`,
  })) {
    it(`refuses ${what}`, () => expect(() => parse(json)).toThrow(FormatError));
  }

  it("reads a million entries in time that grows with their number and keeps dangerous tensor names as data", () => {
    const entries = Array.from({ length: 1_000_000 }, (_, i) => `"t${i}":"s${i % 7}"`);
    expectLinearTime((length) => {
      const map = `{"weight_map":{"__proto__":"x",${entries.slice(0, length)}}}`;
      expect(parse(map).size).toBe(length + 1);
    }, entries.length);
  });
});

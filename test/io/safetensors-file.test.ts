import { execFileSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, FormatError, LifetimeError, MemoryError, ShapeError } from "../../src/errors.ts";
import { encodeSafetensors } from "../../src/io/safetensors.ts";
import { openSafetensors, readSafetensors, writeSafetensors } from "../../src/io/safetensors-file.ts";
import { namedTensors, textMetadata } from "./arbitraries.ts";
import { fileOf, valuesOf } from "./safetensors-bytes.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const at = useTemporaryFolder();
const f32 = (...values: number[]) => ({
  dtype: "f32" as const,
  shape: [values.length],
  data: new Float32Array(values),
});

describe("safetensors files", () => {
  it("writes what encodeSafetensors gives and reads back what was written", async () => {
    await fc.assert(
      fc.asyncProperty(namedTensors, textMetadata, async (tensors, metadata) => {
        await writeSafetensors(at("a.safetensors"), tensors, metadata);
        const bytes = readFileSync(at("a.safetensors"));
        expect(bytes.equals(encodeSafetensors(tensors, metadata))).toBe(true);
        expect(await readSafetensors(at("a.safetensors"))).toEqual(await readSafetensors(bytes));
      }),
      { numRuns: 30 },
    );
    expect(readdirSync(at())).toEqual(["a.safetensors"]);
  });

  it("reads tensors one by one by name", async () => {
    await writeSafetensors(at("a"), { x: f32(1), y: f32(2, 3) }, { format: "pt" });
    const file = await openSafetensors(at("a"));
    expect(file.metadata.get("format")).toBe("pt");
    expect(file.entries.get("y")).toMatchObject({ dtype: "F32", shape: [2], bytes: 8 });
    expect(valuesOf(await file.read("y"))).toEqual([2, 3]);
    await expect(file.read("z")).rejects.toThrow(ArgumentError);
    await file.close();
    await file.close();
    await expect(file.read("y")).rejects.toThrow(LifetimeError);
  });

  it("reports names that come twice, of which the last counts", async () => {
    const entry = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}';
    writeFileSync(at("a"), fileOf(`{"x":${entry},"x":${entry}}`, new Uint8Array([5])));
    const file = await openSafetensors(at("a"));
    expect([...file.entries.keys()]).toEqual(["x"]);
    expect(file.duplicates).toEqual(["x"]);
    await file.close();
  });

  it("writes nothing when a tensor is wrong, and keeps the old file", async () => {
    await writeSafetensors(at("a"), { x: f32(1) });
    const bad = { x: f32(1), y: { ...f32(1), shape: [3] } };
    await expect(writeSafetensors(at("a"), bad)).rejects.toThrow(ShapeError);
    expect(valuesOf((await readSafetensors(at("a"))).tensors.get("x")!)).toEqual([1]);
    expect(readdirSync(at())).toEqual(["a"]);
  });

  it("rejects folders and pipes without waiting for data", async () => {
    mkdirSync(at("folder"));
    await expect(openSafetensors(at("folder"))).rejects.toThrow(FormatError);
    if (process.platform !== "win32") {
      execFileSync("mkfifo", [at("pipe")]);
      await expect(openSafetensors(at("pipe"))).rejects.toThrow(FormatError);
    }
    await expect(openSafetensors(at("none"))).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("rejects a file that shrinks while it is open", async () => {
    await writeSafetensors(at("a"), { x: f32(1, 2, 3, 4) });
    const file = await openSafetensors(at("a"));
    truncateSync(at("a"), statSync(at("a")).size - 1);
    await expect(file.read("x")).rejects.toThrow(/shrank/);
    await file.close();
  });

  it("does not keep a rejected file open", async () => {
    if (process.platform !== "linux") return;
    writeFileSync(at("bad"), fileOf("[]"));
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 20; i++) await expect(openSafetensors(at("bad"))).rejects.toThrow(FormatError);
    expect(readdirSync("/proc/self/fd").length).toBeLessThan(before + 10);
  });

  it("reads tensors beyond 4 GiB, and refuses one that does not fit into memory", async (context) => {
    const big = 5 * 2 ** 30;
    const huge = 2 ** 40;
    const header = JSON.stringify({
      big: { dtype: "U8", shape: [big], data_offsets: [0, big] },
      far: { dtype: "F32", shape: [2], data_offsets: [big, big + 8] },
      huge: { dtype: "U8", shape: [huge], data_offsets: [big + 8, big + 8 + huge] },
    });
    const start = fileOf(header);
    const descriptor = openSync(at("sparse"), "w");
    try {
      ftruncateSync(descriptor, start.length + big + 8 + huge);
      writeSync(descriptor, start, 0, start.length, 0);
      writeSync(descriptor, new Uint8Array(new Float32Array([1.5, -2]).buffer), 0, 8, start.length + big);
    } catch {
      return context.skip("the file system has no sparse files of this size");
    } finally {
      closeSync(descriptor);
    }
    if (statSync(at("sparse")).blocks * 512 > 2 ** 24)
      return context.skip("the file system filled the holes");
    const file = await openSafetensors(at("sparse"));
    expect(file.entries.get("far")!.offset).toBe(start.length + big);
    expect(valuesOf(await file.read("far"))).toEqual([1.5, -2]);
    await expect(file.read("huge")).rejects.toThrow(MemoryError);
    await file.close();
  });
});

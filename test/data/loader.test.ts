import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import {
  type Batch,
  type Dataset,
  dataset,
  epochOrder,
  type LoaderOptions,
  loadBatches,
  openInWorkers,
} from "../../src/data/index.ts";
import { AbortError, FormatError } from "../../src/errors.ts";

const numbers = dataset(10, (i) => i);

async function batchesOf<T>(source: Dataset<T>, options: LoaderOptions, limit = 100): Promise<Batch<T>[]> {
  const found: Batch<T>[] = [];
  for await (const batch of loadBatches(source, options)) if (found.push(batch) === limit) break;
  return found;
}

describe("order", () => {
  test("every epoch has each sample once, in an order of its own that the seed decides", async () => {
    const run = async (seed: number) =>
      (await batchesOf(numbers, { batchSize: 5, shuffle: seed, epochs: 2 })).map((b) => b.indices.join());
    const order = (await run(1)).join().split(",").map(Number);
    expect(order.slice(0, 10).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(order.slice(0, 10)).not.toEqual(order.slice(10));
    expect(await run(1)).toEqual(await run(1));
    expect(await run(1)).not.toEqual(await run(2));
  });
  test("shards share nothing and miss nothing", () => {
    const parts = [0, 1, 2].flatMap((i) => [...epochOrder(10, 4, { shuffle: 7, shard: [i, 3] })]);
    expect(parts.sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });
  test("a resumed loader gives the very batches that were to come", async () => {
    const options = { batchSize: 3, shuffle: 5, epochs: 4, dropLast: false };
    const whole = await batchesOf(numbers, options);
    for (const [k, batch] of whole.entries()) {
      const rest = await batchesOf(numbers, { ...options, position: JSON.parse(JSON.stringify(batch.next)) });
      expect(rest).toEqual(whole.slice(k + 1));
    }
  });
  test("a last batch that is not full is kept only when asked", async () => {
    expect(await batchesOf(numbers, { batchSize: 4, epochs: 1 })).toHaveLength(2);
    const all = await batchesOf(numbers, { batchSize: 4, epochs: 1, dropLast: false });
    expect(all.map((b) => b.samples)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
  });
});

describe("reading ahead", () => {
  test("`prefetch` batches are under way while the caller works, no more", async () => {
    let started = 0;
    const slow = dataset(100, async (i) => {
      started++;
      return i;
    });
    const batches = loadBatches(slow, { batchSize: 2, prefetch: 3 });
    await batches.next();
    expect(started).toBe(8);
    await batches.return(undefined);
  });
  test("damaged samples stop the loader, or are left out and listed; other errors always stop it", async () => {
    const some = dataset(6, (i) => {
      if (i === 2) throw new FormatError("picture 2 is damaged");
      return i;
    });
    await expect(batchesOf(some, { batchSize: 3, epochs: 1 })).rejects.toThrow(/picture 2/);
    const [first, second] = await batchesOf(some, { batchSize: 3, epochs: 1, damaged: "skip" });
    expect(first!.samples).toEqual([0, 1]);
    expect(first!.skipped.map((s) => [s.index, s.error.message])).toEqual([[2, "picture 2 is damaged"]]);
    expect(second!.samples).toEqual([3, 4, 5]);
    const broken = dataset(6, () => {
      throw new TypeError("a mistake");
    });
    await expect(batchesOf(broken, { batchSize: 3, damaged: "skip" })).rejects.toThrow(TypeError);
  });
  test("an aborted signal ends the loader", async () => {
    const controller = new AbortController();
    const batches = loadBatches(numbers, { batchSize: 1, signal: controller.signal });
    await batches.next();
    controller.abort();
    await expect(batches.next()).rejects.toThrow(AbortError);
  });
  test("options that cannot be are refused", async () => {
    for (const options of [
      { batchSize: 0 },
      { batchSize: 11 },
      { batchSize: 1, shard: [2, 2] as const },
      { batchSize: 1, prefetch: -1 },
      { batchSize: 1, position: { epoch: 0, batch: 0.5 } },
    ])
      await expect(batchesOf(numbers, options)).rejects.toThrow(/loadBatches/);
    await expect(
      batchesOf(
        dataset(0, () => 0),
        { batchSize: 1 },
      ),
    ).rejects.toThrow(/no samples/);
  });
});

describe("worker threads", () => {
  const module = new URL("./worker-source.ts", import.meta.url);
  test("samples come from several threads, in order, with their epoch", async () => {
    const source = await openInWorkers<{ value: Float32Array; thread: number; epoch: number }>(
      { module, name: "squares", args: [20, 100] },
      2,
    );
    try {
      const batches = await batchesOf(source, { batchSize: 10, epochs: 2 });
      const samples = batches.flatMap((b) => b.samples);
      expect(samples.map((s) => s.value[0])).toEqual(
        [0, 1].flatMap(() => Array.from({ length: 20 }, (_, i) => i * i)),
      );
      expect(samples.map((s) => s.epoch)).toEqual([...Array(20).fill(0), ...Array(20).fill(1)]);
      expect(new Set(samples.map((s) => s.thread)).size).toBe(2);
    } finally {
      await source.close();
    }
  });
  test("errors keep their kind, a failing recipe is reported, and closing rejects what is under way", async () => {
    const source = await openInWorkers({ module, name: "squares", args: [9, 4] }, 1);
    await expect(source.get(4)).rejects.toThrow(FormatError);
    const pending = Promise.resolve(source.get(2));
    const rejected = expect(pending).rejects.toThrow(/worker ended/);
    await source.close();
    await rejected;
    await expect(openInWorkers({ module, name: "fails" }, 2)).rejects.toThrow(/no such folder/);
    await expect(openInWorkers({ module, name: "nothing" }, 1)).rejects.toThrow(
      /exports no function "nothing"/,
    );
  });
});

test("a program that only reads from workers lives until it is done, and then ends by itself", async () => {
  const program = `
    import { openInWorkers, readAll } from ${JSON.stringify(new URL("../../src/data/index.ts", import.meta.url).href)};
    const module = new URL(${JSON.stringify(new URL("./worker-source.ts", import.meta.url).href)});
    const source = await openInWorkers({ module, name: "squares", args: [5, 100] }, 1);
    console.log((await readAll(source)).length);
    source.get(1).catch(() => {});
    await source.close();
    console.log("closed");
  `;
  const args = ["--import", "tsx", "--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(stdout).toBe("5\nclosed\n");
});

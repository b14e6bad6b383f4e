import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { ArgumentError, LifetimeError, ShapeError } from "../../src/errors.ts";
import { type Tensor, tensor } from "../../src/tensor/index.ts";
import { openWorkers } from "../../src/workers/index.ts";

const module = new URL("./source.ts", import.meta.url);

describe("a function in a thread", () => {
  test("takes and gives tensors and typed arrays", async () => {
    const workers = await openWorkers<[{ x: Tensor; by: Float32Array }], { y: Tensor; raw: Float64Array }>({
      module,
      name: "scaled",
    });
    const by = Float32Array.of(3);
    const { y, raw } = await workers.run({ x: tensor([[1, 2]]).add(0), by });
    expect([y.shape, await y.toArray(), raw, by]).toEqual([[1, 2], [3, 6], Float64Array.of(1, 2), by]);
    await workers.close();
  });
  test("is made once in each thread where it is made", async () => {
    const workers = await openWorkers<[], number>({ module, name: "made", setup: [5] });
    expect([await workers.run(), await workers.run()]).toEqual([5, 6]);
    await workers.close();
  });
  test("throws errors of their own class, and says what it cannot take", async () => {
    const workers = await openWorkers<unknown[], never>({ module, name: "wrong" });
    await expect(workers.run()).rejects.toThrow(ShapeError);
    await expect(workers.run(() => 1)).rejects.toThrow(ArgumentError);
    await workers.close();
    await expect(workers.run()).rejects.toThrow(LifetimeError);
    await expect(openWorkers({ module, name: "nothing" })).rejects.toThrow(/exports no function "nothing"/);
  });
});

test("threads that are closed while they compute end when that is done, and the process lives", async () => {
  const index = new URL("../../src/workers/index.ts", import.meta.url).href;
  const program = `
    import { openWorkers } from ${JSON.stringify(index)};
    const workers = await openWorkers({ module: new URL(${JSON.stringify(module.href)}), name: "computes" }, { threads: 2 });
    const calls = Array.from({ length: 6 }, () => workers.run(30).then(() => "done", (e) => e.code));
    await Promise.race(calls.map((call) => call.then(() => {})));
    const more = Array.from({ length: 6 }, () => workers.run(30).then(() => "done", (e) => e.code));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await workers.close();
    console.log((await Promise.all(more)).join());
  `;
  const args = ["--import", "tsx", "--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(new Set(stdout.trim().split(","))).toContain("LIFETIME");
});

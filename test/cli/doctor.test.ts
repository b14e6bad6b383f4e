import { describe, expect, it, vi } from "vitest";
import { tweedie } from "../../src/cli/commands/index.ts";
import { runtimeOf, TESTED } from "../../src/cli/doctor/machine.ts";
import { CHECKS, type CheckResult, PROCESSOR_CHECKS, runChecks } from "../../src/cli/doctor/self-test.ts";
import { runCli } from "../../src/cli/run.ts";
import { sessionThreads } from "../../src/tensor/index.ts";
import { RUNTIMES } from "../../tools/runtimes/runtimes.ts";

async function resultsOf(checks: Parameters<typeof runChecks>[0]): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for await (const result of runChecks(checks)) results.push(result);
  return results;
}

describe("the self-test", () => {
  it("passes on a runtime that computes rightly", async () => {
    const results = await resultsOf([...CHECKS, ...PROCESSOR_CHECKS]);
    expect(results.filter(({ passed }) => !passed)).toEqual([]);
    expect(results).toHaveLength(8);
  });

  it("finds a runtime that computes wrongly", async () => {
    const { Tensor } = await import("../../src/tensor/index.ts");
    const toArray = Tensor.prototype.toArray;
    // As a broken driver would: one value in a hundred is wrong.
    const broken = vi.spyOn(Tensor.prototype, "toArray").mockImplementation(async function (
      this: InstanceType<typeof Tensor>,
    ) {
      return (await toArray.call(this)).map((v, i) => (i % 100 === 37 ? Number(v) + 1 : v)) as never;
    });
    try {
      const results = await resultsOf(CHECKS);
      const failed = results.filter(({ passed }) => !passed).map(({ name }) => name);
      expect(failed).toContain("matrix product against host arithmetic");
      expect(failed).toContain("convolution against host arithmetic");
      expect(failed).toContain("sampler against the known solution");
    } finally {
      broken.mockRestore();
    }
  });

  it("finds integer kernels that saturate, and half precision that reads as nothing", async () => {
    const { Tensor } = await import("../../src/tensor/index.ts");
    const toArray = vi.spyOn(Tensor.prototype, "toArray").mockImplementation(async function (
      this: InstanceType<typeof Tensor>,
    ) {
      return Array.from({ length: this.size }, () => (this.dtype === "i32" ? 8_160 : 2.38e-7));
    });
    try {
      const results = await resultsOf(PROCESSOR_CHECKS);
      expect(results.map(({ passed }) => passed)).toEqual([false, false]);
      expect(results[1]!.detail).toMatch(/expected -2088960, got 8160/);
    } finally {
      toArray.mockRestore();
    }
  });

  it("goes on after a check that fails", async () => {
    const wrong = { name: "wrong", run: () => Promise.reject(new Error("not so\nat all")) };
    const right = { name: "right", run: async () => "so" };
    expect(await resultsOf([wrong, right])).toMatchObject([
      { name: "wrong", passed: false, detail: "not so" },
      { name: "right", passed: true, detail: "so" },
    ]);
  });
});

describe("the runtime", () => {
  it("is what it is, not the Node that it is compatible with, and tested or not", () => {
    expect(runtimeOf({ node: "24.21.0" })).toEqual({ name: "node", version: "24.21.0", tested: true });
    expect(runtimeOf({ node: "23.1.0" })).toMatchObject({ tested: false });
    expect(runtimeOf({ node: "22.0.0", bun: "1.4.5" })).toMatchObject({ name: "bun", tested: true });
    expect(runtimeOf({ node: "22.0.0", deno: "3.0.0" })).toMatchObject({ name: "deno", tested: false });
  });

  it("is tested as the matrix of runtimes says", () => {
    const tried = RUNTIMES.filter(({ emulated }) => !emulated).map(({ package: spec }) => spec);
    const majors = (name: RegExp): number[] =>
      tried.filter((spec) => name.test(spec)).map((spec) => Number(/@(\d+)\.[\d.]+$/.exec(spec)![1]));
    expect({ node: majors(/^node/), bun: majors(/bun/), deno: majors(/deno/) }).toEqual(TESTED);
  });
});

describe("tweedie doctor", () => {
  it("finds machine, devices and checkpoints, in lines of JSON, and exits with 0", async () => {
    const out: string[] = [];
    const log = vi.spyOn(console, "log").mockImplementation((text: string) => void out.push(text));
    const code = await runCli(tweedie, ["doctor", "--json"]);
    log.mockRestore();
    const lines = out.map((line) => JSON.parse(line));
    const of = (type: string) => lines.filter((line) => line.type === type);
    expect(of("machine")).toMatchObject([
      { versions: { node: process.version }, processors: expect.any(Number) },
    ]);
    expect(of("threads")).toMatchObject([{ threads: (await sessionThreads()).threads }]);
    expect(of("kernels")).toMatchObject([{ exactSignedBytes: expect.any(Boolean) }]);
    expect(of("device")[0]).toMatchObject({ name: "cpu", works: true });
    expect(of("checkpoints")[0].checkpoints.every((c: { intact: boolean }) => c.intact)).toBe(true);
    expect(of("check").length).toBe(9);
    expect(of("result")).toEqual([{ type: "result", passed: true, failures: 0 }]);
    expect(code).toBe(0);
  });

  it("says which devices there are when another is asked for", async () => {
    const errors: string[] = [];
    const code = await runCli(tweedie, ["doctor", "--device", "abacus"], {
      out: () => undefined,
      error: (t) => errors.push(t),
    });
    expect(code).toBe(2);
    expect(errors.join()).toMatch(/"abacus" is not available here; available: cpu/);
  });
});

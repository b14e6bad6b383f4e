/** Every program of `examples/` runs as README says, on one core's worth of work, and finds what it is there to show. */
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
let out = "";
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), "tweedie-examples-"));
});
afterAll(() => rm(out, { recursive: true, force: true }));

async function run(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", join("examples", `${name}.ts`), ...args],
    { cwd: ROOT },
  );
  return stdout;
}

/** The numbers of a line that begins so. */
const numbers = (text: string, beginning: string): number[] => {
  const line = text.split("\n").find((l) => l.startsWith(beginning)) ?? "";
  return [...line.slice(beginning.length).matchAll(/-?\d+(?:\.\d+)?(?:e[-+]?\d+)?/g)].map(Number);
};

const EXAMPLES: Record<string, (run: (...args: string[]) => Promise<string>) => Promise<void>> = {
  moons: async (program) => {
    const [, distance] = numbers(await program(), "mean distance of");
    expect(distance).toBeGreaterThan(0);
    expect(distance).toBeLessThan(0.2); // of noise: 0.6
  },
  classes: async (program) => {
    const path = join(out, "classes.png");
    const text = await program("12", path);
    expect(numbers(text, "step 12: loss")[0]).toBeLessThan(numbers(text, "step 1: loss")[0]!);
    expect([...(await readFile(path)).subarray(1, 4)]).toEqual([...Buffer.from("PNG")]);
  },
  lora: async (program) =>
    expect(await program()).toContain("base untouched: true; both ways agree: true; merged: true"),
  gradients: async (program) => {
    const text = await program();
    expect(numbers(text, "straight-through by a rule:")).toEqual([0, 4]);
    expect(numbers(text, "straight-through by stopGradient:")).toEqual([0, 4]);
    expect(numbers(text, "second derivative:")).toEqual([12, 18]);
    expect(numbers(text, "Hessian by a vector:")).toEqual([6, 0]);
    expect(numbers(text, "Jacobian:")).toEqual([2, 0, 0, 0, 4, 0, 0, 0, 6]);
    expect(numbers(text, "pulled back:")).toEqual([4, 5]);
    expect(numbers(text, "norm of each sample's gradient:")).toHaveLength(5);
  },
  "through-a-model": async (program) => {
    const text = await program();
    expect(numbers(text, "feature loss")[1]).toBeGreaterThan(0);
    expect(text).toContain("as the library's sampler: true");
    expect(numbers(text, "adapters with a gradient:")[0]).toBeGreaterThan(0);
  },
  onnx: async (program) => {
    const text = await program(join(out, "network.onnx"));
    expect(numbers(text, "largest difference")[0]).toBeLessThan(1e-5);
    expect(text).toMatch(/a training step: \d+ inputs, \d+ outputs/);
    expect(text).toContain("missing: timestep");
  },
  "rows-from-disk": async (program) => {
    const text = await program("20000");
    expect(numbers(text, "step 200: loss")[0]).toBeLessThan(0.01);
  },
  splats: async (program) => {
    const text = await program("60");
    expect(numbers(text, "step 60: squared error")[0]).toBeLessThan(
      numbers(text, "step 0: squared error")[0]! / 4,
    );
  },
  "half-precision": async (program) => {
    const text = await program();
    expect(numbers(text, "outputs as f16: largest difference")[0]).toBeLessThan(0.01);
    expect(text).toContain("with masters in f32");
    expect(numbers(text, "gradients differ by")[0]).toBeLessThan(0.02);
    expect(text).toContain("DTypeError: add(f32[1] and f16[1]): dtypes differ");
  },
  checkpointing: async (program) => {
    const text = await program("3");
    expect(numbers(text, "kept: loss")).toEqual(numbers(text, "computed again: loss"));
    expect(numbers(text, "gradients differ by at most")[0]).toBeLessThan(1e-7);
  },
};

describe("an example", () => {
  it("has a test, whichever it is", () => {
    const there = readdirSync(join(ROOT, "examples")).filter((name) => name.endsWith(".ts"));
    expect(there.map((name) => name.slice(0, -3)).sort()).toEqual(Object.keys(EXAMPLES).sort());
  });
  for (const [name, check] of Object.entries(EXAMPLES))
    it(`runs: ${name}`, () => check((...args) => run(name, ...args)));
});

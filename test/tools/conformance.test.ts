import { execFile } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { readSafetensors, writeSafetensors } from "../../src/io/index.ts";
import { findCases, recognise, recogniseNetwork } from "../../tools/conformance/cases.ts";
import { compareNumber, compareTensor } from "../../tools/conformance/compare.ts";
import { caseReport, passed, summaryReport, toJson } from "../../tools/conformance/report.ts";
import { runCase } from "../../tools/conformance/run.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const at = useTemporaryFolder();
const fixture = (path: string): string => fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url));
const runner = fileURLToPath(new URL("../../tools/conformance/run.ts", import.meta.url));

/** Copies a case under a name that says nothing. */
async function copied(source: string, name = "x"): Promise<string> {
  await mkdir(at(name), { recursive: true });
  await cp(fixture(source), at(name), { recursive: true });
  return at(name);
}

/** Changes one value of a tensor in a safetensors file. */
async function disturb(file: string, tensor: string, by: number): Promise<void> {
  const { tensors } = await readSafetensors(file);
  const found = tensors.get(tensor)!;
  if ("bytes" in found) throw new Error(`${tensor} is of type ${found.dtype}`);
  found.data[0] = (found.data[0] as number) + by;
  await writeSafetensors(file, tensors);
}

/** Exit status and output of the command. */
async function command(...args: string[]): Promise<{ code: number; text: string }> {
  const done = promisify(execFile)(process.execPath, ["--import", "tsx", runner, ...args]);
  return done.then(
    ({ stdout }) => ({ code: 0, text: stdout }),
    ({ code, stdout, stderr }) => ({ code, text: stdout + stderr }),
  );
}

describe("comparisons", () => {
  it("are relative to the reference's maximum", () => {
    const check = compareTensor("x", "output", 1e-4, [1, 200.01], [1, 200]);
    expect(check.maxAbsolute).toBeCloseTo(0.01, 10);
    expect(check.relative).toBeCloseTo(5e-5, 10);
    expect(check.ok).toBe(true);
    expect(compareTensor("x", "output", 1e-4, [1.03, 200], [1, 200]).ok).toBe(false);
  });

  it("fail for NaN, for infinities and for another number of values", () => {
    expect(compareTensor("x", "output", 1e-4, [1, Number.NaN], [1, 2]).ok).toBe(false);
    expect(compareTensor("x", "output", 1e-4, [1, 2], [Number.NaN, 2]).ok).toBe(false);
    expect(compareTensor("x", "output", 1e-4, [1, Number.POSITIVE_INFINITY], [1, 2]).ok).toBe(false);
    expect(compareTensor("x", "output", 1e-4, [1], [1, 2]).ok).toBe(false);
    expect(compareNumber("x", "loss", 1e-4, Number.NaN, 1).ok).toBe(false);
  });

  it("take a reference below the floor for rounding noise", () => {
    expect(compareNumber("x", "gradient norm", 1e-3, 2e-7, 1e-7, { floor: 0.01 }).ok).toBe(true);
    expect(compareNumber("x", "gradient norm", 1e-3, 2e-7, 1e-7).ok).toBe(false);
    expect(compareNumber("x", "gradient norm", 1e-3, 0.1, 1e-7, { floor: 0.01 }).ok).toBe(false);
  });
});

describe("a case is recognised by its files", () => {
  it.each([
    ["unet2d-condition", "UNet2DConditionModel"],
    ["unet2d-condition-sd2", "UNet2DConditionModel"],
    ["unet2d", "UNet2DModel"],
    ["controlnet", "ControlNetModel"],
    ["autoencoder-kl", "AutoencoderKL"],
    ["dit-transformer2d", "Transformer2DModel"],
  ])("%s is a %s", async (name, network) => {
    const config = JSON.parse(await readFile(fixture(`networks/${name}/config.json`), "utf8"));
    expect(recogniseNetwork(config)).toBe(network);
    expect(recogniseNetwork({ _class_name: network })).toBe(network);
  });

  it("says what is there when it is no case", () => {
    const config = { _class_name: "StableCascadeUNet", c_in: 16 };
    expect(() => recognise({ config, expected: new Map() })).toThrow(/StableCascadeUNet.*c_in/);
  });
});

describe("a case", () => {
  it("passes under any name, with every tensor and every gradient norm compared", async () => {
    const result = await runCase(await copied("networks/unet2d"), at());
    expect(result.error).toBeUndefined();
    expect(passed(result)).toBe(true);
    const norms = JSON.parse(await readFile(fixture("networks/unet2d/expected.json"), "utf8")).gradNorms;
    expect(result.checks.filter((c) => c.kind === "gradient norm")).toHaveLength(Object.keys(norms).length);
    expect(caseReport(result, false)).toContain("out.sample");
    expect(caseReport(result, false).split("\n").length).toBeLessThan(20);
    expect(caseReport(result, true).split("\n").length).toBeGreaterThan(Object.keys(norms).length);
  });

  it("fails when an output or a gradient is not what is expected", async () => {
    const path = await copied("networks/dit-transformer2d");
    await disturb(join(path, "expected.safetensors"), "out.sample", 0.01);
    await disturb(join(path, "expected.safetensors"), "grad.param.proj_out_2.bias", 1);
    const result = await runCase(path, at());
    const wrong = result.checks.filter((c) => !c.ok).map((c) => c.name);
    expect(wrong).toEqual(["out.sample", "out.sample (training graph)", "grad.param.proj_out_2.bias"]);
    expect(passed(result)).toBe(false);
    expect(summaryReport([result])).toContain("0 of 1 cases passed");
  });

  it("fails with the reason when it cannot be run", async () => {
    const path = await copied("networks/dit-transformer2d");
    await rm(join(path, "expected.safetensors"));
    const missing = await runCase(path, at());
    expect(missing.error).toContain("expected.safetensors");
    expect(passed(missing)).toBe(false);
    await writeFile(join(path, "config.json"), "{");
    expect((await runCase(path, at())).error).toBeDefined();
    expect(JSON.parse(toJson([missing]))[0]).toMatchObject({ passed: false, name: "x" });
  });

  it("fails when it holds nothing to compare with, or no object as its configuration", async () => {
    const path = await copied("networks/dit-transformer2d");
    const file = join(path, "expected.safetensors");
    const { tensors } = await readSafetensors(file);
    await writeSafetensors(file, new Map([...tensors].filter(([name]) => name.startsWith("in."))));
    expect((await runCase(path, at())).error).toMatch(/no output \(out\.\*\), only in\./);
    await rm(join(path, "model.safetensors"));
    expect((await runCase(path, at())).error).toMatch(/there is no file .*model\.safetensors/);
    await writeFile(join(path, "config.json"), "null");
    expect((await runCase(path, at())).error).toMatch(/config\.json: expected a JSON object, got null/);
  });

  it("is found at any depth, and may be the folder itself", async () => {
    const path = await copied("torch-rng", "deep/er/x");
    await mkdir(at("deep/notes"));
    await writeFile(at("deep/notes/models.json"), "{}");
    expect(await findCases(at())).toEqual([path]);
    expect(await findCases(path)).toEqual([path]);
  });
});

describe("npm run conformance", () => {
  it("ends with 0, or with 1 for a wrong number, and writes JSON", async () => {
    const path = await copied("torch-rng");
    const good = await command(at(), "--json", at("out.json"));
    expect(good.code).toBe(0);
    expect(good.text).toContain("1 of 1 cases passed, 60 comparisons");
    expect(JSON.parse(await readFile(at("out.json"), "utf8"))[0].checks).toHaveLength(60);
    await disturb(join(path, "expected.safetensors"), "rand.42.5", 1e-6);
    const bad = await command(at());
    expect(bad.code).toBe(1);
    expect(bad.text).toContain("! rand.42.5");
  });

  it("ends with 2 when there is nothing to run", async () => {
    expect((await command(at())).code).toBe(2);
    expect((await command(at("nowhere"))).code).toBe(2);
    expect((await command(runner)).code).toBe(2);
    expect((await command("--nonsense")).code).toBe(2);
  });
});

/**
 * The operations in a real browser: every case must give the numbers of Node's CPU, gradients included. Skipped, with
 * a message, where there is no Chromium; TWEEDIE_REQUIRE_BROWSER=1 makes that a failure.
 */
import type { Browser, Page as Tab } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assertClose } from "../tensor/op-check.ts";
import { ALL_CASES } from "./cases.ts";
import { findChromium, startChromium } from "./chromium.ts";
import type { Page } from "./page.ts";
import { openSite, type Site } from "./site.ts";
import { drawTrials, type Result, runHalf, runTrial, trainTiny } from "./trials.ts";

declare const tweedie: Page;

const chromium = findChromium();
const required = process.env.TWEEDIE_REQUIRE_BROWSER === "1";
if (!chromium && !required)
  console.warn("SKIPPED: the browser suite needs Chromium; install one or name it in CHROMIUM_PATH");

type Tested = "wasm" | "webgpu";

/** Largest error beside Node's CPU. The wasm kernels are the CPU's; WGSL allows 2^-11 in sin and cos. */
function toleranceOf(device: Tested, name: string): number {
  if (device === "wasm") return 1e-5;
  return /^(sin|cos|tan) /.test(name) ? 2 ** -11 : 1e-4;
}

/** What the WebGPU device cannot run, in the words of onnxruntime-web or of our own refusal. Such cases are counted, not compared. */
const WEBGPU_GAPS: Record<string, RegExp> = {
  "ConvTranspose over three axes": /Only Conv2d or Conv1d are supported/,
  "grouped Conv over three axes": /Conv3D does not support grouped convolution/,
  "indices of MaxPool": /The Indices output is not supported/,
  "f64 (WGSL has none)": /IsNodeCompatibleWithProvider/,
  "f16 (the adapter has no shader-f16)": /requires f16 but the device does not support it/,
  "MatMulNBits (not enabled by our capabilities)": /"webgpu" has no MatMulNBits/,
};
const isGap = (message: string): boolean => Object.values(WEBGPU_GAPS).some((words) => words.test(message));

/** Everything that differs from Node, in words. */
function differences(device: Tested, expected: readonly Result[], actual: readonly Result[]): string[] {
  return expected.flatMap((want, i) => {
    const got = actual[i]!;
    try {
      if (want.error || got.error) throw new Error(got.error ?? `Node alone fails: ${want.error}`);
      for (const part of ["values", "gradients"] as const) {
        expect(got[part]?.length).toBe(want[part]?.length);
        want[part]?.forEach((x, k) => {
          assertClose(got[part]![k]!, x, toleranceOf(device, want.name), `${part} ${k}`);
        });
      }
      return [];
    } catch (error) {
      return [`${want.name}: ${(error as Error).message}`];
    }
  });
}

/** Says which gaps there were, and returns what cannot be explained by them. */
function unexplained(device: Tested, trials: number, found: readonly string[]): string[] {
  if (device === "wasm") return [...found];
  for (const [gap, words] of Object.entries(WEBGPU_GAPS)) {
    const hit = new Set(found.filter((f) => words.test(f)).map((f) => f.split(" #")[0]));
    if (hit.size > 0) console.log(`WebGPU has no kernel for ${gap}: ${[...hit].join(", ")}`);
  }
  console.log(`WebGPU: ${trials - found.filter(isGap).length} of ${trials} problems compared`);
  return found.filter((f) => !isGap(f));
}

describe.skipIf(!chromium && !required)("in Chromium", () => {
  let site: Site;
  let nodeResults: Result[];
  let nodeLosses: number[];

  beforeAll(async () => {
    if (!chromium) throw new Error("TWEEDIE_REQUIRE_BROWSER=1, but no Chromium was found");
    site = await openSite();
    nodeResults = [];
    for (const trial of drawTrials(ALL_CASES)) nodeResults.push(await runTrial(trial));
    nodeLosses = await trainTiny();
  });
  afterAll(async () => site?.close());

  describe.each([
    { device: "wasm", webgpu: false },
    { device: "webgpu", webgpu: true },
  ] as const)("on $device", ({ device, webgpu }) => {
    let browser: Browser;
    let tab: Tab;
    const complaints: string[] = [];
    beforeAll(async () => {
      browser = await startChromium(chromium!, { webgpu });
      tab = await browser.newPage();
      tab.setDefaultTimeout(0); // the test's own limit is enough
      tab.on("pageerror", (error) => complaints.push(String(error)));
      tab.on("console", (m) => m.type() === "error" && complaints.push(m.text()));
      await tab.goto(site.url);
      await tab.waitForFunction("globalThis.tweedie");
    });
    afterAll(async () => browser?.close());

    it("is offered", async (context) => {
      const devices = await tab.evaluate(() => tweedie.devices());
      expect(devices[0]).toBe("wasm");
      if (webgpu && !devices.includes("webgpu")) context.skip("this Chromium offers no WebGPU adapter");
      if (webgpu) console.log(`WebGPU adapter: ${await tab.evaluate(() => tweedie.adapter())}`);
      expect(devices).toContain(device);
    });

    it("computes what Node computes, gradients included", async (context) => {
      const devices = await tab.evaluate(() => tweedie.devices());
      if (!devices.includes(device)) context.skip("no adapter");
      const results = await tab.evaluate((d) => tweedie.trials(d), device);
      expect(results.map((r) => r.name)).toEqual(nodeResults.map((r) => r.name));
      const found = differences(device, nodeResults, results);
      expect(unexplained(device, results.length, found)).toEqual([]);
    });

    it("trains with jit", async (context) => {
      const devices = await tab.evaluate(() => tweedie.devices());
      if (!devices.includes(device)) context.skip("no adapter");
      const losses = await tab.evaluate((d) => tweedie.train(d), device);
      assertClose(losses, nodeLosses, toleranceOf(device, "losses"), "losses");
      expect(losses).toEqual([...losses].sort((a, b) => b - a)); // every step improves
    });

    it("takes f16 and gives it back, or says what to do without it", async (context) => {
      const devices = await tab.evaluate(() => tweedie.devices());
      if (!devices.includes(device)) context.skip("no adapter");
      const found = await tab.evaluate((d) => tweedie.half(d), device);
      if (webgpu && typeof found === "string") expect(found).toMatch(/shader-f16.*cast to f32/s);
      else expect(found).toEqual(await runHalf());
      expect(await runHalf()).toEqual([
        [4, 6.5],
        [8, 13],
        [4, 5, 4.5],
      ]);
    });

    it("asks for no file that is not served, and logs no error", () => {
      expect(site.missing).toEqual([]);
      expect(complaints.filter((c) => !isGap(c))).toEqual([]);
    });
  });

  it.each([
    { from: "the bundle", options: { threads: 2 } },
    { from: "wasmPaths", options: { threads: 2, wasmPaths: "/ort/" } },
  ])("runs on two threads with the runtime from $from", async ({ options }) => {
    const browser = await startChromium(chromium!, { webgpu: false });
    try {
      const tab = await browser.newPage();
      tab.setDefaultTimeout(0); // the test's own limit is enough
      const files: string[] = [];
      const errors: string[] = [];
      tab.on("request", (r) => files.push(new URL(r.url()).pathname));
      tab.on("pageerror", (e) => errors.push(String(e)));
      tab.on("console", (m) => m.type() === "error" && errors.push(m.text()));
      await tab.goto(site.url);
      await tab.waitForFunction("globalThis.tweedie");
      expect(await tab.evaluate(() => tweedie.isolated())).toBe(true);
      await tab.evaluate((o) => tweedie.configure(o), options);
      assertClose(await tab.evaluate(() => tweedie.train("wasm")), nodeLosses, 1e-5, "losses");
      expect(errors).toEqual([]);
      expect(files.filter((f) => f.endsWith(".wasm"))).toHaveLength(1);
      expect(files.some((f) => f.startsWith("/ort/"))).toBe("wasmPaths" in options);
      expect(await tab.evaluate(() => tweedie.threads())).toBe(2);
      expect(tab.workers().length).toBeGreaterThan(0);
    } finally {
      await browser.close();
    }
  });
});

import { existsSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { AbortError } from "../../src/errors.ts";
import { tourDecomp } from "../../src/systems/decomp/tour.ts";
import { tourDiffLoss } from "../../src/systems/diffloss/tour.ts";
import { SYSTEMS } from "../../src/systems/index.ts";
import { tourNcpDpo } from "../../src/systems/ncp-dpo/tour.ts";
import { tourNoiseDa } from "../../src/systems/noise-da/tour.ts";
import { tourQDiT } from "../../src/systems/q-dit/actions.ts";
import { tourSDSeg } from "../../src/systems/sdseg/tour.ts";
import type { TourResult } from "../../src/systems/tour.ts";
import { tourUMD } from "../../src/systems/umd/tour.ts";
import { tourStops } from "../../src/tour/index.ts";
import { sheet } from "../../src/tour/sheet.ts";
import { trainingTour } from "../../src/tour/training/tour.ts";
import type { Figure, WorkEvent } from "../../src/work.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const CONTEXT = { seed: 0, threads: 1 };

/** Takes a tour, and checks what holds of all of them. */
async function toured(run: AsyncGenerator<WorkEvent, TourResult>) {
  const events: WorkEvent[] = [];
  let result: TourResult | undefined;
  while (!result) {
    const { done, value } = await run.next();
    if (done) result = value;
    else events.push(value);
  }
  const progress = events.flatMap((event) => (event.type === "progress" ? [event] : []));
  expect(progress.map(({ done }) => done)).toEqual(progress.map(({ done }) => done).sort((a, b) => a - b));
  expect(new Set(progress.map(({ total }) => total)).size).toBe(1);
  expect(progress.at(-1)!.done).toBeLessThanOrEqual(progress.at(-1)!.total);
  const figures = events.flatMap((event) => (event.type === "figure" ? [event] : []));
  for (const figure of figures) checkFigure(figure);
  expect(result.quality.every(({ value }) => Number.isFinite(value))).toBe(true);
  const quality = Object.fromEntries(result.quality.map((one) => [one.name, one]));
  return { events, figures, result, quality };
}

function checkFigure(figure: Figure): void {
  const { pictures, columns, rows } = figure;
  const count = typeof columns === "number" ? columns : columns.length;
  expect(pictures.length % count).toBe(0);
  if (rows) expect(rows).toHaveLength(pictures.length / count);
  expect(sheet(figure).width).toBeGreaterThan(0);
}

describe("tours of the systems", () => {
  it("need files that ship", () => {
    const files = SYSTEMS.flatMap(({ tour }) => tour?.files ?? []);
    expect(files.length).toBeGreaterThan(0);
    expect(files.filter((file) => !existsSync(root + file))).toEqual([]);
  });

  it("are stops by their names, with the training at the end", () => {
    const names = tourStops(SYSTEMS, 1).map(({ name }) => name);
    const able = SYSTEMS.filter(({ tour }) => tour).map(({ name }) => name);
    expect(names).toEqual([...able, "training"]);
  });

  it("SDSeg: masks near the truth, in one step and in several", async () => {
    const size = { pictures: 6, batch: 3, steps: 4 };
    const { figures, quality, result } = await toured(tourSDSeg(CONTEXT, size));
    expect(result.did).toContain("6 procedural lesions");
    expect(quality["IoU, one step"]!.value).toBeGreaterThan(quality["IoU, one step"]!.baseline!.value);
    expect(quality["Dice, one step"]!.value).toBeLessThan(1);
    expect(quality["Dice, one step"]!.value).toBeGreaterThan(quality["IoU, one step"]!.value);
    expect(quality["time for a picture"]!.baseline!.value).toBeGreaterThan(0);
    expect(figures[0]!.columns).toEqual(["picture", "truth", "one step", "compared", "4 steps"]);
    const again = await toured(tourSDSeg(CONTEXT, size));
    expect(again.quality["Dice, one step"]).toEqual(quality["Dice, one step"]);
    const other = await toured(tourSDSeg({ ...CONTEXT, seed: 1 }, size));
    expect(other.quality["Dice, one step"]).not.toEqual(quality["Dice, one step"]);
  });

  it("UMD: hidden patches filled in, pictures of every class", async () => {
    const { figures, quality } = await toured(tourUMD(CONTEXT, { perClass: 1, steps: 2, filled: 40 }));
    const error = quality["squared error where hidden"]!;
    expect(error.value).toBeLessThan(0.7 * error.baseline!.value);
    expect(figures.map(({ name }) => name)).toEqual(["samples", "filled-in"]);
    expect(figures[0]!.pictures).toHaveLength(10);
    expect(quality["right class"]).toMatchObject({
      better: "higher",
      baseline: { name: "chance", value: 0.1 },
    });
  });

  it("Q-DiT: smaller files that draw nearly the same", async () => {
    const { events, figures, quality } = await toured(tourQDiT(CONTEXT, { pictures: 10, steps: 2 }));
    const file = quality["file, W4A8"]!;
    expect(file.value * 1000).toBe(statSync(`${root}checkpoints/q-dit-fashion-w4a8.safetensors`).size);
    expect(file.baseline!.value * 1000).toBe(statSync(`${root}checkpoints/q-dit-fashion.safetensors`).size);
    const [w8, w4] = ["W8A8", "W4A8"].map((name) => quality[`likeness to full precision, ${name}`]!.value);
    expect(w8).toBeGreaterThan(w4!);
    expect(figures[0]!.rows).toEqual(["full precision", "W8A8", "W4A8"]);
    const table = events.find((event) => event.type === "table");
    expect(table?.type === "table" && table.table.rows).toHaveLength(3);
  });

  it("Decomp: blocks taken apart, overlapping less than if both showed all", async () => {
    const { figures, quality, result } = await toured(tourDecomp(CONTEXT, { pictures: 10, steps: 5 }));
    expect(result.did).toContain("10 pictures of two blocks");
    expect(quality["overlap of components"]!.value).toBeLessThan(0.3);
    expect(quality["component mIoU"]!.baseline!.value).toBeCloseTo(0.5, 1);
    expect(figures[0]!.columns).toEqual([
      "picture",
      "component 1",
      "component 2",
      "together",
      "with the next",
    ]);
    expect(figures[0]!.pictures).toHaveLength(8 * 5);
  });

  it("DiffLoss: noise and rain are taken away", async () => {
    const { figures, quality } = await toured(tourDiffLoss(CONTEXT, { pictures: 2, side: 48 }));
    for (const name of ["PSNR, noise of sigma 25", "PSNR, rain"])
      expect(quality[name]!.value).toBeGreaterThan(quality[name]!.baseline!.value + 2);
    expect(figures[0]!.columns).toEqual(["degraded", "restored", "truth"]);
    expect(figures[0]!.pictures).toHaveLength(12);
  });

  it("Noise-DA: the adapted network takes more of the camera noise away than its twin", async () => {
    const { figures, quality } = await toured(tourNoiseDa(CONTEXT, { pictures: 2, side: 48 }));
    const { value, baseline } = quality["PSNR, adapted"]!;
    expect(value).toBeGreaterThan(baseline!.value);
    expect(figures[0]!.columns).toEqual(["degraded", "not adapted", "adapted", "truth"]);
    expect(figures[0]!.pictures).toHaveLength(8);
  });

  it("NCP-DPO: pictures of the same seeds score higher with the LoRA", async () => {
    const { figures, quality } = await toured(tourNcpDpo(CONTEXT, { prompts: 16, steps: 8 }));
    expect(quality["net margin win against the reference"]!.value).toBeGreaterThan(0);
    expect(figures[0]!.columns).toEqual(["reference", "DPO", "NCP-DPO"]);
  });

  it("training: removes noise that it could not remove before", async () => {
    const { events, figures, quality } = await toured(trainingTour(12).run(CONTEXT));
    const { value, baseline } = quality["denoised pictures"]!;
    expect(value).toBeGreaterThan(baseline!.value);
    expect(figures.map(({ name }) => name)).toEqual(["denoised", "samples"]);
    expect(events.find((event) => event.type === "chart")).toMatchObject({
      svg: expect.stringMatching(/^<svg/),
    });
  });

  it("end with an AbortError when they are stopped", async () => {
    const controller = new AbortController();
    controller.abort();
    const context = { ...CONTEXT, signal: controller.signal };
    await expect(toured(tourSDSeg(context, { pictures: 2, batch: 2, steps: 2 }))).rejects.toThrow(AbortError);
    await expect(toured(tourUMD(context, { perClass: 1, steps: 2 }))).rejects.toThrow(AbortError);
    await expect(toured(tourQDiT(context, { pictures: 2, steps: 2 }))).rejects.toThrow(AbortError);
    await expect(toured(tourDecomp(context, { pictures: 2, steps: 2 }))).rejects.toThrow(AbortError);
    await expect(toured(tourDiffLoss(context, { pictures: 2, side: 48 }))).rejects.toThrow(AbortError);
    await expect(toured(tourNoiseDa(context, { pictures: 2, side: 48 }))).rejects.toThrow(AbortError);
    await expect(toured(trainingTour(3).run(context))).rejects.toThrow(AbortError);
  });
});

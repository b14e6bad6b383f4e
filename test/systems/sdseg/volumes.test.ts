import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { intensityRange, openSegmented } from "../../../src/data/index.ts";
import { dice, overlapCounts } from "../../../src/metrics/index.ts";
import { evaluateAction } from "../../../src/systems/sdseg/actions.ts";
import { toSample } from "../../../src/systems/sdseg/data.ts";
import { createSDSeg, PRESETS, sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { evaluateOptions } from "../../../src/systems/sdseg/options.ts";
import { predictWith } from "../../../src/systems/sdseg/scores.ts";
import { openSegmenter } from "../../../src/systems/sdseg/use.ts";

const [SIDE, DEPTH] = [16, 3];
const VOXELS = SIDE * SIDE * DEPTH;

/** A NIfTI-1 file of 16-bit voxels. */
function nifti(values: readonly number[], depth = DEPTH): Uint8Array {
  const bytes = new Uint8Array(352 + 2 * values.length);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 348, true);
  [3, SIDE, SIDE, depth, 1, 1, 1, 1].forEach((d, i) => {
    view.setInt16(40 + 2 * i, d, true);
  });
  view.setInt16(70, 4, true);
  view.setInt16(72, 16, true);
  view.setFloat32(108, 352, true);
  bytes.set(Buffer.from("n+1\0"), 344);
  values.forEach((v, i) => {
    view.setInt16(352 + 2 * i, v, true);
  });
  return bytes;
}

/** An uncompressed 8-bit TIFF file of several pages. */
function tiff(values: readonly number[]): Uint8Array {
  const [plane, entries] = [SIDE * SIDE, 8];
  const directory = 2 + 12 * entries + 4;
  const bytes = new Uint8Array(8 + DEPTH * (directory + plane));
  const view = new DataView(bytes.buffer);
  bytes.set([0x49, 0x49, 42, 0]);
  view.setUint32(4, 8, true);
  for (let page = 0; page < DEPTH; page++) {
    const at = 8 + page * (directory + plane);
    const tags = [
      [256, SIDE],
      [257, SIDE],
      [258, 8],
      [259, 1],
      [262, 1],
      [273, at + directory],
      [278, SIDE],
      [279, plane],
    ] as const;
    view.setUint16(at, tags.length, true);
    tags.forEach(([tag, value], i) => {
      view.setUint16(at + 2 + 12 * i, tag, true);
      view.setUint16(at + 4 + 12 * i, 4, true);
      view.setUint32(at + 6 + 12 * i, 1, true);
      view.setUint32(at + 10 + 12 * i, value, true);
    });
    view.setUint32(at + directory - 4, page + 1 < DEPTH ? at + directory + plane : 0, true);
    bytes.set(values.slice(page * plane, (page + 1) * plane), at + directory);
  }
  return bytes;
}

const image = Array.from({ length: VOXELS }, (_, i) => (i * 37) % 200);
// The middle slice has no foreground at all.
const labels = image.map((v, i) => (Math.floor(i / SIDE / SIDE) !== 1 && v > 90 ? 1 : 0));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-volumes-"));
  for (const name of ["images", "masks"]) await mkdir(join(folder, name));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const put = async (name: string, picture: Uint8Array, mask: Uint8Array): Promise<void> => {
  await writeFile(join(folder, "images", name), picture);
  await writeFile(join(folder, "masks", name), mask);
};

describe("evaluating volumes", () => {
  it.each([
    ["NIfTI", "head.nii.gz", (values: readonly number[]) => gzipSync(nifti(values))],
    ["a TIFF stack", "head.tif", tiff],
  ])("of %s goes slice by slice, with one Dice over all slices", async (_, name, encode) => {
    await put(name, encode(image), encode(labels.map((v) => 255 * v)));
    const model = createSDSeg(PRESETS.smoke, 3);
    const file = join(folder, "model.safetensors");
    const origin = { name: "test", training: "none", seed: "3", date: "2026-01-01", scale: 1 };
    await sdsegFile.save(file, model, origin, "f32");

    const run = evaluateAction(evaluateOptions.parse({ data: folder, model: file }), {});
    let metrics: Readonly<Record<string, number>> | undefined;
    for (;;) {
      const { done, value } = await run.next();
      if (!done) continue;
      metrics = value.metrics;
      break;
    }

    const slices = await openSegmented(folder);
    expect(slices.length).toBe(DEPTH);
    const segmenter = openSegmenter(model);
    const found: number[] = [];
    for (let z = 0; z < DEPTH; z++) {
      const [prediction] = await predictWith(segmenter)([
        toSample(await slices.get(z), { config: model.config }),
      ]);
      found.push(...Array.from(prediction!.mask));
    }
    await segmenter.close();
    const [, whole] = overlapCounts(found, Int32Array.from(labels), 2);
    expect(dice(whole!)).toBeGreaterThan(0);
    expect(metrics!.dice).toBeCloseTo(dice(whole!), 10);
  });

  it("brings voxels of any unit to brightness over the whole volume, whatever one bright corner holds", async () => {
    const corner = image.map((v, i) => (i < 2 ? 32_000 : 10 * v - 1000));
    await put("head.nii", nifti(corner), nifti(labels));
    const valuesOf = async (range?: string) => {
      const slices = await openSegmented(folder, range === undefined ? {} : { range: intensityRange(range) });
      return (await Promise.all([0, 1, 2].map(async (z) => [...(await slices.get(z)).image.data]))).flat();
    };
    const most = Math.max(...image);
    const robust = await valuesOf();
    robust.forEach((v, i) => {
      expect(Math.abs(v - Math.min(1, i < 2 ? 1 : image[i]! / most))).toBeLessThan(0.02);
    });
    const told = await valuesOf("-1000:990");
    told.forEach((v, i) => {
      expect(v).toBeCloseTo(i < 2 ? 1 : image[i]! / 199, 5);
    });
    expect((await valuesOf("0%:100%"))[5]).toBeLessThan(0.1); // the corner decides
  });

  it("takes nnU-Net's names, and refuses pictures of several channels", async () => {
    await writeFile(join(folder, "images", "c_0000.nii"), nifti(image));
    await writeFile(join(folder, "masks", "c.nii"), nifti(labels));
    expect((await openSegmented(folder)).length).toBe(DEPTH);
    await writeFile(join(folder, "images", "c_0001.nii"), nifti(image));
    await expect(openSegmented(folder)).rejects.toThrow(
      /c_0001\.nii: channel 0001 of a picture; one channel \(_0000\) can be used/,
    );
  });

  it("takes masks in which what is to be found is 0", async () => {
    await put("head.nii", nifti(image), nifti(labels.map((v) => 1 - v)));
    const slices = await openSegmented(folder, { inverted: true });
    const found = (await Promise.all([0, 1, 2].map(async (z) => [...(await slices.get(z)).labels]))).flat();
    expect(found).toEqual(labels);
    await expect(openSegmented(folder, { inverted: true, classes: 3 })).rejects.toThrow(/two values, not 3/);
  });

  it("refuses masks of other sizes, with more values than declared, and with fractions as classes", async () => {
    await put("head.nii", nifti(image), nifti(labels.slice(0, 2 * SIDE * SIDE), 2));
    await expect(openSegmented(folder)).rejects.toThrow(/head\.nii: is 16x16x2, its picture is 16x16x3/);
    await put("head.nii", nifti(image), nifti(labels.map((v, i) => v * (1 + (i % 2)))));
    await expect(openSegmented(folder)).rejects.toThrow(/3 values \(0, 1, 2\) where two labels are declared/);
    expect((await openSegmented(folder, { classes: 3 })).length).toBe(DEPTH);
    await put("head.nii", nifti(image), nifti(labels.map((v) => -v)));
    await expect(openSegmented(folder, { classes: 3 })).rejects.toThrow(/-1 is no class number/);
  });
});

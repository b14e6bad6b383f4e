/** `run` over volumes: slice by slice, and files of the geometry of the source. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { isNIFTI, readHeader } from "nifti-reader-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  alignedTo,
  intensityRange,
  inUnits,
  niftiLike,
  readNifti,
  readTiffStack,
  tiffStack,
  type WrittenSlice,
} from "../../../src/data/index.ts";
import { encodePicture, type Picture } from "../../../src/io/index.ts";
import { mapParameters } from "../../../src/nn/index.ts";
import { createSDSeg, PRESETS, sdsegFile, withParts } from "../../../src/systems/sdseg/model.ts";
import { runOptions } from "../../../src/systems/sdseg/options.ts";
import { pagesOf, runAction } from "../../../src/systems/sdseg/run.ts";
import { openSegmenter, segmentPicture } from "../../../src/systems/sdseg/use.ts";
import { fillNormal, fromHost } from "../../../src/tensor/index.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";

const [WIDTH, HEIGHT, DEPTH] = [18, 16, 3];

/** A NIfTI-1 file of 16-bit voxels with a tilted transform, scaling, and an odd byte order on request. */
function nifti(values: readonly number[], little = true): Uint8Array {
  const bytes = new Uint8Array(352 + 2 * values.length);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 348, little);
  [3, WIDTH, HEIGHT, DEPTH, 1, 1, 1, 1].forEach((d, i) => {
    view.setInt16(40 + 2 * i, d, little);
  });
  view.setInt16(70, 4, little);
  view.setInt16(72, 16, little);
  [1, 0.5, 0.75, 2.5].forEach((d, i) => {
    view.setFloat32(76 + 4 * i, d, little);
  });
  view.setFloat32(108, 352, little);
  view.setFloat32(112, 2, little); // slope
  view.setFloat32(116, -1000, little); // intercept
  view.setInt16(254, 1, little); // sform: scanner
  [-0.5, 0.1, 0, 90, 0, 0.75, 0, -126, 0, 0, 2.5, -72].forEach((v, i) => {
    view.setFloat32(280 + 4 * i, v, little);
  });
  bytes.set(Buffer.from("n+1\0"), 344);
  values.forEach((v, i) => {
    view.setInt16(352 + 2 * i, v, little);
  });
  return bytes;
}

const voxels = Array.from({ length: WIDTH * HEIGHT * DEPTH }, (_, i) => (i * 37) % 900);
/** The header as the public reader has it. */
const headerOf = (bytes: Uint8Array) => readHeader(bytes.slice().buffer as ArrayBuffer)!;

/** A small model that has not learned, with outputs that are not zero. */
function busyModel(classes = 2) {
  let k = 0;
  const model = createSDSeg({ ...PRESETS.smoke, classes }, 1);
  const network = mapParameters(model.network, (t) =>
    t.add(fromHost("f32", t.shape, fillNormal(new Float32Array(t.size), { seed: 50 + k++ })).mul(0.05)),
  );
  return withParts(model, { network, scaleFactor: 0.5 });
}

let folder: string;
let model: string;
const origin = { name: "test", training: "none", seed: "1", date: "2026-01-01", scale: 1 };
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-run-volumes-"));
  model = join(folder, "model.safetensors");
  await sdsegFile.save(model, busyModel(), origin, "f32");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function run(given: Record<string, unknown>) {
  const events: WorkEvent[] = [];
  const options = runOptions.parse({ model, out: join(folder, "out"), ...given });
  const result = await drained(runAction(options, {}), (event) => events.push(event));
  return { events, result };
}
const out = (name: string): string => join(folder, "out", name);

/** What the model finds in each slice, through the door for single pictures. */
async function expected(slices: readonly Picture[]) {
  const segmenter = openSegmenter((await sdsegFile.load(model)).model);
  const found = [];
  for (const slice of slices) found.push(await drained(segmentPicture(segmenter, slice)));
  await segmenter.close();
  return found;
}

describe("a NIfTI volume", () => {
  it.each([
    ["head.nii", true],
    ["head.nii.gz", false],
  ])("%s becomes a mask and probabilities with its header", async (name, little) => {
    const path = join(folder, name);
    const bytes = nifti(voxels, little);
    await writeFile(path, name.endsWith(".gz") ? gzipSync(bytes) : bytes);
    const { events, result } = await run({ image: path, range: "-900:800" });
    expect(result.summary).toMatch(/^1 picture segmented/);
    const slices = events.flatMap((e) =>
      e.type === "progress" && e.stage.startsWith("slices") ? [e.done] : [],
    );
    expect(slices).toEqual([1, 2, 3]);

    const source = await readNifti(path);
    const found = await expected(inUnits(source.slices, "x", { range: intensityRange("-900:800") }));
    const ending = name.slice(4);
    const [mask, probability] = [
      await readNifti(out(`head-mask${ending}`)),
      await readNifti(out(`head-probability${ending}`)),
    ];
    expect(mask.affine).toEqual(source.affine);
    expect(mask.spacing).toEqual(source.spacing);
    expect(alignedTo(mask, source, "mask")).toBe(mask);
    expect(mask.slices.map(({ data }) => [...data])).toEqual(found.map(({ labels }) => [...labels]));
    expect(mask.slices.flatMap(({ data }) => [...data])).toContain(1);
    expect(probability.slices.map(({ data }) => [...data])).toEqual(
      found.map(({ probability: map }) => [...map.data]),
    );
    const file = await readFile(out(`head-mask${ending}`));
    expect(file[0] === 0x1f).toBe(name.endsWith(".gz"));
  });

  it("is passed over when it was done with the same settings; other results are made anew or kept", async () => {
    await writeFile(join(folder, "head.nii"), nifti(voxels));
    const image = join(folder, "head.nii");
    await run({ image });
    const { mtimeMs } = await stat(out("head-mask.nii"));
    expect((await run({ image })).result.metrics).toMatchObject({ pictures: 0, kept: 1 });
    expect((await stat(out("head-mask.nii"))).mtimeMs).toBe(mtimeMs);
    expect((await run({ image, seed: 4 })).result.metrics).toMatchObject({ pictures: 1, kept: 0 });
    await writeFile(out("head-mask.nii"), nifti(voxels));
    await expect(run({ image })).rejects.toThrow(
      /head-mask\.nii: this picture is not a result of such a run/,
    );
  });

  it("gives single slices as pictures, with the brightness of the whole", async () => {
    await writeFile(join(folder, "head.nii"), nifti(voxels));
    await run({ image: join(folder, "head.nii"), page: "1-2" });
    expect((await readdir(join(folder, "out"))).filter((name) => name.endsWith("mask.png"))).toEqual([
      "head-page-1-mask.png",
      "head-page-2-mask.png",
    ]);
    await expect(run({ image: join(folder, "head.nii"), page: "3" })).rejects.toThrow(
      /page 3 of a volume of 3 slices/,
    );
  });
});

describe("a TIFF file of several pages", () => {
  const pages = (): WrittenSlice[] =>
    [0, 1, 2].map((z) => ({
      width: WIDTH,
      height: HEIGHT,
      data: Uint8Array.from({ length: WIDTH * HEIGHT }, (_, i) => (i * 7 + z * 50) % 256),
    }));

  it("becomes files of as many pages", async () => {
    await writeFile(join(folder, "stack.tif"), tiffStack(pages(), "somebody's"));
    await run({ image: join(folder, "stack.tif") });
    const mask = await readTiffStack(out("stack-mask.tif"));
    const probability = await readTiffStack(out("stack-probability.tif"));
    const found = await expected((await readTiffStack(join(folder, "stack.tif"))).slices);
    expect(mask.slices.map(({ data }) => [...data])).toEqual(
      found.map(({ labels }) => Array.from(labels, (label) => 255 * label)),
    );
    expect(probability.slices.map(({ data }) => [...data])).toEqual(
      found.map(({ probability: map }) => [...map.data]),
    );
    expect((await run({ image: join(folder, "stack.tif") })).result.metrics).toMatchObject({ kept: 1 });
  });

  it("in a folder beside pictures and volumes is one of them; what is broken is left out", async () => {
    const images = join(folder, "in");
    await mkdir(images);
    await writeFile(join(images, "stack.tif"), tiffStack(pages(), ""));
    await writeFile(join(images, "head.nii"), nifti(voxels));
    await writeFile(join(images, "cut.nii"), nifti(voxels).subarray(0, 900));
    const [{ width, height, data }] = pages() as [WrittenSlice];
    await writeFile(
      join(images, "one.png"),
      await encodePicture({ width, height, channels: 1, data: data as Uint8Array }),
    );
    const { result } = await run({ image: images });
    expect(result.summary).toMatch(/^3 pictures segmented; 1 picture could not be used: cut\.nii/);
    expect((await readdir(join(folder, "out"))).sort()).toEqual([
      "head-mask.nii",
      "head-probability.nii",
      "one-mask.png",
      "one-overlay.png",
      "one-probability.png",
      "stack-mask.tif",
      "stack-probability.tif",
    ]);
  });
});

describe("writing volumes", () => {
  const slice = (data: Uint8Array | Float32Array): WrittenSlice => ({ width: WIDTH, height: HEIGHT, data });

  it("NIfTI keeps sizes, spacing and both transforms, in either byte order; sizes must fit", () => {
    for (const little of [true, false]) {
      const source = nifti(voxels, little);
      const made = niftiLike(
        source,
        [0, 1, 2].map(() => slice(new Float32Array(WIDTH * HEIGHT).fill(0.25))),
        "why",
      );
      expect(isNIFTI(made.slice().buffer as ArrayBuffer)).toBe(true);
      const [was, is] = [headerOf(source), headerOf(made)];
      expect(is.affine).toEqual(was.affine);
      expect([is.dims, is.pixDims, is.sform_code, is.qform_code]).toEqual([
        was.dims,
        was.pixDims,
        was.sform_code,
        was.qform_code,
      ]);
      expect([is.datatypeCode, is.numBitsPerVoxel, is.scl_slope, is.scl_inter]).toEqual([16, 32, 1, 0]);
      expect(is.description.replace(/\0.*$/s, "")).toBe("why");
    }
    expect(() => niftiLike(nifti(voxels), [slice(new Uint8Array(WIDTH * HEIGHT))], "", "a.nii")).toThrow(
      /a\.nii: expected 3 slices of 18x16, got 1/,
    );
  });
});

it("pages are counted from 0", () => {
  expect([pagesOf("3"), pagesOf("3-7")]).toEqual([
    [3, 3],
    [3, 7],
  ]);
  expect(() => pagesOf("7-3")).toThrow(/expected N or FIRST-LAST/);
});

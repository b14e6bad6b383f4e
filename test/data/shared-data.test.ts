/** Real public data opens with one line per set; skipped where ../shared/data is not there. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  openCifarSheet,
  openClassFolders,
  openIdxPictures,
  openMasked,
  openPairs,
  openPictureArchive,
  openPictureFolder,
  readAll,
  readJson,
  readLines,
  readMatrix4,
  readNerfTransforms,
  readPictureFile,
  readRealEstate10k,
  readTable,
} from "../../src/data/index.ts";
import { cameraCentre, invertRigid, rigidError } from "../../src/geometry/index.ts";

const root = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
const data = (path: string): string => `${root}${path}`;

describe.skipIf(!existsSync(root))("shared data (skipped: ../shared/data is not there)", () => {
  test.each([
    ["fashion-mnist/train-images-idx3-ubyte.gz", "fashion-mnist/train-labels-idx1-ubyte.gz", 60000, 28],
    ["fashion-mnist/t10k-images-idx3-ubyte.gz", "fashion-mnist/t10k-labels-idx1-ubyte.gz", 10000, 28],
    ["mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz", 10000, 28],
    ["olivetti-faces/olivetti-images-idx3-ubyte.gz", "olivetti-faces/olivetti-labels-idx1-ubyte.gz", 400, 64],
  ])("%s", async (images, labels, count, side) => {
    const set = await openIdxPictures(data(images), data(labels));
    const { image, label } = await set.get(set.length - 1);
    expect([set.length, image.width, image.height]).toEqual([count, side, side]);
    expect(label).toBeGreaterThanOrEqual(0);
  });

  test("cifar10", async () => {
    const labels = (await readJson(data("cifar10/labels.json"))) as { train_first4000: number[] };
    const set = await openCifarSheet(
      data("cifar10/cifar10_batch_0.png"),
      labels.train_first4000.slice(0, 1000),
    );
    expect(set.length).toBe(1000);
    expect((await set.get(0)).label).toBe(6);
  });

  test("membranes, polyps, vessels and nuclei with their masks", async () => {
    const membranes = await openMasked(data("em-membrane/image"), data("em-membrane/label"), {
      colour: "gray",
    });
    const polyps = await openMasked(data("cvc-clinicdb/image"), data("cvc-clinicdb/mask"));
    const vessels = await openMasked(data("drive-retina/image"), data("drive-retina/vessel"));
    const nuclei = await openMasked(data("dsb2018-nuclei/image"), data("dsb2018-nuclei/label"), {
      meaning: "instances",
    });
    expect([membranes.length, polyps.length, vessels.length, nuclei.length]).toEqual([30, 36, 6, 120]);
    const share = (labels: Int32Array): number =>
      labels.reduce((sum, x) => sum + Math.min(1, x), 0) / labels.length;
    expect(share((await membranes.get(0)).labels)).toBeGreaterThan(0.5);
    expect(share((await vessels.get(0)).labels)).toBeLessThan(0.2);
    expect(Math.max(...(await nuclei.get(0)).labels)).toBeGreaterThan(1);
    for (const sample of await readAll(polyps)) expect(share(sample.labels)).toBeGreaterThan(0);
  });

  test("restoration pairs: rain, real noise, blur", async () => {
    const rainy = await openPairs(data("rain100h/rainy"), data("rain100h/clean"));
    expect(rainy.length).toBe(8);
    const { a, b } = await rainy.get(0);
    expect([a.width, a.height]).toEqual([b.width, b.height]);
    const noisy = await openPictureFolder(data("real-noise"));
    expect(noisy.length).toBe(88);
    expect((await openPictureFolder(data("denoise-gray"), { colour: "gray" })).length).toBe(80);
    expect((await openPictureFolder(data("blur"))).length).toBe(46);
  });

  test("photographs, faces, renders, archives", async () => {
    expect((await openPictureFolder(data("bsds500/image"))).length).toBe(96);
    const faces = await openClassFolders(data("faces-real-vs-gan"));
    expect([faces.length, faces.classes]).toEqual([400, ["fake", "real"]]);
    expect((await openPictureFolder(data("clevr-mini/images"))).length).toBe(10);
    const tiny = await openPictureArchive(data("tiny-imagenet-20/val.zip"));
    expect([tiny.length, (await tiny.get(0)).image.width]).toEqual([400, 64]);
    const emoji = await openPictureArchive(data("emoji-captioned/noto-emoji-72.zip"));
    const sizes = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => (await emoji.get(i)).image.channels),
    );
    expect([emoji.length, new Set(sizes)]).toEqual([1026, new Set([3])]);
    expect((await openPictureFolder(data("imagenet-samples"))).length).toBe(4);
  });

  test("cameras, depth and disparity", async () => {
    const trajectory = await readRealEstate10k(data("re10k-poses/0bf152ef84195293.txt"), 1280, 720);
    expect(trajectory.frames.length).toBeGreaterThan(10);
    expect(Math.hypot(...cameraCentre(trajectory.frames[0]!.camera))).toBeGreaterThan(0);
    const fox = await readNerfTransforms(data("nerf-fox/transforms.json"));
    expect([fox.frames.length, fox.frames[0]!.image]).toEqual([10, "images/0001.jpg"]);
    const pose = await readMatrix4(data("rgbd-7scenes/frame-000000.pose.txt"));
    expect(rigidError(invertRigid(pose))).toBeLessThan(1e-3);
    const depth = await readPictureFile(data("rgbd-7scenes/frame-000000.depth.png"), { colour: "as-is" });
    expect([depth.data.constructor.name, depth.channels]).toEqual(["Uint16Array", 1]);
    expect(Math.max(...depth.data.subarray(0, 10000))).toBeGreaterThan(500);
    const disparity = await readPictureFile(data("stereo-middlebury/cones/disp2.png"), { colour: "as-is" });
    expect([disparity.width, disparity.height]).toEqual([450, 375]);
  });

  test("captions and prompts", async () => {
    const parti = await readTable(data("text-prompts/PartiPrompts.tsv"), { columns: ["Prompt", "Category"] });
    expect(parti.length).toBe(1632);
    const rated = await readTable(data("text-prompts/agiqa3k/data.csv"), { columns: ["prompt"] });
    expect(rated.length).toBe(2982);
    expect((await readLines(data("text-prompts/t2i-compbench/color_val.txt"))).length).toBe(300);
    expect(((await readJson(data("emoji-captioned/captions.json"))) as unknown[]).length).toBe(1026);
  });
});

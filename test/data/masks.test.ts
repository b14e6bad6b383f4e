/** Masks and volumes as people's programs write them: the right pixels, or a refusal that says why. */
import { fileURLToPath } from "node:url";
import { describe, expect, it, test } from "vitest";
import {
  alignedTo,
  intensityRange,
  inUnits,
  maskColours,
  maskLabels,
  openMasked,
  openSegmented,
  readAll,
  readNifti,
  type Volume,
} from "../../src/data/index.ts";
import { FormatError } from "../../src/errors.ts";
import type { Picture } from "../../src/io/index.ts";

const files = (path: string): string => fileURLToPath(new URL(`../fixtures/files/${path}`, import.meta.url));
const pair = (
  path: string,
  meaning: Parameters<typeof maskLabels>[1] = "binary",
  colour: "gray" | "rgb" = "gray",
) =>
  openMasked(files(`${path}/images`), files(`${path}/masks`), { meaning, colour }).then((set) => set.get(0));

/** Mean of the picture under the mask and beside it. */
function means(image: { readonly data: ArrayLike<number> }, labels: ArrayLike<number>): [number, number] {
  const [sum, count] = [
    [0, 0],
    [0, 0],
  ];
  for (let i = 0; i < labels.length; i++) {
    const inside = labels[i]! > 0 ? 0 : 1;
    sum[inside]! += image.data[i]!;
    count[inside]!++;
  }
  return [sum[0]! / count[0]!, sum[1]! / count[1]!];
}

describe("pictures with masks", () => {
  it("keep 12 bits in 16, and floats", async () => {
    const word = await pair("02-16bit-train/train-12bit-png");
    expect(word.image.data).toBeInstanceOf(Uint16Array);
    expect(new Set(word.image.data).size).toBeGreaterThan(100);
    const float = await pair("01-tiff-depth/train-f32-unit");
    expect(float.image.data).toBeInstanceOf(Float32Array);
    const [inside, outside] = means(float.image, float.labels);
    expect(inside / outside).toBeGreaterThan(3); // a bright disc, as it was drawn
  });

  // Both turned: 203 inside and 50 outside, by Pillow's exif_transpose of both.
  it.each(["both-turned-180", "both-quarter-turn"])("are both turned by EXIF: %s", async (name) => {
    const { image, labels } = await pair(`06-mask-exif/${name}`);
    const [inside, outside] = means(image, labels);
    expect(Math.abs(inside - 203)).toBeLessThan(1);
    expect(Math.abs(outside - 50)).toBeLessThan(1);
  });

  it("of palettes have their indices as labels, as in Pillow", async () => {
    const { labels } = await pair("07-palette-mask/voc-3-classes", { classes: 3 });
    expect([...new Set(labels)].sort()).toEqual([0, 1, 2]);
    expect(labels.filter((label) => label === 2)).toHaveLength(16);
    const davis = await pair("07-palette-mask/davis-one-object");
    expect([...new Set(davis.labels)].sort()).toEqual([0, 1]);
  });

  it("drawn in the transparency are read from there", async () => {
    const { labels } = await pair("05-mask-in-alpha/white-with-alpha");
    expect(labels.filter((label) => label === 1)).toHaveLength(109);
  });

  it("in BMP files are read", async () => {
    const { image, labels } = await pair("11-bmp/train");
    const [inside, outside] = means(image, labels);
    expect(inside / outside).toBeGreaterThan(3);
  });

  it("with two values, none of them 0, are refused", async () => {
    await expect(pair("04-mask-two-values/masks-1-and-2")).rejects.toThrow(
      /a\.png: the values 1, 2, none of which is 0; expected 0 for the background/,
    );
  });
});

describe("labels of a mask", () => {
  const mask = (channels: number, data: Picture["data"]): Picture => ({
    width: data.length / channels,
    height: 1,
    channels,
    data,
  });

  it.each([
    ["bytes", Uint8Array.of(0, 255, 255), "binary", [0, 1, 1]],
    ["instances above 255", Uint16Array.of(0, 300, 65535), "instances", [0, 300, 65535]],
    ["instances of 32 bits", Float32Array.of(0, 70000, 3), "instances", [0, 70000, 3]],
    ["one value alone", Uint8Array.of(0, 0, 0), "binary", [0, 0, 0]],
  ] as const)("of %s", (_, data, meaning, expected) => {
    expect([...maskLabels(mask(1, data), meaning)]).toEqual(expected);
  });

  it.each([
    [mask(1, Float32Array.of(0, 0.5, 1)), "instances", /0\.5 is no label/],
    [mask(1, Float32Array.of(0, -1, 1)), "instances", /-1 is no label/],
    [mask(1, Uint8Array.of(64, 255, 255)), "binary", /the values 64, 255, none of which is 0/],
    [mask(1, Uint8Array.of(0, 1, 2)), "binary", /3 values \(0, 1, 2\) where two labels are declared/],
    [mask(3, Uint8Array.of(1, 2, 3)), "instances", /a mask in colours, pixel 0/],
  ] as const)("that are none are refused", (picture, meaning, words) => {
    expect(() => maskLabels(picture, meaning, "m.png")).toThrow(words);
  });
});

describe("masks in colours", () => {
  const colours = maskColours("#000000, ff0000,#00ff00");
  const mask = (...data: number[]): Picture => ({
    width: data.length / 3,
    height: 1,
    channels: 3,
    data: Uint8Array.from(data),
  });

  it("mean the classes that they are declared to mean", () => {
    const labels = maskLabels(mask(0, 255, 0, 0, 0, 0, 255, 0, 0), { colours }, "m.png");
    expect([...labels]).toEqual([2, 0, 1]);
    expect(() => maskLabels(mask(0, 0, 0, 1, 2, 255), { colours }, "m.png")).toThrow(
      /m\.png: the colour #0102ff at \(1, 0\) is none of the 3 declared/,
    );
  });

  it("are read from palettes as well", async () => {
    const { labels } = await openMasked(
      files("07-palette-mask/voc-3-classes/images"),
      files("07-palette-mask/voc-3-classes/masks"),
      { meaning: { colours: maskColours("#000000,#800000,#008000") } },
    ).then((set) => set.get(0));
    expect(labels.filter((label) => label === 2)).toHaveLength(16);
  });

  it.each(["", "#000000", "#000000,#000000", "black,white"])(
    "are declared in hexadecimal: not %j",
    (text) => {
      expect(() => maskColours(text)).toThrow(/expected different colours as in #000000,#ff0000/);
    },
  );
});

describe("ranges of intensities", () => {
  it("are numbers or percentiles", () => {
    expect(intensityRange("-125:275")).toEqual({ low: -125, high: 275, unit: "value" });
    expect(intensityRange("0.5%:99.5%")).toEqual({ low: 0.5, high: 99.5, unit: "percentile" });
    for (const text of ["", "1", "5:1", "1%:99", "1:2%", "-1%:50%", "0%:101%", "a:b", "1:2:3"])
      expect(() => intensityRange(text), text).toThrow(/expected LOW:HIGH/);
  });

  it("apply to bytes as well when they are given", () => {
    const bytes: Picture = { width: 4, height: 1, channels: 1, data: Uint8Array.of(0, 50, 100, 200) };
    const [seen] = inUnits([bytes], "x", { range: intensityRange("50:100") });
    expect([...seen!.data]).toEqual([0, 0, 1, 1]);
  });
});

describe("NIfTI volumes", () => {
  const geometry = (kind: "images" | "masks") =>
    readNifti(files(`08-nifti-geometry/mask-stored-mirrored/${kind}/c.nii.gz`));

  it("that are stored mirrored are brought onto the axes of their partner", async () => {
    const [image, mask] = [await geometry("images"), await geometry("masks")];
    const aligned = alignedTo(mask, image, "c.nii.gz");
    const flat = (volume: Volume) => ({ data: volume.slices.flatMap(({ data }) => [...data]) });
    const [inside, outside] = means(flat(image), flat(aligned).data);
    expect(inside).toBeGreaterThan(500);
    expect(outside).toBeLessThan(0);
    expect(means(flat(image), flat(mask).data)[0]).toBeLessThan(500); // not so as it is stored
  });

  const volume = (affine: number[][], data: number[][], width = 2): Volume => ({
    affine,
    slices: data.map((slice) => ({
      width,
      height: slice.length / width,
      channels: 1,
      data: Float32Array.from(slice),
    })),
  });
  const eye = [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 0, 1],
  ];

  it("with exchanged axes too", () => {
    // Stored axes: first along y, second along z, third along x.
    const turned = [
      [0, 0, 1, 0],
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 0, 1],
    ];
    const image = volume(eye, [
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ]);
    // Value at (x, y, z) of the image is 1 + x + 2 y + 4 z; here the slice is x, the column y, the row z.
    const mask = volume(turned, [
      [1, 3, 5, 7],
      [2, 4, 6, 8],
    ]);
    expect(alignedTo(mask, image, "m").slices.map(({ data }) => [...data])).toEqual([
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ]);
  });

  it("of other voxels, or in another place, are refused; those that say nothing stay", () => {
    const image = volume(eye, [[1, 2, 3, 4]]);
    const scaled = eye.map((row, i) => (i < 3 ? row.map((v) => 2 * v) : row));
    const moved = eye.map((row, i) => (i === 0 ? [1, 0, 0, 40] : row));
    expect(() => alignedTo(volume(scaled, [[1, 2, 3, 4]]), image, "m.nii")).toThrow(
      /m\.nii: voxels of 2 x 2 x 2 mm, its partner's are 1 x 1 x 1 mm/,
    );
    expect(() => alignedTo(volume(moved, [[1, 2, 3, 4]]), image, "m.nii")).toThrow(/lies 40 mm away/);
    const silent: Volume = { slices: image.slices };
    expect(alignedTo(silent, image, "m")).toBe(silent);
  });

  test("an infinite slope counts as none, as in nibabel; an intercept that is no number is refused", async () => {
    const { slices } = await readNifti(files("09-nifti-nonfinite/slope-inf.nii"));
    expect([...slices[0]!.data.slice(0, 4)]).toEqual([-100, -16, 68, 152]);
    await expect(readNifti(files("09-nifti-nonfinite/slope2-inter-nan.nii"))).rejects.toThrow(FormatError);
  });

  test("of 64-bit integers are read", async () => {
    const { slices } = await readNifti(files("10-nifti-folder/int64-labels/masks/c.nii.gz"));
    const found = new Set(slices.flatMap(({ data }) => [...data]));
    expect([...found].sort()).toEqual([0, 1]);
  });
});

describe("folders of volumes", () => {
  const first = (name: string, options: { classes?: number } = {}) =>
    openSegmented(files(name), options).then((set) => readAll(set));

  it("bring mirrored masks onto their pictures", async () => {
    const slices = await first("08-nifti-geometry/mask-stored-mirrored");
    const flat = { data: slices.flatMap(({ image }) => [...image.data]) };
    const [inside, outside] = means(
      flat,
      slices.flatMap(({ labels }) => [...labels]),
    );
    expect(inside).toBeGreaterThan(0.8); // of the range of the volume
    expect(outside).toBeLessThan(0.3);
  });

  it("pass over the hidden files of macOS, and read 64-bit labels", async () => {
    expect(await first("10-nifti-folder/mac-hidden-files")).not.toHaveLength(0);
    const labels = (await first("10-nifti-folder/int64-labels")).flatMap((slice) => [...slice.labels]);
    expect([...new Set(labels)].sort()).toEqual([0, 1]);
  });

  it.each([
    ["10-nifti-folder/mixed-with-pictures", /is a volume and .* is not/],
    ["09-nifti-nonfinite/nan-outside-the-body", /c\.nii(\.gz)?: the value NaN at \(\d+, \d+\) of slice 2/],
    ["04-mask-two-values/nifti-1-and-2", /the values 1, 2, none of which is 0/],
  ])("are refused with the place: %s", async (name, words) => {
    await expect(first(name)).rejects.toThrow(words);
  });
});

describe("numbers of any unit", () => {
  const picture = (...values: number[]): Picture => ({
    width: values.length,
    height: 1,
    channels: 1,
    data: Float32Array.from(values),
  });

  it("are scaled over all slices of a volume; shares of white, bytes and 16 bits stay", () => {
    const scaled = inUnits([picture(-1000, 0), picture(1000, 500)], "v");
    expect(scaled.map(({ data }) => [...data])).toEqual([
      [0, 0.5],
      [1, 0.75],
    ]);
    const kept = [picture(0.25, 0.5)];
    expect(inUnits(kept, "v")).toBe(kept);
    const bytes = [{ ...picture(0, 0), data: Uint8Array.of(0, 200) }];
    expect(inUnits(bytes, "v")).toBe(bytes);
  });

  it("that are not finite are refused with their place", () => {
    expect(() => inUnits([picture(0, Number.POSITIVE_INFINITY)], "x.tif")).toThrow(
      /x\.tif: the value Infinity at \(1, 0\)/,
    );
  });
});

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createDraw, dataset, openSegmented, readAll } from "../../../src/data/index.ts";
import { lesion, lesions } from "../../../src/data/world/lesions.ts";
import { ArgumentError, FormatError, NonFiniteError, ShapeError } from "../../../src/errors.ts";
import { encodePicture, type Picture } from "../../../src/io/index.ts";
import { AUGMENTS, cropped, masksOf, toImage, toSample } from "../../../src/systems/sdseg/data.ts";
import { PRESETS } from "../../../src/systems/sdseg/model.ts";
import { KNOWN_SETS, readSamples } from "../../../src/systems/sdseg/sets.ts";
import type { WorkEvent } from "../../../src/work.ts";

const config = PRESETS.smoke;
const size = { width: 4, height: 3 };

describe("lesions", () => {
  it("are the same every time, differ from each other, and cover about an eighth", async () => {
    expect(lesion(5)).toEqual(lesion(5));
    expect(lesion(5).image.data).not.toEqual(lesion(6).image.data);
    const all = await readAll(lesions("test", 60));
    const covered =
      all.reduce((sum, { labels }) => sum + labels.reduce((a, b) => a + b, 0) / labels.length, 0) / 60;
    expect(covered).toBeGreaterThan(0.08);
    expect(covered).toBeLessThan(0.2);
  });

  it("of the splits are different pictures", async () => {
    const names = await Promise.all(
      (["train", "val", "test"] as const).map(async (split) => (await lesions(split).get(0)).name),
    );
    expect(new Set(names).size).toBe(3);
    expect([lesions("train").length, lesions("val").length, lesions("test").length]).toEqual([
      2000, 200, 400,
    ]);
  });
});

describe("pictures for the networks", () => {
  const gray = { imageChannels: 1, normalise: "range" } as const;
  it("keep 16 bits, drop transparency, turn colours to brightness and gray to colours", () => {
    const sixteen: Picture = { ...size, channels: 1, data: new Uint16Array(12).fill(65535) };
    expect([...toImage(sixteen, gray).data]).toEqual(new Array(12).fill(1));
    const rgba: Picture = { width: 1, height: 1, channels: 4, data: Uint8Array.of(255, 0, 0, 7) };
    expect(toImage(rgba, gray).data[0]).toBeCloseTo(2 * 0.299 - 1, 5);
    const colours = toImage(
      { width: 1, height: 1, channels: 1, data: Uint8Array.of(51) },
      { ...gray, imageChannels: 3 },
    );
    expect([...colours.data].map((v) => v.toFixed(4))).toEqual(["-0.6000", "-0.6000", "-0.6000"]);
  });

  it("are standardised one by one, and a constant one, down to one pixel, becomes zero", () => {
    const standard = { imageChannels: 1, normalise: "standard" } as const;
    const { data: values } = toImage(
      { ...size, channels: 1, data: Uint8Array.from({ length: 12 }, (_, i) => 100 + i) },
      standard,
    );
    const mean = values.reduce((a, b) => a + b, 0) / 12;
    expect(mean).toBeCloseTo(0, 5);
    expect(Math.sqrt(values.reduce((a, v) => a + v * v, 0) / 12)).toBeCloseTo(0.4, 5);
    expect([...toImage({ width: 1, height: 1, channels: 1, data: Uint8Array.of(9) }, standard).data]).toEqual(
      [0],
    );
  });

  it("must be finite, and have a label for each pixel, of a class that there is", () => {
    const broken: Picture = {
      ...size,
      channels: 1,
      data: Float32Array.of(1, Number.NaN, ...new Array(10).fill(0)),
    };
    expect(() => toImage(broken, gray, "x.tif")).toThrow(NonFiniteError);
    const image: Picture = { ...size, channels: 1, data: new Uint8Array(12) };
    expect(() => toSample({ name: "a", image, labels: new Int32Array(11) }, { config })).toThrow(ShapeError);
    const three = Int32Array.from({ length: 12 }, (_, i) => i % 3);
    expect(() => toSample({ name: "a", image, labels: three }, { config })).toThrow(/label 2.*0 to 1/);
  });

  it("get masks of -1 and 1, in which class 0 stands for all that is not background", async () => {
    const image = { width: 3, height: 1, channels: 1, data: new Float32Array(3) };
    const sample = { name: "a", image, labels: Int32Array.of(0, 1, 2) };
    const mask = async (channels: number, classes?: readonly number[]): Promise<unknown> => [
      ...(await masksOf([sample], channels, classes).data()),
    ];
    expect(await mask(1)).toEqual([-1, 1, 1]);
    expect(await mask(1, [0])).toEqual([-1, 1, 1]);
    expect(await mask(1, [2])).toEqual([-1, -1, 1]);
    expect(await mask(3, [1])).toEqual([-1, 1, -1, -1, 1, -1, -1, 1, -1]);
  });

  it.each(AUGMENTS)(
    "are cropped together with their labels, also beyond their edges: %s",
    async (augment) => {
      const labels = Int32Array.from({ length: 12 }, (_, i) => i % 2);
      const image = { ...size, channels: 1, data: Float32Array.from(labels, (l) => l * 0.5) };
      for (let i = 0; i < 8; i++) {
        const crop = await cropped(8, augment)({ name: "a", image, labels }, createDraw(0, i));
        expect(crop.labels).toHaveLength(64);
        crop.labels.forEach((label, at) => {
          expect(crop.image.data[at]).toBe(label * 0.5);
        });
      }
    },
  );

  it("are cropped around foreground more often than chance", async () => {
    const labels = new Int32Array(64 * 64).fill(1, 0, 64);
    const sample = {
      name: "a",
      image: { width: 64, height: 64, channels: 1, data: new Float32Array(64 * 64) },
      labels,
    };
    let found = 0;
    for (let i = 0; i < 400; i++) {
      const crop = await cropped(8, "none")(sample, createDraw(1, i));
      if (crop.labels.includes(1)) found++;
    }
    // One of 57 places of a crop holds the first row; four tries in three of four crops.
    expect(found / 400).toBeGreaterThan(0.03);
    expect(found / 400).toBeLessThan(0.1);
  });
});

describe("the splits of known sets", () => {
  it.each(KNOWN_SETS.map((set) => [set.name, set] as const))(
    "of %s keep validation and test apart",
    (name, { split }) => {
      const count = { "em-membrane": 30, "dsb2018-nuclei": 110, "cvc-clinicdb": 36, "drive-retina": 6 }[
        name
      ]!;
      const parts = Array.from({ length: count }, (_, i) => split(i, count));
      for (const part of ["train", "val", "test"]) expect(parts).toContain(part);
      expect(parts.filter((part) => part === "train").length).toBeGreaterThan(count / 2);
    },
  );
});

describe("a folder of pictures and masks", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "sdseg-data-"));
    for (const name of ["images", "masks"]) await mkdir(join(folder, name));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const put = async (name: string, mask: readonly number[], bits: 8 | 16 = 8): Promise<void> => {
    const data = bits === 8 ? new Uint8Array(12).fill(80) : new Uint16Array(12).fill(30_000);
    await writeFile(join(folder, "images", name), await encodePicture({ ...size, channels: 1, data }));
    await writeFile(
      join(folder, "masks", name),
      await encodePicture({ ...size, channels: 1, data: Uint8Array.from(mask) }),
    );
  };
  const binary = [0, 255, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255];

  /** Everything that reading reports, and the samples. */
  async function read() {
    const events: WorkEvent[] = [];
    const run = readSamples(await openSegmented(folder), { config, scale: 1 });
    for (;;) {
      const { done, value } = await run.next();
      if (done)
        return { data: value, warnings: events.flatMap((e) => (e.type === "warning" ? [e.text] : [])) };
      events.push(value);
    }
  }

  it("is read, and a broken file in it is left out with a warning", async () => {
    await put("a.png", binary);
    await put("b.png", binary, 16);
    await put("c.png", new Array(12).fill(0));
    await writeFile(join(folder, "images", "b2.png"), "not a picture");
    await writeFile(join(folder, "masks", "b2.png"), "not a picture");
    const { data, warnings } = await read();
    expect(data.length).toBe(3);
    expect((await data.get(0)).labels.reduce((a, b) => a + b, 0)).toBe(3);
    expect((await data.get(2)).labels.includes(1)).toBe(false); // an empty mask is a mask
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("b2.png");
  });

  it("ends the work when a mask has three values where two are declared", async () => {
    await put("a.png", binary);
    await put("b.png", [0, 128, 255, ...new Array(9).fill(0)]);
    await expect(read()).rejects.toThrow(FormatError);
    await expect(read()).rejects.toThrow(/b\.png.*3 values \(0, 128, 255\)/);
  });

  it("ends the work when sizes differ, when all files are broken, and when there are no such folders", async () => {
    await put("a.png", binary);
    await writeFile(
      join(folder, "masks", "a.png"),
      await encodePicture({ width: 3, height: 3, channels: 1, data: new Uint8Array(9) }),
    );
    await expect(read()).rejects.toThrow(/3x3.*4x3/);
    for (const part of ["images", "masks"]) await writeFile(join(folder, part, "a.png"), "?");
    await expect(read()).rejects.toThrow(FormatError);
    await expect(openSegmented(join(folder, "images"))).rejects.toThrow(ArgumentError);
  });

  it("keeps 16 bits, which a model sees as it does when a picture is segmented", async () => {
    const ramp = Float32Array.from({ length: 12 }, (_, i) => i / 1000);
    const mask = await encodePicture({ ...size, channels: 1, data: Uint8Array.from(binary) });
    await writeFile(join(folder, "masks", "a.png"), mask);
    const deep = Uint16Array.from(ramp, (v) => Math.round(v * 65535));
    await writeFile(
      join(folder, "images", "a.png"),
      await encodePicture({ ...size, channels: 1, data: deep }),
    );
    const { data } = await read();
    const { image } = await data.get(0);
    expect(new Set(image.data).size).toBe(12); // in bytes only three values are left
    expect(image.data).toEqual(toImage({ ...size, channels: 1, data: deep }, config).data);
  });

  it("refuses pictures beside a volume, which would be passed over", async () => {
    await put("a.png", binary);
    await writeFile(join(folder, "images", "head.nii"), "x");
    await expect(openSegmented(folder)).rejects.toThrow(/head\.nii is a volume and a\.png is not/);
  });

  it("is an error without any picture", async () => {
    const run = readSamples(
      dataset(0, () => lesion(0)),
      { config, scale: 1 },
    );
    await expect(run.next()).rejects.toThrow(ArgumentError);
  });
});

import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import {
  concatDatasets,
  fromArray,
  mapDataset,
  maskLabels,
  openClassFolders,
  openMasked,
  openPairs,
  openPictureFolder,
  picturesToTensor,
  readAll,
  readPictureFile,
  subset,
  tensorToPictures,
  zipDatasets,
} from "../../src/data/index.ts";
import { ArgumentError, FormatError, ShapeError } from "../../src/errors.ts";
import { decodePicture, encodePicture, type Picture } from "../../src/io/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const at = useTemporaryFolder();
const put = (name: string, bytes: Uint8Array): string => {
  mkdirSync(dirname(at(name)), { recursive: true });
  writeFileSync(at(name), bytes);
  return at(name);
};
const gray = (width: number, height: number, values: number[]): Picture => ({
  width,
  height,
  channels: 1,
  data: Uint8Array.from(values),
});
const plain = (width: number, height: number, background = "red"): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background } })
    .png()
    .toBuffer();

describe("one picture", () => {
  test("8 and 16 bits survive PNG unchanged, with 1 to 4 channels", async () => {
    for (const channels of [1, 2, 3, 4]) {
      for (const type of [Uint8Array, Uint16Array]) {
        const values = Array.from(
          { length: 6 * channels },
          (_, i) => (i * 9973) % (type === Uint8Array ? 256 : 65536),
        );
        const data = new type(values);
        const picture = { width: 3, height: 2, channels, data };
        expect(await decodePicture(await encodePicture(picture), { colour: "as-is" })).toEqual(picture);
      }
    }
  });
  test("colours are converted: CMYK, palettes, 16 bits and transparency over the background", async () => {
    const cmyk = await sharp(await plain(4, 4, "#204060"))
      .toColourspace("cmyk")
      .jpeg({ quality: 95 })
      .toBuffer();
    const { channels, data } = await decodePicture(cmyk);
    expect(channels).toBe(3);
    expect(Math.abs(data[2]! - 0x60)).toBeLessThan(30);
    const clear = await sharp({
      create: { width: 1, height: 1, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
    })
      .png()
      .toBuffer();
    expect([...(await decodePicture(clear)).data]).toEqual([255, 255, 255]);
    expect([...(await decodePicture(clear, { background: [1, 2, 3] })).data]).toEqual([1, 2, 3]);
    expect((await decodePicture(clear, { colour: "rgba" })).channels).toBe(4);
    const wide = await encodePicture({ width: 1, height: 1, channels: 1, data: Uint16Array.of(0x8080) });
    expect([...(await decodePicture(wide, { colour: "gray" })).data]).toEqual([0x80]);
  });
  test("a photograph is turned the way its EXIF says", async () => {
    const turned = await sharp(await plain(4, 2))
      .jpeg()
      .withMetadata({ orientation: 6 })
      .toBuffer();
    const { width, height } = await decodePicture(turned);
    expect([width, height]).toEqual([2, 4]);
  });
  test("truncated, mislabelled, animated, giant and empty files are named errors", async () => {
    const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * i * 31) % 251);
    const whole = await encodePicture({ width: 64, height: 64, channels: 3, data: noise });
    const read = (name: string, bytes: Uint8Array) => readPictureFile(put(name, bytes));
    await expect(read("cut.png", whole.subarray(0, whole.length / 2))).rejects.toThrow(/cut.png: .*damaged/);
    await expect(read("page.png", Buffer.from("<!doctype html><p>404"))).rejects.toThrow(
      /page.png: .*web page/,
    );
    await expect(read("empty.png", new Uint8Array(0))).rejects.toThrow(/empty.png: not a picture.*empty/);
    const frames = await sharp(noise, { raw: { width: 64, height: 64, channels: 3, pageHeight: 32 } })
      .gif()
      .toBuffer();
    await expect(read("film.gif", frames)).rejects.toThrow(/film.gif: the gif file has 2 pages or frames/);
    expect((await decodePicture(frames, { page: 1 })).height).toBe(32);
    await expect(decodePicture(whole, { maxPixels: 4095, name: "big" })).rejects.toThrow(
      /big: 64x64 is 4096 pixels/,
    );
    // A header that promises 50,000 x 50,000 pixels is refused before a single one is decoded.
    const bomb = Uint8Array.from(whole);
    new DataView(bomb.buffer, bomb.byteOffset).setUint32(16, 50_000);
    new DataView(bomb.buffer, bomb.byteOffset).setUint32(20, 50_000);
    await expect(read("bomb.png", bomb)).rejects.toThrow(FormatError);
  });
  test("pictures become tensors and come back; other sizes are refused", async () => {
    const picture = { width: 2, height: 1, channels: 3, data: Uint8Array.of(0, 1, 2, 255, 128, 7) };
    const x = picturesToTensor([picture, picture]);
    expect(x.shape).toEqual([2, 3, 1, 2]);
    expect([...(await x.data()).slice(0, 2)]).toEqual([-1, 1]);
    expect(await tensorToPictures(x)).toEqual([picture, picture]);
    expect(await tensorToPictures(picturesToTensor([picture], "unit"), "unit")).toEqual([picture]);
    expect(() => picturesToTensor([picture, gray(2, 1, [0, 0])])).toThrow(ShapeError);
  });
});

describe("folders", () => {
  test("pictures are found in natural order, hidden and other files left out", async () => {
    for (const name of ["b/10.png", "b/2.png", "a/1.PNG"]) put(name, await plain(2, 2));
    put("b/.hidden.png", new Uint8Array(1));
    put("b/notes.txt", new Uint8Array(1));
    const pictures = await openPictureFolder(at());
    expect((await readAll(pictures)).map((p) => p.name)).toEqual(["a/1.PNG", "b/2.png", "b/10.png"]);
    const classes = await openClassFolders(at());
    expect(classes.classes).toEqual(["a", "b"]);
    expect((await readAll(classes)).map((p) => p.label)).toEqual([0, 1, 1]);
    expect(() => pictures.get(3)).toThrow(/sample 3 of 3/);
  });
  test("links count as what they lead to, folders of links too; one that leads nowhere is named", async () => {
    put("store/red", await plain(3, 2));
    put("more/blue.png", await plain(1, 1, "blue"));
    mkdirSync(at("set/a"), { recursive: true });
    symlinkSync(at("store/red"), at("set/a/1.png"));
    symlinkSync(at("more"), at("set/b"));
    symlinkSync(at("set"), at("set/again")); // it would go round for ever
    const classes = await openClassFolders(at("set"));
    expect((await readAll(classes)).map(({ name, label }) => [name, label])).toEqual([
      ["a/1.png", 0],
      ["b/blue.png", 1],
    ]);
    symlinkSync(at("gone"), at("set/a/2.png"));
    await expect(readAll(await openPictureFolder(at("set")))).rejects.toThrow(
      /set\/a\/2\.png: .*no such file/,
    );
  });

  test("an empty or missing folder and a picture outside the classes are refused", async () => {
    await expect(openPictureFolder(at())).rejects.toThrow(/no pictures/);
    await expect(openPictureFolder(at("none"))).rejects.toThrow(/none: there is no such folder/);
    put("loose.png", await plain(1, 1));
    put("a/in.png", await plain(1, 1));
    await expect(openClassFolders(at())).rejects.toThrow(/loose.png: lies in no class folder/);
  });
  test("pairs are matched by name whatever their endings; lonely files and other sizes are named", async () => {
    put("x/1_real.png", await plain(2, 2));
    put(
      "y/1_mean.jpg",
      await sharp(await plain(2, 2))
        .jpeg()
        .toBuffer(),
    );
    const key = (stem: string): string => stem.split("_")[0]!;
    const pairs = await openPairs(at("x"), at("y"), { keyA: key, keyB: key });
    expect((await pairs.get(0)).name).toBe("1");
    await expect(openPairs(at("x"), at("y"))).rejects.toThrow(/2 files have no partner.*1_real.png/);
    put("x/2_real.png", await plain(2, 2));
    put("y/2_mean.png", await plain(3, 2));
    const odd = await openPairs(at("x"), at("y"), { keyA: key, keyB: key });
    await expect(Promise.resolve(odd.get(1))).rejects.toThrow(/2_mean.png: is 3x2, its partner 2x2/);
  });
  test("masks are labels; what does not fit its meaning is refused with the place", async () => {
    put("image/1.png", await plain(2, 2));
    put("mask/1.png", await encodePicture(gray(2, 2, [0, 255, 255, 0])));
    const samples = await openMasked(at("image"), at("mask"));
    expect([...(await samples.get(0)).labels]).toEqual([0, 1, 1, 0]);
    expect([...maskLabels(gray(2, 1, [3, 0]), "instances")]).toEqual([3, 0]);
    expect(() => maskLabels(gray(3, 1, [0, 128, 255]), "binary", "m")).toThrow(/m: 3 values \(0, 128, 255\)/);
    expect(() => maskLabels(gray(2, 2, [0, 1, 2, 5]), { classes: 3 }, "m")).toThrow(
      /label 5 at \(1, 1\) of 3 classes/,
    );
    const colours = { width: 1, height: 1, channels: 3, data: Uint8Array.of(1, 2, 3) };
    expect(() => maskLabels(colours, "binary")).toThrow(/a mask in colours/);
    put("mask/1.png", await encodePicture(gray(1, 2, [0, 255])));
    await expect(Promise.resolve(samples.get(0))).rejects.toThrow(/1.png: is 1x2, its partner 2x2/);
  });
});

test("datasets are views: mapped, cut, joined, paired", async () => {
  const numbers = fromArray([1, 2, 3]);
  const doubled = mapDataset(numbers, (x) => 2 * x);
  expect(await readAll(concatDatasets(subset(doubled, [2, 0]), numbers))).toEqual([6, 2, 1, 2, 3]);
  expect(await zipDatasets(numbers, doubled).get(1)).toEqual([2, 4]);
  expect(() => subset(numbers, [3])).toThrow(ArgumentError);
  expect(() => zipDatasets(numbers, fromArray([1]))).toThrow(ArgumentError);
});

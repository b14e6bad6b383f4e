import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { zipSync } from "fflate";
import { parquetWriteBuffer } from "hyparquet-writer";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import {
  decodeIdx,
  decodeNpy,
  openCifarBinary,
  openIdxPictures,
  openPictureArchive,
  readColmap,
  readNerfTransforms,
  readNifti,
  readNpz,
  readRealEstate10k,
  readTable,
  readTiffStack,
  unzip,
} from "../../src/data/index.ts";
import { FormatError } from "../../src/errors.ts";
import { cameraCentre, project } from "../../src/geometry/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const at = useTemporaryFolder();
const file = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(at(name), bytes);
  return at(name);
};

const idx = (type: number, shape: number[], body: number[]): Uint8Array =>
  Uint8Array.from([0, 0, type, shape.length, ...shape.flatMap((d) => [0, 0, d >> 8, d & 255]), ...body]);

describe("IDX", () => {
  test("pictures and labels are read, gzip or not; big-endian numbers are turned", async () => {
    const images = file("i.gz", gzipSync(idx(8, [2, 2, 3], [...Array(12).keys()])));
    const pictures = await openIdxPictures(images, file("l", idx(8, [2], [7, 9])));
    expect(pictures.length).toBe(2);
    const { image, label } = await pictures.get(1);
    expect([label, image.width, image.height, [...image.data]]).toEqual([9, 3, 2, [6, 7, 8, 9, 10, 11]]);
    expect([...decodeIdx(idx(11, [2], [1, 2, 255, 254])).data]).toEqual([258, -2]);
  });
  test("another format, a cut header, a wrong length and a wrong number of labels are refused by name", async () => {
    const images = file("images", idx(8, [2, 2, 3], [...Array(12).keys()]));
    expect(() => decodeIdx(Uint8Array.of(1, 2, 3, 4))).toThrow(/magic/);
    expect(() => decodeIdx(Uint8Array.of(0, 0, 8, 3, 0, 0))).toThrow(/cut off/);
    expect(() => decodeIdx(idx(8, [2, 2], [1, 2, 3]), "short")).toThrow(
      /short: \[2, 2\] takes 4 bytes, but 3/,
    );
    await expect(openIdxPictures(images, file("l", idx(8, [3], [1, 2, 3])))).rejects.toThrow(
      /expected 2 labels/,
    );
    await expect(openIdxPictures(at("none"), images)).rejects.toThrow(/none: there is no such file/);
    const damaged = gzipSync(idx(8, [1], [1]));
    damaged[12] = damaged[12]! ^ 255;
    await expect(openIdxPictures(file("d.gz", damaged), images)).rejects.toThrow(
      /d.gz: the gzip data is damaged/,
    );
  });
});

test("CIFAR's planes become interleaved pixels", async () => {
  const record = Uint8Array.from({ length: 3073 }, (_, i) => (i === 0 ? 4 : Math.floor((i - 1) / 1024) * 10));
  const pictures = await openCifarBinary([file("a.bin", record), file("b.bin", new Uint8Array(2 * 3073))]);
  expect(pictures.length).toBe(3);
  const { image, label } = await pictures.get(0);
  expect([label, ...image.data.slice(0, 6)]).toEqual([4, 0, 10, 20, 0, 10, 20]);
  await expect(openCifarBinary([file("c.bin", new Uint8Array(3074))])).rejects.toThrow(
    /no whole number of records/,
  );
});

/** A version 1 `.npy` file. */
function npy(header: string, body: Uint8Array): Uint8Array {
  const text = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11, " ").concat("\n");
  return Uint8Array.from([
    0x93,
    ...Buffer.from("NUMPY"),
    1,
    0,
    text.length & 255,
    text.length >> 8,
    ...Buffer.from(text),
    ...body,
  ]);
}

describe("NumPy", () => {
  test("row-major, column-major and big-endian arrays give the same values", () => {
    const little = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);
    const c = decodeNpy(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", little));
    expect([c.shape, [...c.data]]).toEqual([[2, 3], [1, 2, 3, 4, 5, 6]]); // biome-ignore format: one row
    const columns = new Uint8Array(Float32Array.of(1, 4, 2, 5, 3, 6).buffer);
    expect([
      ...decodeNpy(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", columns)).data,
    ]).toEqual([1, 2, 3, 4, 5, 6]);
    const big = Uint8Array.of(0, 1, 255, 254);
    expect([
      ...decodeNpy(npy("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", big)).data,
    ]).toEqual([1, -2]);
    expect(
      decodeNpy(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (), }", Uint8Array.of(5))).shape,
    ).toEqual([]);
  });
  test("archives are read by name; pickled objects and wrong lengths are refused", async () => {
    const array = npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }", Uint8Array.of(7, 0, 0, 0));
    const arrays = await readNpz(file("a.npz", zipSync({ "x.npy": array })));
    expect([...arrays.get("x")!.data]).toEqual([7]);
    expect(() =>
      decodeNpy(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", Uint8Array.of(1))),
    ).toThrow(/\|O.*not supported/);
    expect(() => decodeNpy(array.subarray(0, array.length - 1), "cut")).toThrow(
      /cut: .* takes 4 bytes, 3 follow/,
    );
    expect(() => decodeNpy(Uint8Array.of(1))).toThrow(/magic/);
  });
});

describe("zip", () => {
  test("pictures of an archive are listed in natural order", async () => {
    const png = await sharp({ create: { width: 2, height: 1, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    const path = file(
      "p.zip",
      zipSync({ "x10.png": png, "x2.png": png, "notes.txt": Uint8Array.of(1) }, { level: 0 }),
    );
    const pictures = await openPictureArchive(path);
    expect((await pictures.get(0)).name).toBe("x2.png");
    expect([...(await pictures.get(1)).image.data]).toEqual([255, 0, 0, 255, 0, 0]);
  });
  test("what unpacks beyond the limit, and what is no archive, is refused", () => {
    const bomb = zipSync({ zeros: new Uint8Array(1_000_000) });
    expect(() => unzip(bomb, "bomb", 100_000)).toThrow(/bomb: unpacks to more than the limit/);
    expect(() => unzip(Uint8Array.of(1, 2, 3), "odd")).toThrow(FormatError);
  });
});

describe("tables", () => {
  test("CSV with quotes and line breaks, TSV, JSON lines", async () => {
    const csv = file("t.csv", '\ufefffile,caption\na.png,"red, ""big""\nball"\n');
    expect(await readTable(csv, { columns: ["file", "caption"] })).toEqual([
      { file: "a.png", caption: 'red, "big"\nball' },
    ]);
    expect(await readTable(file("t.tsv", 'a\tb\n"1\t2\n'))).toEqual([{ a: '"1', b: "2" }]);
    expect(await readTable(file("t.jsonl", '{"a":1}\n\n{"a":2}\n'), { columns: ["a"] })).toEqual([
      { a: 1 },
      { a: 2 },
    ]);
  });
  test("Parquet: captions with their pictures' bytes, all columns or some; damage and missing columns are named", async () => {
    const pictures = [Uint8Array.of(137, 80, 78, 71), Uint8Array.of(255, 216, 0)];
    const bytes = parquetWriteBuffer({
      columnData: [
        { name: "caption", data: ["a red ball", "ein grüner Würfel"], type: "STRING" },
        { name: "image", data: pictures, type: "BYTE_ARRAY" },
        { name: "width", data: [24, 32], type: "INT32" },
        { name: "score", data: [0.5, null], type: "DOUBLE" },
      ],
    });
    const path = file("captions.parquet", new Uint8Array(bytes));
    const rows = await readTable(path);
    expect(rows.map(({ image, ...rest }) => ({ ...rest, image: [...(image as Uint8Array)] }))).toEqual([
      { caption: "a red ball", image: [137, 80, 78, 71], width: 24, score: 0.5 },
      { caption: "ein grüner Würfel", image: [255, 216, 0], width: 32, score: null },
    ]);
    expect(await readTable(path, { columns: ["width", "caption"] })).toEqual([
      { width: 24, caption: "a red ball" },
      { width: 32, caption: "ein grüner Würfel" },
    ]);
    await expect(readTable(path, { columns: ["text"] })).rejects.toThrow(
      /lacks the column text; it has caption/,
    );
    const damaged = new Uint8Array(bytes.slice(0));
    damaged.fill(0xff, 4, 40);
    await expect(readTable(file("damaged.parquet", damaged))).rejects.toThrow(
      /damaged.parquet: .* is damaged/,
    );
  });
  test("missing columns, short rows, bad lines and unknown endings are named", async () => {
    await expect(readTable(file("m.csv", "a,b\n1,2\n"), { columns: ["a", "caption"] })).rejects.toThrow(
      /m.csv: lacks the column caption; it has a, b/,
    );
    await expect(readTable(file("s.csv", "a,b\n1,2\n3\n"))).rejects.toThrow(/s.csv: .*line 3/);
    await expect(readTable(file("b.jsonl", '{"a":1}\n{oops\n'))).rejects.toThrow(
      /b.jsonl: line 2 is not JSON/,
    );
    await expect(readTable(file("l.jsonl", '{"a":1}\n'), { columns: ["b"] })).rejects.toThrow(
      /line 1: lacks/,
    );
    await expect(readTable(file("x.xls", ""))).rejects.toThrow(/\.parquet/);
    await expect(readTable(file("p.parquet", "PAR1 no"))).rejects.toThrow(/p.parquet: is no Parquet file/);
    await expect(readTable(file("u.csv", Uint8Array.of(0xff, 0xfe, 0x41)))).rejects.toThrow(/not UTF-8/);
  });
});

describe("cameras", () => {
  const line = "100 0.5 0.9 0.5 0.5 0 0 1 0 0 0.25 0 1 0 0 0 0 1 2";
  test("RealEstate10K shares become pixels and poses are world-to-camera", async () => {
    const { source, frames } = await readRealEstate10k(
      file("c.txt", `https://example.org/v\n${line}\n`),
      200,
      100,
    );
    const { camera, timestamp } = frames[0]!;
    expect([source, timestamp, camera.fx, camera.fy, camera.cx]).toEqual([
      "https://example.org/v",
      100,
      100,
      90,
      100,
    ]);
    expect(cameraCentre(camera)).toEqual([-0.25, -0, -2]);
  });
  test("NeRF poses are turned from OpenGL to OpenCV axes", async () => {
    // A camera at (0, 0, 5) that looks along -z, at the origin.
    const transform_matrix = [
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 1, 5],
      [0, 0, 0, 1],
    ];
    const path = file(
      "t.json",
      JSON.stringify({
        w: 80,
        h: 60,
        camera_angle_x: Math.PI / 2,
        frames: [{ file_path: "a.png", transform_matrix }],
      }),
    );
    const { camera, image } = (await readNerfTransforms(path)).frames[0]!;
    expect([image, camera.fx]).toEqual(["a.png", expect.closeTo(40, 9)]);
    expect(project(camera, [0, 0, 0])).toEqual({ x: 40, y: 30, depth: 5 });
    expect(project(camera, [1, 1, 0])).toMatchObject({ x: expect.closeTo(48, 9), y: expect.closeTo(22, 9) });
  });
  test("COLMAP text is read in the order of the images' ids", async () => {
    file("cameras.txt", "# list\n1 PINHOLE 64 48 50 51 32 24\n2 SIMPLE_RADIAL 64 48 40 32 24 0.1\n");
    file(
      "images.txt",
      "# two lines each\n2 1 0 0 0 0 0 1 2 b.png\n1.5 2.5 -1\n1 0.70710678 0 0.70710678 0 1 2 3 1 a.png\n\n",
    );
    const { frames } = await readColmap(at());
    expect(frames.map((f) => [f.image, f.camera.fx, f.camera.fy])).toEqual([
      ["a.png", 50, 51],
      ["b.png", 40, 40],
    ]);
    const [first] = frames;
    expect(first!.camera.worldToCamera.slice(0, 4).map((x) => Math.round(x * 1e6) / 1e6)).toEqual([
      0, 0, 1, 1,
    ]);
  });
  test("names of COLMAP's images may hold spaces, have no ending, and be numbers", async () => {
    const { frames } = await readColmap(
      fileURLToPath(new URL("../fixtures/files/13-colmap/space-in-name", import.meta.url)),
    );
    expect(frames.map(({ image }) => image)).toEqual(["my photo 1.jpg", "b.jpg"]);
    file("cameras.txt", "1 SIMPLE_PINHOLE 10 8 5 5 4\n");
    const pose = "1 0 0 0 0 0 1 1";
    file(
      "images.txt",
      `1 ${pose} frame\n1 2 -1\n2 ${pose} 0002\n1 2 -1 3 4 5 6 7 -1 8 9 -1\n3 ${pose} a b c\n`,
    );
    expect((await readColmap(at())).frames.map(({ image }) => image)).toEqual(["frame", "0002", "a b c"]);
  });
  test("short lines, words, mirrors and missing fields are refused with their line", async () => {
    const read = (text: string) => readRealEstate10k(file("x.txt", text), 10, 10);
    await expect(read(`u\n${line}\n1 2 3\n`)).rejects.toThrow(/line 3: expected 19 numbers, got 3/);
    await expect(read(`u\n${line.replace("0.9", "wide")}\n`)).rejects.toThrow(/line 2: "wide" is no number/);
    await expect(read(`u\n${line.replace("0 0 1 0 0 0.25", "0 0 -1 0 0 0.25")}\n`)).rejects.toThrow(
      /no rotation/,
    );
    await expect(read("u\n")).rejects.toThrow(/no camera lines/);
    const nerf = (json: unknown) => readNerfTransforms(file("n.json", JSON.stringify(json)));
    await expect(nerf({ w: 1, h: 1 })).rejects.toThrow(/no `frames`/);
    await expect(nerf({ w: 1, h: 1, frames: [{}] })).rejects.toThrow(
      /frame 0: `transform_matrix` is not 4x4/,
    );
  });
});

describe("volumes", () => {
  /** A NIfTI-1 file of 16-bit voxels. */
  function nifti(shape: [number, number, number], values: number[], slope = 2, intercept = 1): Uint8Array {
    const bytes = new Uint8Array(352 + 2 * values.length);
    const view = new DataView(bytes.buffer);
    view.setInt32(0, 348, true);
    [3, ...shape, 1, 1, 1, 1].forEach((d, i) => {
      view.setInt16(40 + 2 * i, d, true);
    });
    view.setInt16(70, 4, true);
    view.setInt16(72, 16, true);
    [1, 0.5, 0.75, 3].forEach((d, i) => {
      view.setFloat32(76 + 4 * i, d, true);
    });
    view.setFloat32(108, 352, true);
    view.setFloat32(112, slope, true);
    view.setFloat32(116, intercept, true);
    bytes.set(Buffer.from("n+1\0"), 344);
    values.forEach((v, i) => {
      view.setInt16(352 + 2 * i, v, true);
    });
    return bytes;
  }
  test("NIfTI voxels come with slope, intercept and spacing, gzip or not", async () => {
    const bytes = nifti([2, 2, 2], [0, 1, 2, 3, -4, 5, 6, 7]);
    const volume = await readNifti(file("v.nii.gz", gzipSync(bytes)));
    expect(volume.slices.map((s) => [...s.data])).toEqual([
      [1, 3, 5, 7],
      [-7, 11, 13, 15],
    ]);
    expect(volume.spacing).toEqual([0.5, 0.75, 3]);
    await expect(readNifti(file("cut.nii", bytes.subarray(0, 360)))).rejects.toThrow(
      /more than the file holds/,
    );
    await expect(readNifti(file("no.nii", new Uint8Array(400)))).rejects.toThrow(/no NIfTI/);
  });
  test("a TIFF's single page is a volume of one slice with its depth kept", async () => {
    const pixels = Uint16Array.of(0, 300, 65535, 7);
    const tiff = await sharp(pixels, { raw: { width: 2, height: 2, channels: 1 } })
      .toColourspace("grey16")
      .tiff({ compression: "none" })
      .toBuffer();
    const { slices } = await readTiffStack(file("s.tif", tiff));
    expect(slices.map((s) => [...s.data])).toEqual([[0, 300, 65535, 7]]);
  });
});

/** Every reader of files, fed with what people's disks hold in a file's place: one clear error of a kind, with its name. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { zipSync } from "fflate";
import { parquetWriteBuffer } from "hyparquet-writer";
import sharp from "sharp";
import { beforeAll, describe, expect, it, test } from "vitest";
import {
  openCifarBinary,
  openIdxPictures,
  openPictureArchive,
  readCsv,
  readJson,
  readJsonLines,
  readMatrix4,
  readNerfTransforms,
  readNifti,
  readNpy,
  readNpz,
  readParquet,
  readPictureFile,
  readRealEstate10k,
  readTiffStack,
} from "../../src/data/index.ts";
import { TweedieError } from "../../src/errors.ts";
import {
  encodeSafetensors,
  openSharded,
  pictureSize,
  readMask,
  readPicture,
  readPngTextFile,
  readSafetensors,
} from "../../src/io/index.ts";
import { openFeatureNetwork } from "../../src/metrics/index.ts";
import { loadModel, loadPipelineComponents } from "../../src/pipelines/index.ts";
import { readConfig } from "../../src/pipelines/model-files.ts";
import { readTokenizer } from "../../src/pipelines/tokenizer-files.ts";
import { sdsegFile } from "../../src/systems/sdseg/model.ts";
import { exportOnnx, importOnnx, zeros } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { tiffBytes } from "../io/tiff-writer.ts";

const path = useTemporaryFolder();
const fixture = (name: string): Uint8Array =>
  readFileSync(fileURLToPath(new URL(`../fixtures/files/${name}`, import.meta.url)));

const npy = (): Uint8Array => {
  const header = "{'descr': '|u1', 'fortran_order': False, 'shape': (64,), }".padEnd(117);
  const head = Buffer.from(`\x93NUMPY\x01\x00\x76\x00${header}\n`, "latin1");
  return Buffer.concat([head, new Uint8Array(64)]);
};
const raw = { raw: { width: 16, height: 16, channels: 3 } } as const;
const image = (format: "png" | "jpeg" | "webp" | "gif") => (): Promise<Uint8Array> =>
  sharp(
    Uint8Array.from({ length: 768 }, (_, i) => (i * 37) % 256),
    raw,
  )
    .toFormat(format)
    .toBuffer();
const tiff = (type: "u8" | "f32") => () =>
  tiffBytes({
    width: 8,
    height: 8,
    channels: 1,
    type,
    values: Array.from({ length: 64 }, (_, i) => i),
    littleEndian: true,
    orientation: 1,
  });
const text = (words: string) => () => new TextEncoder().encode(words);
const idx = () => Uint8Array.from([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 4, ...Array(16).fill(1)]);
const tensors = () => encodeSafetensors({ a: { dtype: "f32", shape: [16], data: new Float32Array(16) } });

/** A file of this name that is as it should be, and who reads it. */
interface Case {
  readonly name: string;
  readonly sound: () => Uint8Array | Promise<Uint8Array>;
  readonly read: (path: string) => Promise<unknown>;
  /** A beginning of it is a whole file of its kind as well. */
  readonly cutIsSound?: true;
  /** So is a file without anything. */
  readonly emptyIsSound?: true;
  /** The sound file is of the format and yet not what this reader wants. */
  readonly soundIsRefused?: true;
}

const CASES: readonly Case[] = [
  { name: "a.png", sound: image("png"), read: (p) => readPictureFile(p) },
  { name: "a.jpg", sound: image("jpeg"), read: (p) => readPictureFile(p) },
  { name: "a.webp", sound: image("webp"), read: (p) => readPictureFile(p) },
  { name: "a.gif", sound: image("gif"), read: (p) => readPictureFile(p) },
  { name: "bytes.tif", sound: tiff("u8"), read: (p) => readPictureFile(p) },
  { name: "floats.tif", sound: tiff("f32"), read: (p) => readPictureFile(p, { depth: "file" }) },
  { name: "a.bmp", sound: () => fixture("11-bmp/train/images/a.bmp"), read: (p) => readPictureFile(p) },
  { name: "stack.tif", sound: tiff("u8"), read: readTiffStack },
  { name: "tensor.png", sound: image("png"), read: (p) => readPicture(p) },
  { name: "mask.png", sound: image("png"), read: (p) => readMask(p) },
  { name: "size.png", sound: image("png"), read: pictureSize, cutIsSound: true },
  { name: "text.png", sound: image("png"), read: readPngTextFile },
  {
    name: "c.nii.gz",
    sound: () => fixture("10-nifti-folder/int64-labels/images/c.nii.gz"),
    read: readNifti,
  },
  { name: "plain.nii", sound: () => fixture("09-nifti-nonfinite/slope-inf.nii"), read: readNifti },
  { name: "a.npy", sound: npy, read: readNpy },
  { name: "a.npz", sound: () => zipSync({ "x.npy": npy() }), read: readNpz },
  {
    name: "a.zip",
    sound: async () => zipSync({ "a.png": await image("png")() }),
    read: (p) => openPictureArchive(p).then((all) => all.get(0)),
  },
  {
    name: "a.csv",
    sound: text("a,b\n1,2\n"),
    read: (p) => readCsv(p, { columns: ["a", "b"] }),
    cutIsSound: true,
  },
  { name: "a.tsv", sound: text("a\tb\n1\t2\n"), read: (p) => readCsv(p), cutIsSound: true },
  {
    name: "a.jsonl",
    sound: text('{"a": 1234567890}\n'),
    read: (p) => readJsonLines(p),
    emptyIsSound: true,
  },
  {
    name: "a.parquet",
    sound: () =>
      new Uint8Array(parquetWriteBuffer({ columnData: [{ name: "a", data: [1, 2, 3], type: "INT32" }] })),
    read: (p) => readParquet(p),
  },
  { name: "a.idx", sound: idx, read: (p) => openIdxPictures(p, p), soundIsRefused: true },
  { name: "a.bin", sound: () => new Uint8Array(3073), read: (p) => openCifarBinary([p]) },
  { name: "pose.txt", sound: text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"), read: readMatrix4 },
  {
    name: "cameras.txt",
    sound: text(`https://a\n0 1 1 .5 .5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n`),
    read: (p) => readRealEstate10k(p, 8, 8),
  },
  { name: "data.json", sound: text('{"a": [1, 2, 3, 4]}'), read: readJson },
  {
    name: "transforms.json",
    sound: text(
      '{"w":8,"h":8,"fl_x":9,"frames":[{"transform_matrix":[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}]}',
    ),
    read: readNerfTransforms,
  },
  { name: "config.json", sound: text('{"_class_name": "X"}'), read: readConfig },
  { name: "merges.txt", sound: text("#version: 0.2\na b\n"), read: readTokenizer, cutIsSound: true },
  { name: "a.safetensors", sound: tensors, read: readSafetensors },
  {
    name: "a.safetensors.index.json",
    sound: text('{"weight_map": {"a": "a.safetensors.index.json.part"}}'),
    read: openSharded,
    soundIsRefused: true,
  },
  {
    name: "features.safetensors",
    sound: tensors,
    read: (p) => openFeatureNetwork(p),
    soundIsRefused: true,
  },
  { name: "sdseg.safetensors", sound: tensors, read: (p) => sdsegFile.load(p), soundIsRefused: true },
  {
    name: "model.safetensors",
    sound: tensors,
    read: (p) => loadPipelineComponents(p),
    soundIsRefused: true,
  },
  { name: "vae.safetensors", sound: tensors, read: (p) => loadModel(p), soundIsRefused: true },
  {
    name: "a.onnx",
    sound: () => exportOnnx((x) => x.add(1), [zeros([2])]),
    read: (p) => importOnnx(p).then((model) => model.close()),
  },
];

/** Files whose last byte carries nothing that is asked for: an end mark, a line's end, a byte after the voxels. */
const ENDS_IN_VAIN = /\.(?:txt|jsonl|nii|jpg|png|gif)$/;

const LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 123456\n";
const PAGE =
  "\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>nothing</body></html>\n";

/** The error of a reader. */
async function errorOf(read: () => Promise<unknown>): Promise<Error> {
  try {
    await read();
  } catch (error) {
    return error as Error;
  }
  throw new Error("it was read");
}

/** One sentence or a few about the file: of a kind of ours, naming it, without the words of a defect. */
function expectClear(error: Error, name: string): void {
  expect(error, `${error.stack}`).toBeInstanceOf(TweedieError);
  expect(error.message).toContain(name);
  expect(error.message).not.toMatch(/undefined|\[object|is not a function|NaN|\n\s+at /);
  expect(error.message.length).toBeLessThan(1500);
}

describe.each(CASES)("$name", ({ name, sound, read, cutIsSound, emptyIsSound, soundIsRefused }) => {
  let bytes: Uint8Array;
  beforeAll(async () => {
    bytes = await sound();
  });
  const write = (content: Uint8Array | string): string => {
    writeFileSync(path(name), content);
    return path(name);
  };

  it("is read as it should be", async () => {
    const file = write(bytes);
    if (soundIsRefused) expectClear(await errorOf(() => read(file)), name);
    else await read(file);
  });

  it.skipIf(cutIsSound)("is refused when it was cut off", async () => {
    const last = ENDS_IN_VAIN.test(name) ? [] : [bytes.length - 1];
    for (const length of [...last, bytes.length >> 1, 20, 5, 1])
      if (length < bytes.length)
        expectClear(await errorOf(() => read(write(bytes.subarray(0, length)))), name);
  });

  it.each([
    ["is empty", "", /empty|0 bytes|cut off|no (?:`frames`|camera)|expected|begin|is no/],
    ["is a git-LFS pointer", LFS, /git-LFS pointer/],
    ["is an error page", PAGE, /web page/],
  ])("is refused when it %s", async (_, content, words) => {
    if (content === "" && emptyIsSound) return expect(await read(write(content))).toEqual([]);
    const error = await errorOf(() => read(write(content)));
    expectClear(error, name);
    expect(error.message).toMatch(words);
  });

  it("is refused when it is a folder, or not there", async () => {
    mkdirSync(path("folder", name), { recursive: true });
    expectClear(await errorOf(() => read(path("folder", name))), name);
    const { message, path: named = "" } = (await errorOf(() => read(path("nowhere", name)))) as Error & {
      path?: string;
    };
    expect(message + named).toContain(name);
  });
});

test("a PNG of no width is said to be one", async () => {
  const bytes = Buffer.from(await image("png")());
  bytes.writeUInt32BE(0, 16);
  writeFileSync(path("flat.png"), bytes);
  const { message } = await errorOf(() => readPictureFile(path("flat.png")));
  expect(message).toMatch(/flat\.png: a picture of 0x16 pixels/);
});

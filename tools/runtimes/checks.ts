/** What must work on every runtime, of the package as it is installed. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";

/** What a check runs in the folder of its runtime, and how its end is judged. */
export interface Check {
  readonly name: string;
  /** File, relative to the package, and its arguments. */
  readonly script: string;
  readonly args: readonly string[];
  /** Folder or file that it writes, whose pictures must be those that the reference makes. */
  readonly pictures?: string;
  /** Also on an emulated processor, where arithmetic takes forty times as long. */
  readonly emulated?: boolean;
}

const CLI = "bin/tweedie.mjs";

/** Inputs lie in one folder for all: see `writeInputs`. */
export const checksFor = (inputs: string): readonly Check[] => [
  { name: "doctor", script: CLI, args: ["doctor"], emulated: true },
  {
    name: "tour",
    script: "dist/cli/start.js",
    args: ["--no-studio", "--steps", "20", "--out", "tour"],
  },
  {
    name: "run sdseg",
    script: CLI,
    args: ["run", "sdseg", "--model", "lesions", "--image", join(inputs, "lesion.png"), "--out", "sdseg"],
    pictures: "sdseg",
    emulated: true,
  },
  {
    name: "run q-dit",
    script: CLI,
    args: ["run", "q-dit", "--model", "fashion-w4a8", "--label", "7", "--count", "2", "--steps", "4"].concat(
      "--out",
      "q-dit/clothes.png",
    ),
    pictures: "q-dit",
    emulated: true,
  },
  {
    name: "run umd",
    script: CLI,
    args: ["run", "umd", "--label", "6", "--count", "2", "--steps", "4", "--out", "umd"],
    pictures: "umd",
    emulated: true,
  },
  {
    name: "run diffloss",
    script: CLI,
    args: [
      "run",
      "diffloss",
      "--model",
      "denoise",
      "--image",
      join(inputs, "lesion.png"),
      "--out",
      "diffloss",
    ],
    pictures: "diffloss",
    emulated: true,
  },
  { name: "f16 values", script: "../../half.js", args: [], emulated: true },
  {
    name: "f16 pipeline",
    script: CLI,
    args: ["generate", "--model", join(inputs, "half"), "--prompt", "a red cat", "--seed", "7"].concat(
      "--steps",
      "4",
      "--out",
      "pipeline",
    ),
    pictures: "pipeline",
    emulated: true,
  },
];

/** Half-precision numbers that go through the runtime and come back, bit for bit. */
export const HALF_SCRIPT = `import { tensor } from "tweedie";
const values = [0, 1, -2.5, 65504, 2 ** -24, 1 / 3, Number.POSITIVE_INFINITY];
const bits = [0, 0x3c00, 0xc100, 0x7bff, 1, 0x3555, 0x7c00];
const half = tensor(values).mul(1).cast("f16");
const [found, back] = [[...(await half.data())], await half.toArray()];
if (String(found) !== String(bits)) throw new Error("expected the f16 patterns " + bits + ", got " + found);
const expected = values.map((v, i) => (i === 5 ? 0.333251953125 : v));
if (String(back) !== String(expected)) throw new Error("expected " + expected + ", got " + back);
console.log("f16 " + back);
`;

/** Paths of the pictures below a folder. */
async function picturesIn(folder: string): Promise<string[]> {
  if (!existsSync(folder)) return [];
  return (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".png")).sort();
}

/**
 * What is wrong with the pictures that a check wrote, beside those of the reference; undefined when nothing is. The
 * same kernels give the same pictures; another processor's round otherwise, and of them only a mean is compared.
 */
export async function pictureFault(
  found: string,
  expected: string,
  emulated: boolean,
): Promise<string | undefined> {
  const names = await picturesIn(expected);
  if (names.length === 0) return `the reference wrote no pictures to ${expected}`;
  const got = await picturesIn(found);
  if (String(got) !== String(names)) return `expected the pictures ${names}, got ${got}`;
  for (const name of names) {
    const [a, b] = await Promise.all(
      [found, expected].map(async (folder) =>
        sharp(await readFile(join(folder, name)))
          .raw()
          .toBuffer(),
      ),
    );
    if (a!.length !== b!.length) return `${name} has another size than the reference's`;
    const differences = a!.map((v, i) => Math.abs(v - b![i]!));
    const worst = differences.reduce((x, y) => Math.max(x, y), 0);
    const mean = differences.reduce((x, y) => x + y, 0) / differences.length;
    if (emulated ? mean > 4 : worst > 1)
      return `${name} is not the reference's: pixels differ by ${worst}, ${mean.toFixed(2)} on average`;
  }
  return undefined;
}

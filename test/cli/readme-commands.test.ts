/** Every `tweedie` command that the README and the systems' pages print in a block is run as it is printed. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodePicture } from "../../src/io/index.ts";
import { convertToSingleFile, saveModel } from "../../src/pipelines/index.ts";
import { tinyModel } from "../pipelines/tiny-models.ts";
import { writeTinyStableDiffusion } from "../pipelines/tiny-pipelines.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const SYSTEMS = readdirSync(join(root, "src/systems"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => `src/systems/${name}/README.md`);
const PAGES = ["README.md", ...SYSTEMS];

/** What a command needs to be short: options behind the printed ones. Later ones count. */
const SHORT: readonly (readonly [start: RegExp, more: readonly string[]])[] = [
  [/^train sdseg/, ["--preset", "smoke", "--steps", "2", "--autoencoder-steps", "2", "--decoder-steps", "0"]],
  [/^evaluate sdseg/, ["--limit", "2"]],
  [/^train umd/, ["--preset", "smoke", "--steps", "2", "--batch", "4"]],
  [/^run umd(?!.*--mode)/, ["--count", "2", "--steps", "2"]],
  [/^evaluate umd/, ["--limit", "40"]],
  [/^train q-dit/, ["--steps", "2", "--batch", "4"]],
  [/^run q-dit/, ["--count", "2", "--steps", "2"]],
  [/^evaluate q-dit/, ["--count", "10", "--steps", "2"]],
  [/^train decomp/, ["--preset", "smoke", "--size", "8", "--steps", "2", "--batch", "4"]],
  [/^run decomp/, ["--steps", "2"]],
  [/^evaluate decomp/, ["--limit", "4", "--steps", "2"]],
  [
    /^train diffloss/,
    ["--steps", "2", "--batch", "2", "--crop", "16", "--pictures", "9"].concat("--threads", "1"),
  ],
  [/^train diffloss.*--part prior/, ["--size", "smoke"]],
  [/^evaluate diffloss/, ["--limit", "2"]],
  [/^train noise-da/, ["--steps", "1", "--batch", "1", "--crop", "16", "--threads", "1"]],
  [/^train noise-da(?!.*--mode 0)/, ["--diffusion", "smoke"]],
  [/^evaluate noise-da/, ["--limit", "2"]],
  [/^train anycontrol/, ["--steps", "1", "--batch", "2", "--threads", "1"]],
  [/^run anycontrol/, ["--steps", "2"]],
  [/^evaluate anycontrol(?!.*--part)/, ["--limit", "2", "--steps", "2"]],
  [/^evaluate anycontrol.*--part/, ["--made", "2"]],
  [/^train ncp-dpo/, ["--steps", "1", "--batch", "2", "--threads", "1"]],
  [/^run ncp-dpo/, ["--steps", "1", "--count", "1"]],
  [/^evaluate ncp-dpo/, ["--limit", "4", "--steps", "2"]],
  [/^quantize .*q-dit/, ["--samples", "32", "--steps", "4"]],
  [/^quantize .*--search/, ["--population", "2", "--generations", "1"]],
  [/^train text-to-picture/, ["--steps", "2", "--batch", "2", "--channels", "8,16"]],
  [/^train (lora|controlnet)/, ["--steps", "2", "--batch", "2"]],
  [/^generate --model (checkpoints|out)/, ["--steps", "2"]],
  [/^generate --model (?!checkpoints|out)/, ["--out", "out/picture.png"]],
];

/** Of a command that goes on from a checkpoint, what the checkpoint decides is left out. */
const DECIDED = ["--preset", "--autoencoder-steps", "--decoder-steps"];

/** Commands that are not run, and why; that their options exist is tested. */
const NOT_RUN: readonly (readonly [start: RegExp, why: string])[] = [
  [
    /^reproduce/,
    "trains and measures for hours; what it asks for is tested in test/systems/*/ with a study that only lists",
  ],
];

interface Printed {
  readonly page: string;
  readonly command: string;
  readonly args: readonly string[];
}

/** The words of a command, quotes undone, a comment left out. */
function wordsOf(line: string): string[] {
  const words = line.replace(/\s+#.*$/, "").match(/"[^"]*"|\S+/g) ?? [];
  return words.map((word) => word.replace(/^"(.*)"$/, "$1"));
}

/** Commands in the blocks of code of a page. */
function printedIn(page: string): Printed[] {
  const found: Printed[] = [];
  let inside = false;
  for (const line of readFileSync(join(root, page), "utf8").split("\n")) {
    if (/^\s*```/.test(line)) inside = !inside;
    else if (inside && /^\s*(?:npx )?tweedie /.test(line)) {
      const [, ...args] = wordsOf(line.trim().replace(/^npx /, ""));
      found.push({ page, command: args.join(" "), args });
    }
  }
  return found;
}

const ALL = PAGES.flatMap(printedIn);
const isRun = ({ command }: Printed): boolean => !NOT_RUN.some(([start]) => start.test(command));

/** The words that are run: the printed ones, shortened. */
function shortened({ args, command }: Printed): string[] {
  const more = SHORT.filter(([start]) => start.test(command)).flatMap(([, words]) => words);
  const kept = command.includes(" --from out/")
    ? more.filter((word, i) => !DECIDED.includes(word) && !DECIDED.includes(more[i - 1] ?? ""))
    : more;
  const given = new Set(args);
  return [
    ...args,
    ...kept.filter((word, i) => !(word.startsWith("--") ? given.has(word) : given.has(kept[i - 1]!))),
  ];
}

/** One block of 64 channels, which the printed groups divide. */
const DIT = {
  _class_name: "DiTTransformer2DModel",
  ...{ sample_size: 8, num_layers: 1, patch_size: 2, attention_head_dim: 8, num_attention_heads: 8 },
  ...{ in_channels: 4, out_channels: 8, num_embeds_ada_norm: 10 },
};

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

/** A gray picture with a bright square. */
const bright = (x: number): Uint8Array =>
  Uint8Array.from({ length: 64 * 64 }, (_, i) => (inSquare(i, x) ? 200 : 40 + ((i * 7) % 30)));
const inSquare = (i: number, x: number): boolean =>
  i % 64 >= x && i % 64 < x + 20 && i >= 64 * 20 && i < 64 * 40;
const png = (data: Uint8Array) => encodePicture({ width: 64, height: 64, channels: 1, data });

/** Pictures with their numbers as names. */
async function writePictures(name: string, count: number): Promise<void> {
  mkdirSync(at(name), { recursive: true });
  for (let k = 0; k < count; k++) writeFileSync(at(name, `${k}.png`), await png(bright(3 * k)));
}

async function writeCells(name: string, labelOf: (i: number, x: number) => number): Promise<void> {
  for (const part of ["images", "masks"]) mkdirSync(at(name, part), { recursive: true });
  for (let k = 0; k < 12; k++) {
    writeFileSync(at(name, "images", `${k}.png`), await png(bright(3 * k)));
    const mask = Uint8Array.from({ length: 64 * 64 }, (_, i) => labelOf(i, 3 * k));
    writeFileSync(at(name, "masks", `${k}.png`), await png(mask));
  }
}

/** Made-up pictures of 28x28 in ten classes, in the files of Fashion-MNIST. */
function writeFashion(): void {
  mkdirSync(at("fashion-mnist"));
  for (const [split, count] of [
    ["train", 1200],
    ["t10k", 300],
  ] as const) {
    const header = (words: readonly number[]): Buffer => {
      const bytes = Buffer.alloc(4 * words.length);
      for (const [i, word] of words.entries()) bytes.writeUInt32BE(word, 4 * i);
      return bytes;
    };
    const pixels = Uint8Array.from(
      { length: count * 784 },
      (_, i) => (i * 31 + Math.floor(i / 784) * 17) % 256,
    );
    const labels = Uint8Array.from({ length: count }, (_, i) => i % 10);
    const write = (kind: string, bytes: Buffer): void =>
      writeFileSync(at("fashion-mnist", `${split}-${kind}.gz`), gzipSync(bytes));
    write("images-idx3-ubyte", Buffer.concat([header([0x803, count, 28, 28]), pixels]));
    write("labels-idx1-ubyte", Buffer.concat([header([0x801, count]), labels]));
  }
}

/** A CT of three slices: 16-bit voxels in a NIfTI file. */
function writeVolume(): void {
  const bytes = Buffer.alloc(352 + 2 * 32 * 32 * 3);
  bytes.writeInt32LE(348, 0);
  for (const [i, d] of [3, 32, 32, 3, 1, 1, 1, 1].entries()) bytes.writeInt16LE(d, 40 + 2 * i);
  bytes.writeInt16LE(4, 70);
  bytes.writeInt16LE(16, 72);
  bytes.writeFloatLE(352, 108);
  bytes.write("n+1\0", 344, "latin1");
  for (let i = 0; i < 32 * 32 * 3; i++) bytes.writeInt16LE(((i * 37) % 1200) - 600, 352 + 2 * i);
  writeFileSync(at("ct.nii.gz"), gzipSync(bytes));
}

/** How a command ended. */
interface Ended {
  readonly args: readonly string[];
  readonly code: number;
  readonly said: string;
  readonly seconds: number;
}

/** Runs them in the order in which they are printed: later ones take what earlier ones have made. */
async function runAll(commands: readonly (readonly string[])[]): Promise<Ended[]> {
  const child = fileURLToPath(new URL("commands.child.ts", import.meta.url));
  const words = ["--import", import.meta.resolve("tsx"), child, folder, JSON.stringify(commands)];
  const running = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "ignore"] });
  let out = "";
  running.stdout.on("data", (data) => (out += data));
  await once(running, "close");
  return out
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tweedie-readme-"));
  await writeTinyStableDiffusion(at("stable-diffusion-v1-5"));
  await convertToSingleFile(at("stable-diffusion-v1-5"), at("v1-5-pruned.safetensors"));
  await saveModel(at("models", "dit", "transformer"), tinyModel(DIT, 1));
  writeFileSync(at("slice.png"), await png(bright(10)));
  for (const [name, x] of [
    ["a", 10],
    ["b", 30],
  ] as const)
    writeFileSync(at(`${name}.png`), await png(bright(x)));
  mkdirSync(at("my-pictures"));
  for (let k = 0; k < 7; k++) writeFileSync(at("my-pictures", `${k}.png`), await png(bright(4 * k)));
  mkdirSync(at("slices"));
  writeFileSync(at("slices", "a.png"), await png(bright(20)));
  await writeCells("my-cells", (i, x) => (inSquare(i, x) ? 255 : 0));
  await writeCells("cells", (i, x) => (inSquare(i, x) ? 1 + (Math.floor(x / 3) % 3) : 0));
  writeFileSync(at("noisy.png"), await png(bright(5)));
  for (const name of ["pets", "pets-edges"]) {
    mkdirSync(at(name));
    for (const pet of ["red-fox-1", "gray-cat-2"])
      writeFileSync(at(name, `${pet}.png`), await png(bright(6)));
  }
  await writePictures("rainy-pictures", 1);
  await writePictures("photographs", 9);
  for (const side of ["rainy", "clean"]) await writePictures(join("rain-pairs", side), 9);
  for (const side of ["good", "bad"]) {
    mkdirSync(at(side));
    for (const name of ["a-red-fox-1", "a-gray-cat-2"])
      writeFileSync(at(side, `${name}.png`), await png(bright(side === "good" ? 6 : 30)));
  }
  const pairs = ["a-red-fox-1", "a-gray-cat-2"].map((name) => `a fox,good/${name}.png,bad/${name}.png`);
  writeFileSync(at("pairs.csv"), ["prompt,winner,loser", ...pairs, ""].join("\n"));
  writeFileSync(at("prompts.txt"), "a red circle on teal\na blue square on pink\n");
  writeFileSync(at("judge.mjs"), "export default ({ values }) => Math.sin(1e4 * values[0]);\n");
  writeVolume();
  writeFashion();
  for (const name of ["depth", "edges", "room", "figure", "mask", "drawing"])
    writeFileSync(at(`${name}.png`), await png(bright(12)));
  symlinkSync(join(root, "checkpoints"), at("checkpoints"));
  symlinkSync(join(root, "checkpoints", "shapes-text"), at("my-pipeline"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(PAGES)("commands as %s prints them", (page) => {
  const own = ALL.filter((one) => one.page === page);
  const run = own.filter(isRun);
  const others = own.filter((one) => !isRun(one));
  let ended: Ended[];
  beforeAll(async () => {
    const helps = others.map(({ args }) => [args[0]!, args[1]!, "--help"]);
    ended = await runAll([...run.map(shortened), ...helps]);
  });

  it("are found", () => {
    expect(own.length).toBeGreaterThan(2);
  });

  it.each(run.map((one, i) => [one.command, i] as const))("tweedie %s", (_, i) => {
    expect(ended[i]?.code, `${ended[i]?.args.join(" ")}\n${ended[i]?.said}`).toBe(0);
  });

  it.each(others.map((one, i) => [one.command, i] as const))(
    "the options of tweedie %s exist",
    (command, i) => {
      const { code, said } = ended[run.length + i]!;
      expect(code).toBe(0);
      for (const option of command.match(/--[a-z-]+/g) ?? []) expect(said).toContain(option);
    },
  );
});

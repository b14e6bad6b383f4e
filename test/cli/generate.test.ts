/** `tweedie generate` as people run it, on small models with weights from a hash. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tweedie } from "../../src/cli/commands/index.ts";
import { runCli } from "../../src/cli/run.ts";
import { encodePng, readPngTextFile } from "../../src/io/index.ts";
import { convertToOriginalFile, saveModel } from "../../src/pipelines/index.ts";
import { tinyModel } from "../pipelines/tiny-models.ts";
import {
  writeTinyControlNet,
  writeTinyDit,
  writeTinyLora,
  writeTinySdxl,
  writeTinyStableDiffusion,
} from "../pipelines/tiny-pipelines.ts";

const folder = mkdtempSync(join(tmpdir(), "tweedie-generate-"));
const path = (...names: string[]): string => join(folder, ...names);
const GOLDEN = fileURLToPath(new URL("../fixtures/generate/red-cat.png", import.meta.url));
const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const TSX = import.meta.resolve("tsx");

beforeAll(async () => {
  await writeTinyStableDiffusion(path("sd"));
  await writeTinyDit(path("dit"));
  await writeTinyControlNet(path("control"));
  await writeTinyLora(path("lora.safetensors"));
  const pixels = Uint8Array.from({ length: 70 * 66 * 3 }, (_, i) => (i * 7) % 256);
  writeFileSync(path("init.png"), await encodePng(pixels, { width: 70, height: 66 }));
  const half = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i % 192 < 96 ? 0 : 255));
  writeFileSync(path("mask.png"), await encodePng(half, { width: 64, height: 64 }));
});
afterAll(() => rmSync(folder, { recursive: true }));

function start(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, ["--import", TSX, MAIN, "generate", ...args], { cwd: folder });
}

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly error: string;
}

async function ended(child: ChildProcess): Promise<Ended> {
  let [out, error] = ["", ""];
  child.stdout!.on("data", (data) => (out += data));
  child.stderr!.on("data", (data) => (error += data));
  const [code] = await once(child, "close");
  return { code, out, error };
}

/** Runs the command in a process of its own. */
const run = (...args: string[]): Promise<Ended> => ended(start(args));

/** Runs it, and returns the files that it wrote. */
async function made(...args: string[]): Promise<string[]> {
  const { code, out, error } = await run(...args);
  expect(error.replaceAll(/^generate \[.*\n/gm, ""), error).not.toContain("tweedie:");
  expect(code).toBe(0);
  return out.trim().split("\n");
}

const pixelsOf = (file: string): Promise<Buffer> => sharp(path(file)).raw().toBuffer();

/** Largest difference between the pixels of two pictures. */
async function difference(a: string, b: string): Promise<number> {
  const [first, second] = [await pixelsOf(a), await pixelsOf(b)];
  expect(first.length).toBe(second.length);
  return first.reduce((worst, v, i) => Math.max(worst, Math.abs(v - second[i]!)), 0);
}

const PROMPT = ["--model", "sd", "--prompt", "a red cat at night", "--steps", "10"];

describe("tweedie generate", () => {
  test("makes the picture that it always made, and repeats it from its settings, bit for bit", async () => {
    expect(await made(...PROMPT, "--seed", "7", "--out", "first")).toEqual([join("first", "00000-7.png")]);
    copyFileSync(GOLDEN, path("golden.png"));
    expect(await difference("golden.png", "first/00000-7.png")).toBeLessThanOrEqual(1);
    const texts = await readPngTextFile(path("first/00000-7.png"));
    expect(texts[0]!.text).toMatch(
      /^a red cat at night\nSteps: 10, Sampler: PLMS, Schedule type: Automatic, CFG scale: 7.5, Seed: 7, Size: 64x64, Model hash: [0-9a-f]{10}, Model: sd, RNG: CPU, Version: tweedie [\d.]+$/,
    );
    const again = await run("--from", "first/00000-7.png", "--out", "again.png");
    expect(again.error).toContain("loading sd, which first/00000-7.png names\n");
    expect(readFileSync(path("again.png"))).toEqual(readFileSync(path("first/00000-7.png")));
  });

  test("makes a batch of what it makes one by one; one of a batch is repeated, options replace what it says", async () => {
    const batch = [
      "--seed",
      "5",
      "--count",
      "3",
      "--batch",
      "2",
      "--sampler",
      "Euler a",
      "--schedule",
      "karras",
    ];
    const files = await made(...PROMPT, ...batch, "--out", "batch");
    expect(files).toEqual(["00000-5", "00001-6", "00002-7"].map((name) => join("batch", `${name}.png`)));
    await made("--from", "batch/00001-6.png", "--batch", "1", "--out", "alone.png");
    expect(await difference("batch/00001-6.png", "alone.png")).toBeLessThanOrEqual(1);
    await made("--from", "batch/00001-6.png", "--out", "same.png");
    expect(readFileSync(path("same.png"))).toEqual(readFileSync(path("batch/00001-6.png")));
    await made("--from", "batch/00001-6.png", "--prompt", "a blue dog", "--out", "other.png");
    expect(await difference("batch/00001-6.png", "other.png")).toBeGreaterThan(1);
  });

  test("starts from pictures, masks, adapters and ControlNets, and repeats that too", async () => {
    const pictures = ["--init-image", "init.png", "--mask", "mask.png", "--strength", "0.9"];
    const adapters = ["--lora", "lora.safetensors:0.5", "--control", "control:init.png:0.7"];
    const size = ["--size", "64x64", "--seed", "1"];
    await made(...PROMPT, ...pictures, ...adapters, ...size, "--out", "full.png");
    await made(...PROMPT, ...pictures, ...size, "--out", "bare.png");
    expect(await difference("full.png", "bare.png")).toBeGreaterThan(1);
    await sharp(path("init.png"))
      .resize(64, 64, { fit: "cover", kernel: "lanczos3" })
      .png()
      .toFile(path("start.png"));
    const [start, full] = [await pixelsOf("start.png"), await pixelsOf("full.png")];
    const kept = full.filter((v, i) => i % 192 < 96 && v === start[i]).length;
    expect(kept).toBe(full.length / 2);
    await made("--from", "full.png", "--out", "full-again.png");
    expect(readFileSync(path("full-again.png"))).toEqual(readFileSync(path("full.png")));
  });

  test("decodes with another autoencoder, which the settings name and whose file must not change", async () => {
    const short = ["--model", "sd", "--prompt", "a cat", "--steps", "1", "--sampler", "ddim", "--seed", "3"];
    mkdirSync(path("compvis"));
    await convertToOriginalFile(path("sd", "vae"), path("compvis", "same.safetensors"));
    copyFileSync(path("sd", "vae", "config.json"), path("compvis", "config.json"));
    const levels = [8, 8, 8, 8];
    const config = { encoder_block_out_channels: levels, decoder_block_out_channels: levels };
    await saveModel(path("taesd"), tinyModel({ _class_name: "AutoencoderTiny", ...config }, 3));
    await convertToOriginalFile(path("taesd"), path("taesd.safetensors"));

    await made(...short, "--out", "own.png");
    await made(...short, "--vae", "compvis/same.safetensors", "--out", "compvis.png");
    expect(await difference("own.png", "compvis.png")).toBe(0);
    await made(...short, "--vae", "taesd.safetensors", "--out", "taesd.png");
    expect(await difference("own.png", "taesd.png")).toBeGreaterThan(1);
    expect((await readPngTextFile(path("taesd.png")))[0]!.text).toContain("VAE: taesd, ");
    await made(...short, "--vae", "taesd", "--out", "folder.png");
    expect(await difference("taesd.png", "folder.png")).toBe(0);

    await made("--from", "taesd.png", "--out", "taesd-again.png");
    expect(readFileSync(path("taesd-again.png"))).toEqual(readFileSync(path("taesd.png")));
    copyFileSync(path("compvis", "same.safetensors"), path("taesd.safetensors"));
    const { code, error } = await run("--from", "taesd.png", "--out", "x.png");
    expect(code).not.toBe(0);
    expect(error).toContain("taesd.safetensors has changed since; name a file with --vae");
  });

  test("prints JSON, leaves settings out, and makes pictures of classes", async () => {
    const args = ["--model", "dit", "--class", "Golden Retriever", "--steps", "2", "--seed", "3"];
    const lines = (await made(...args, "--json", "--no-metadata", "--out", "dog.png")).map((l) =>
      JSON.parse(l),
    );
    expect(lines).toEqual([
      { type: "progress", stage: "generate", done: 1, total: 2 },
      { type: "progress", stage: "generate", done: 2, total: 2 },
      { type: "picture", path: "dog.png", seed: "3", width: 64, height: 64 },
    ]);
    expect(await readPngTextFile(path("dog.png"))).toEqual([]);
    const { code, error } = await run("--from", "dog.png");
    expect([code, error]).toEqual([2, "tweedie: --from dog.png: the picture carries no settings\n"]);
  });

  test("leaves nothing behind when it is stopped", async () => {
    const child = start([
      ...PROMPT.slice(0, 4),
      "--steps",
      "900",
      "--seed",
      "1",
      "--preview",
      "1",
      "--out",
      "stopped/deep",
    ]);
    const end = ended(child);
    while (!existsSync(path("stopped/deep/preview.png"))) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(child.exitCode).toBeNull();
    }
    child.kill("SIGINT");
    const { code, error, out } = await end;
    expect([code, out]).toEqual([130, ""]);
    expect(error).toMatch(/stopping after this step.*\n[\s\S]*tweedie: stopped\n$/);
    expect(existsSync(path("stopped"))).toBe(false);
  });

  test("says how to make the others when it is stopped after some", async () => {
    const child = start([
      ...PROMPT.slice(0, 4),
      "--steps",
      "6",
      "--seed",
      "5",
      "--count",
      "40",
      "--out",
      "some",
    ]);
    const end = ended(child);
    while (!existsSync(path("some/00001-6.png"))) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(child.exitCode).toBeNull();
    }
    child.kill("SIGINT");
    const { code, error } = await end;
    expect(code).toBe(130);
    const [, written, again] = /stopped: (\d+) of 40 pictures are written.*\n {2}tweedie generate (.*)/.exec(
      error,
    )!;
    expect(readdirSync(path("some"))).toHaveLength(Number(written));
    expect(again).toContain(`--out some --seed ${5 + Number(written)} --count ${40 - Number(written)}`);
  });
});

describe("bad input", () => {
  const listing = (): string[] => readdirSync(folder).sort();

  /** The one line that is printed. */
  async function mistake(...args: string[]): Promise<string> {
    const there = listing();
    const errors: string[] = [];
    const terminal = {
      out: (text: string) => errors.push(`out: ${text}`),
      error: (text: string) => errors.push(text),
    };
    const code = await runCli(tweedie, ["generate", ...args], terminal);
    expect(errors.join("\n")).not.toMatch(/\n\s+at |defect/);
    expect([code, errors.length]).toEqual([2, 1]);
    expect(listing()).toEqual(there);
    return errors[0]!;
  }

  const sd = (...args: string[]): Promise<string> =>
    mistake("--model", path("sd"), "--prompt", "a cat", "--out", path("never"), ...args);

  test("on the command line", async () => {
    expect(await mistake()).toMatch(/^tweedie: --model PATH\|ID is needed/);
    expect(await sd("--guidence", "3")).toBe(
      'tweedie: unknown option --guidence; did you mean "--guidance"?',
    );
    expect(await sd("--sampler", "eulr")).toBe(
      'tweedie: --sampler does not know "eulr"; did you mean "euler"?',
    );
    expect(await sd("--schedule", "carras")).toContain('did you mean "karras"?');
    expect(await sd("--rng", "cuda")).toContain("it takes torch-cpu, torch-cuda, philox");
    expect(await sd("--steps", "0")).toContain("--steps needs a whole number from 1");
    expect(await sd("--steps", "2000")).toMatch(/2000/);
    expect(await sd("--size", "64")).toContain("WIDTHxHEIGHT");
    expect(await sd("--size", "65x64")).toContain("the nearest is 64x64");
    expect(await sd("--seed", "-1")).toContain("--seed needs");
    expect(await sd("--guidance", "strong")).toContain("--guidance needs a number");
    expect(await sd("--clip-skip", "9")).toContain("3 layers, 9 cannot be left out");
    expect(await sd("--mask", path("mask.png"))).toContain("--mask needs --init-image");
    expect(await sd("--strength", "0.5")).toContain("--strength needs --init-image");
    expect(await sd("--control", "control")).toContain("--control needs PATH:IMAGE");
    expect(await sd("--class", "1")).toContain("knows no classes");
    expect(await sd("--vae", path("control"))).toContain("expected an autoencoder, got a ControlNetModel");
    expect(await mistake("--model", path("sd"), "--out", "a.jpg")).toContain("must end with .png");
    expect(await mistake("--model", path("sd"))).toContain("give a prompt");
    expect(await mistake("--model", path("dit"), "--class", "golden retriver")).toContain("golden retriever");
  });

  test("in files", async () => {
    writeFileSync(path("lfs.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\n");
    writeFileSync(path("page.png"), "<!doctype html><p>404");
    const png = readFileSync(path("init.png"));
    writeFileSync(path("cut.png"), png.subarray(0, png.length / 2));
    expect(await mistake("--model", path("nothing"), "--prompt", "a")).toContain("nothing");
    expect(await mistake("--model", path("lfs.safetensors"), "--prompt", "a")).toContain("git-LFS pointer");
    expect(await mistake("--model", path("control"), "--prompt", "a")).toContain("control");
    expect(await sd("--init-image", path("none.png"))).toContain("none.png: there is no such file");
    expect(await sd("--init-image", path("page.png"))).toMatch(/page\.png: not the file.*web page/);
    expect(await sd("--init-image", folder)).toContain("a folder");
    expect(await sd("--lora", path("lfs.safetensors"))).toContain("git-LFS pointer");
    expect(await sd("--lora", path("control", "diffusion_pytorch_model.safetensors"))).toMatch(
      /readLora|LoRA|layer/,
    );
    expect(await sd("--control", `${path("sd", "vae")}:${path("init.png")}`)).toContain(
      "expected a ControlNetModel",
    );
    expect(await mistake("--from", path("cut.png"))).toMatch(/cut\.png: .*cut off/);
    expect(await mistake("--from", path("page.png"))).toContain("a web page");
    expect(await mistake("--from", path("init.png"))).toContain("carries no settings");
  });
});

test("fresh noise and parts from elsewhere are recorded and repeated; another sampler goes without its noise", async () => {
  const here = async (...args: string[]): Promise<string> => {
    const errors: string[] = [];
    await runCli(tweedie, ["generate", ...args], { out: () => {}, error: (text) => errors.push(text) });
    return errors.join("\n");
  };
  const sd = ["--model", path("sd"), "--prompt", "a cat", "--steps", "3", "--seed", "2"];
  const parts = ["--vae", path("sd", "vae"), "--text-encoder", path("sd", "text_encoder")];
  await here(...sd, ...parts, "--sampler", "tcd", "--eta", "0.5", "--out", path("half.png"));
  await here("--from", path("half.png"), "--out", path("half-again.png"));
  expect(readFileSync(path("half-again.png"))).toEqual(readFileSync(path("half.png")));
  await here(...sd, "--sampler", "tcd", "--out", path("no-noise.png"));
  expect(await difference("half.png", "no-noise.png")).toBeGreaterThan(1);
  const [, settings] = await readPngTextFile(path("no-noise.png"));
  expect(JSON.parse(settings!.text).options.eta).toEqual(["0"]);
  await here("--from", path("half.png"), "--sampler", "euler", "--out", path("euler.png"));
  expect(existsSync(path("euler.png"))).toBe(true);
  expect(await here(...sd, "--sampler", "euler", "--eta", "0.5", "--out", path("x.png"))).toContain(
    "eta: ddim and tcd take it, this model's sampler is euler",
  );
});

test("a picture of the web UI with Clip skip, which it passes over for SDXL, and what is not repeated is said", async () => {
  await writeTinySdxl(path("xl"));
  const from = (name: string): string =>
    fileURLToPath(new URL(`../fixtures/files/30-webui-text/${name}.png`, import.meta.url));
  const pictureOf = async (model: string, ...more: string[]): Promise<Buffer> => {
    const out = path(`web-${model}-${more.length}.png`);
    const source = ["--from", from("clip-skip-2"), "--model", path(model), "--no-metadata", "--out", out];
    const { code, error } = await run(...source, ...more);
    expect([code, error]).toEqual([0, error]);
    return readFileSync(out);
  };
  expect(await pictureOf("xl")).toEqual(await pictureOf("xl", "--clip-skip", "0"));
  expect(await pictureOf("sd")).not.toEqual(await pictureOf("sd", "--clip-skip", "0"));
  const { error } = await run("--from", from("ensd"), "--model", path("sd"), "--out", path("ensd.png"));
  expect(error).toMatch(/ENSD: 31337/);
});

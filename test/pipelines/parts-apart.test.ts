/** Checkpoints without autoencoder or text encoder, which are given apart: the same pictures as of the whole. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, test } from "vitest";
import { type HostTensor, readSafetensors, writeSafetensors } from "../../src/io/index.ts";
import {
  convertToSingleFile,
  generatePictures,
  type LoadOptions,
  loadPipelineComponents,
  planPictures,
} from "../../src/pipelines/index.ts";
import { writeTinyDit, writeTinySdxl, writeTinyStableDiffusion } from "./tiny-pipelines.ts";

const folder = mkdtempSync(join(tmpdir(), "tweedie-parts-"));
const path = (...names: string[]): string => join(folder, ...names);
const SINGLE = { base: path("sd"), family: "sd1" } as const;
const [VAE, TEXT] = [path("sd", "vae"), path("sd", "text_encoder")];

/** A copy of the whole file without what lies below some prefixes. */
async function without(name: string, ...prefixes: string[]): Promise<void> {
  const { tensors } = await readSafetensors(path("whole.safetensors"));
  const kept = [...tensors].filter(([key]) => !prefixes.some((prefix) => key.startsWith(prefix)));
  await writeSafetensors(path(name), new Map(kept as [string, HostTensor][]));
}

async function pictureOf(model: string, options: LoadOptions): Promise<Float32Array> {
  const components = await loadPipelineComponents(path(model), options);
  const plan = planPictures(components, { prompt: "a cat", steps: 2, sampler: "ddim", seeds: [3] });
  for await (const event of generatePictures(plan))
    if (event.type === "picture") return (await event.image.data()) as Float32Array;
  throw new Error("no picture");
}

beforeAll(async () => {
  await writeTinyStableDiffusion(path("sd"));
  await writeTinySdxl(path("xl"));
  await writeTinyDit(path("dit"));
  await convertToSingleFile(path("sd"), path("whole.safetensors"));
  await without("no-vae.safetensors", "first_stage_model.");
  await without("unet.safetensors", "first_stage_model.", "cond_stage_model.");
  cpSync(path("sd"), path("bare"), { recursive: true });
  for (const name of ["vae", "text_encoder"]) rmSync(path("bare", name), { recursive: true });
  const index = JSON.parse(readFileSync(path("sd", "model_index.json"), "utf8"));
  const bare = { ...index, vae: [null, null], text_encoder: [null, null] };
  writeFileSync(path("bare", "model_index.json"), JSON.stringify(bare));
});
afterAll(() => rmSync(folder, { recursive: true }));

it.each([
  ["a single file without autoencoder", "no-vae.safetensors", { ...SINGLE, vae: VAE }],
  ["the U-Net of a single file", "unet.safetensors", { ...SINGLE, vae: VAE, textEncoders: [TEXT] }],
  ["a folder", "bare", { vae: VAE, textEncoders: [TEXT] }],
  [
    "a file of a text encoder, with its configuration beside it",
    "bare",
    { vae: VAE, textEncoders: [join(TEXT, "model.safetensors")] },
  ],
])("parts are taken from elsewhere for %s", async (_, model, options) => {
  expect(await pictureOf(model, options)).toEqual(await pictureOf("sd", {}));
});

test("parts that are there are replaced, also one of two", async () => {
  const xl = await loadPipelineComponents(path("xl"), { textEncoders: [path("xl", "text_encoder")] });
  expect(xl.textEncoders.map(({ className }) => className)).toEqual([
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
  ]);
  const dit = await loadPipelineComponents(path("dit"), { vae: VAE });
  expect(dit.vae!.config.block_out_channels).toEqual([4, 8, 8, 8]);
});

it.each([
  ["no-vae.safetensors", SINGLE, /missing vae: .*or one from elsewhere \(--vae\)/],
  ["unet.safetensors", { ...SINGLE, vae: VAE }, /missing text_encoder: .*\(--text-encoder\)/],
  ["bare", { vae: VAE }, /expected a component "text_encoder", or one from elsewhere \(--text-encoder\)/],
  ["sd", { vae: TEXT }, /vae .*: expected an autoencoder, got a CLIPTextModel/],
  ["sd", { textEncoders: [VAE] }, /text encoder .*: expected a text encoder, got a AutoencoderKL/],
  ["sd", { textEncoders: [TEXT, TEXT] }, /has 1 text encoders, got 2/],
  ["dit", { textEncoders: [TEXT] }, /has 0 text encoders, got 1/],
  ["sd", { textEncoders: [path("xl", "text_encoder_2")] }, /expected text of width 12, .* have \d+$/],
] as const)("what does not fit %s is refused: %o", async (model, options, words) => {
  await expect(loadPipelineComponents(path(model), options as LoadOptions)).rejects.toThrow(words);
});

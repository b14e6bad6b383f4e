/** `tweedie run umd`: pictures, filled-in pictures, features. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { tensorToPictures } from "../../../data/index.ts";
import type { LabelledPictures } from "../../../data/picture-set.ts";
import { encodePicture, type Picture, writeFileAtomic, writeSafetensors } from "../../../io/index.ts";
import { grid } from "../../../report/index.ts";
import { fromHost } from "../../../tensor/index.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { reconstruct, umdFeatures } from "../features.ts";
import type { Autoencoder } from "../latents.ts";
import type { UMD } from "../model.ts";
import type { RunActionOptions } from "../options.ts";
import { sampleUMD } from "../sample.ts";
import { autoencoderFor, openInputs, openModel, picturesOf } from "./common.ts";

/** Pictures in the making, of a batch of samples. */
const PREVIEWS = 20;

async function* save(
  out: string,
  name: string,
  picture: Picture,
  about: string,
): AsyncGenerator<ActionEvent, void> {
  await mkdir(out, { recursive: true });
  const path = join(out, `${name}.png`);
  await writeFileAtomic(path, await encodePicture(picture));
  yield { type: "picture", name, picture };
  yield { type: "file", path, about };
}

async function* sampleMode(
  model: UMD,
  options: RunActionOptions,
  autoencoder: Autoencoder | undefined,
  { signal, previews }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { count, steps, eta, guidance, label, predictX0, seed, threads, out } = options;
  const run = sampleUMD(model, {
    count,
    steps,
    eta,
    guidance,
    predictX0,
    seed,
    ...(label !== undefined && { label: label < 0 ? ("none" as const) : () => label }),
    ...(threads && { threads }),
    ...(signal && { signal }),
  });
  for (;;) {
    const { done, value } = await run.next();
    if (!done) {
      const { step, steps: total, finished, denoised } = value;
      yield { type: "progress", stage: `sample from ${finished}`, done: step, total };
      // Latents are left out: decoding them takes as long as many steps.
      if (previews && !autoencoder && step % Math.ceil(total / PREVIEWS) === 0)
        yield { type: "preview", picture: grid(await tensorToPictures(denoised)) };
      continue;
    }
    const pictures = await picturesOf(value, autoencoder);
    yield* save(out, "samples", grid(pictures), `${count} samples`);
    return { summary: `${count} pictures drawn in ${steps} strides, guidance ${guidance}.` };
  }
}

async function* reconstructMode(
  model: UMD,
  pictures: LabelledPictures,
  { ratio, seed, out }: RunActionOptions,
  autoencoder: Autoencoder | undefined,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { filled, hidden, error, meanColourError } = await reconstruct(model, pictures, { ratio, seed });
  const plane = pictures.size ** 2;
  const masked = pictures.values.map((v, at) => {
    const sample = Math.floor(at / (plane * pictures.channels));
    return hidden[sample * plane + (at % plane)] === 1 ? 0 : v;
  });
  const rows = await Promise.all(
    [pictures.values, masked, filled].map((values) => picturesOf({ ...pictures, values }, autoencoder)),
  );
  const all = pictures.count * 3;
  const shown = Array.from({ length: all }, (_, k) => rows[k % 3]![Math.floor(k / 3)]!);
  yield* save(
    out,
    "reconstructed",
    grid(shown, { columns: 12 }),
    "pictures, what was seen of them, and how they were filled in",
  );
  return {
    summary: `Mean squared error over hidden pixels ${error.toFixed(4)}; the mean colour of what is visible gives ${meanColourError.toFixed(4)}.`,
    metrics: { hiddenError: error, meanColourError },
  };
}

async function* featureMode(
  model: UMD,
  pictures: LabelledPictures,
  { index, seed, out }: RunActionOptions,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { width, representation, pooled } = await umdFeatures(model, pictures, {
    seed,
    ...(index !== undefined && { index }),
  });
  await mkdir(out, { recursive: true });
  const path = join(out, "features.safetensors");
  const table = (values: Float32Array) => ({
    dtype: "f32" as const,
    shape: [pictures.count, width],
    data: values,
  });
  const labels = pictures.labels && fromHost("i32", [pictures.count], pictures.labels);
  await writeSafetensors(path, {
    representation: table(representation),
    pooled: table(pooled),
    ...(labels && { labels: { dtype: "i32" as const, shape: [pictures.count], data: pictures.labels! } }),
  });
  yield { type: "file", path, about: "class tokens' mean and mean of all tokens, with labels" };
  return { summary: `Features of ${pictures.count} pictures, ${width} numbers each.` };
}

/** Draws, fills in, or describes pictures. */
export async function* runAction(
  options: RunActionOptions,
  context: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { model } = await openModel(options.model);
  const { size, channels, domain } = model.config;
  const autoencoder = await autoencoderFor(domain, options.autoencoder);
  if (options.mode === "sample") return yield* sampleMode(model, options, autoencoder, context);
  const { pictures } = await openInputs({
    folder: options.data,
    half: "test",
    size,
    channels,
    limit: options.limit ?? (options.mode === "reconstruct" ? 16 : undefined),
    autoencoder,
  });
  return options.mode === "reconstruct"
    ? yield* reconstructMode(model, pictures, options, autoencoder)
    : yield* featureMode(model, pictures, options);
}

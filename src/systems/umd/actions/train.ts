/** `tweedie train umd`. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { checkPictures } from "../../../data/picture-set.ts";
import { ArgumentError } from "../../../errors.ts";
import type { Picture } from "../../../io/index.ts";
import { grid, openHistory, writeRunReport } from "../../../report/index.ts";
import { readWeights } from "../../../training/weights.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { loadUMD, saveUMD } from "../checkpoint.ts";
import { checkConfig, PRESETS, type UMDConfig } from "../config.ts";
import type { Autoencoder } from "../latents.ts";
import { initUMD, type UMD } from "../model.ts";
import { MIXTURES, type Mixture } from "../objective.ts";
import { withMAEEncoder } from "../official.ts";
import type { TrainActionOptions } from "../options.ts";
import { sampleUMD } from "../sample.ts";
import { finetuning, pretraining, type TrainSettings, trainedModel, trainUMD, withLabels } from "../train.ts";
import { openAutoencoder, openInputs, picturesOf } from "./common.ts";

function configOf(options: TrainActionOptions, autoencoder: Autoencoder | undefined): UMDConfig {
  const base: UMDConfig = PRESETS[options.preset];
  const { method, patch, conditioning = method === "mae" ? "token" : "adaLN" } = options;
  if (base.domain === "latents" && !autoencoder)
    throw new ArgumentError(`UMD: preset ${options.preset} is of latents: it needs an autoencoder`);
  const pixels = options.size ?? base.size * (autoencoder?.sizeFactor ?? 1);
  return checkConfig({
    ...base,
    size: pixels / (autoencoder?.sizeFactor ?? 1),
    channels: autoencoder?.latentChannels ?? (options.colour === "gray" ? 1 : 3),
    patch: patch ?? base.patch,
    conditioning,
    domain: autoencoder ? "latents" : "pixels",
  });
}

function settingsOf(options: TrainActionOptions): TrainSettings {
  const { phase, method, steps, batch, seed, crop, cleanShare, noisedMask, cleanMask } = options;
  const learningRate = options.learningRate ?? (phase === "pretrain" ? 1e-3 : 5e-4);
  const augment = { flip: true, ...(crop !== undefined && { crop: [crop, 1] as const }) };
  const given = { steps, batch, seed, learningRate, augment };
  const settings =
    phase === "pretrain"
      ? pretraining(MIXTURES[method], given)
      : finetuning(MIXTURES[method], { ...given, ema: Math.max(0, Math.min(0.995, 1 - 10 / steps)) });
  const own: Partial<Mixture> = {
    ...(cleanShare !== undefined && { cleanShare }),
    ...(noisedMask !== undefined && { noisedMask }),
    ...(cleanMask !== undefined && { cleanMask }),
  };
  return { ...settings, mixture: { ...settings.mixture, ...own } };
}

/** The model that training begins with. */
async function startingModel(
  options: TrainActionOptions,
  autoencoder: Autoencoder | undefined,
): Promise<UMD> {
  const { from, initEncoder, zeroClassTokens, seed } = options;
  if (from !== undefined) return (await loadUMD(from)).model;
  const fresh = initUMD(configOf(options, autoencoder), seed, { zeroClassTokens });
  return initEncoder === undefined ? fresh : withMAEEncoder(fresh, (await readWeights(initEncoder)).weights);
}

/** What a model draws while it is trained: the same noise every time. */
async function drawn(
  model: UMD,
  options: TrainActionOptions,
  autoencoder: Autoencoder | undefined,
): Promise<Picture> {
  const { threads } = options;
  const samples = sampleUMD(model, { count: 20, steps: 25, seed: 0, ...(threads && { threads }) });
  for (;;) {
    const { done, value } = await samples.next();
    if (done) return grid(await picturesOf(value, autoencoder), { columns: 10 });
  }
}

/** Steps between two looks at the samples of a training. */
const lookEvery = (steps: number): number => Math.max(50, Math.ceil(steps / 20));

/** Trains, and writes `model.safetensors` in the run folder. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal, previews }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { data, limit, phase, method, out, seed, threads } = options;
  const autoencoder =
    options.autoencoder === undefined ? undefined : await openAutoencoder(options.autoencoder);
  const start = await startingModel(options, autoencoder);
  const { size, channels } = start.config;
  const { title, pictures } = await openInputs({
    folder: data,
    half: "train",
    size,
    channels,
    limit,
    autoencoder,
  });
  const warning = checkPictures(pictures, start.config);
  if (warning) yield { type: "warning", text: warning };
  const model =
    phase === "finetune" && start.config.classes === 0
      ? withLabels(start, pictures.classes.length, seed)
      : start;
  const settings = settingsOf(options);
  yield { type: "message", text: `${title}: ${pictures.count} pictures` };
  const directory = join(out, phase);
  await mkdir(directory, { recursive: true });
  let samples: Picture | undefined;
  const see = async (trained: UMD): Promise<void> => {
    samples = await drawn(trained, options, autoencoder);
  };
  const training = trainUMD({
    model,
    pictures,
    settings,
    directory,
    ...(threads && { threads }),
    ...(signal && { signal }),
    ...(previews && method !== "mae" && { look: { every: lookEvery(settings.steps), see } }),
  });
  let history = await openHistory(directory);
  let loss = Number.NaN;
  for (;;) {
    const { done, value } = await training.next();
    if (done) {
      const path = join(out, "model.safetensors");
      const about = `${method}, ${phase}, ${settings.steps} steps of ${settings.batch} on ${title}, seed ${seed}`;
      await saveUMD(path, trainedModel(value), { training: about });
      yield { type: "file", path, about: "the model, in half precision" };
      const report = await writeRunReport(directory, { settings: { ...settings, seed: String(seed) } });
      yield { type: "file", path: report, about: "curves" };
      return { summary: `Trained: ${about}. Last loss ${loss.toFixed(4)}.`, metrics: { loss } };
    }
    if (value.type === "resumed") {
      history = await openHistory(directory, value.step);
      yield { type: "message", text: `goes on after step ${value.step}` };
    }
    if (value.type === "validated" && samples)
      yield { type: "picture", name: "samples of the training", picture: samples };
    if (value.type !== "step") continue;
    loss = value.loss;
    await history.append({ step: value.step, loss });
    const note = `loss ${loss.toFixed(4)}  ${value.stepsPerSecond.toFixed(1)} steps/s  ${Math.ceil(value.secondsLeft)} s left`;
    yield { type: "progress", stage: phase, done: value.step, total: settings.steps, note };
  }
}

/** `tweedie train sdseg`. */
import { join } from "node:path";
import { type Dataset, subset } from "../../../data/index.ts";
import { ArgumentError } from "../../../errors.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { loadSDSeg, saveSDSeg } from "../checkpoint.ts";
import { PRESETS, type SDSegConfig } from "../config.ts";
import { createSDSeg, type SDSeg, withClasses } from "../model.ts";
import { withAutoencoderWeights, withDenoiserWeights } from "../official.ts";
import type { TrainActionOptions } from "../options.ts";
import type { Sample } from "../samples.ts";
import { TRAINING, type TrainProgress, type TrainSettings, trainSDSeg } from "../train.ts";
import { openData, readSamples } from "./common.ts";

const defined = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;

function configOf({ preset, classes, colour, head }: TrainActionOptions): SDSegConfig {
  return {
    ...PRESETS[preset],
    classes,
    ...(colour && { imageChannels: colour === "rgb" ? 3 : 1 }),
    ...(head && { head }),
  };
}

function settingsOf(options: TrainActionOptions): TrainSettings {
  const base = TRAINING[options.preset];
  const { steps, batch, learningRate, autoencoderSteps, decoderSteps, lambda, crop, augment, seed } = options;
  return {
    ...base,
    ...defined({ crop, augment }),
    seed,
    lambda,
    autoencoder: { ...base.autoencoder, ...defined({ steps: autoencoderSteps, batch }) },
    decoder: { ...base.decoder, ...defined({ steps: decoderSteps }) },
    denoiser: { ...base.denoiser, ...defined({ steps, batch, learningRate }) },
  };
}

/** Every tenth sample is kept for validation, unless there are too few. */
function parted(all: Dataset<Sample>): { train: Dataset<Sample>; validation: Dataset<Sample> | undefined } {
  if (all.length < 10) return { train: all, validation: undefined };
  const indices = Array.from({ length: all.length }, (_, i) => i);
  return {
    train: subset(
      all,
      indices.filter((i) => i % 10 !== 9),
    ),
    validation: subset(
      all,
      indices.filter((i) => i % 10 === 9),
    ),
  };
}

/** The model that training begins with. */
async function startingModel(options: TrainActionOptions): Promise<{ model: SDSeg; trained: boolean }> {
  if (options.from !== undefined) {
    const { model } = await loadSDSeg(options.from);
    const { classes, seed } = options;
    // A binary model is where a multi-class one begins.
    return {
      model: classes > 2 && model.config.classes !== classes ? withClasses(model, classes, seed) : model,
      trained: true,
    };
  }
  let model = createSDSeg(configOf(options), options.seed);
  if (options.initAutoencoder !== undefined)
    model = await withAutoencoderWeights(model, options.initAutoencoder);
  if (options.initDenoiser !== undefined) model = await withDenoiserWeights(model, options.initDenoiser);
  return { model, trained: false };
}

async function checkForeground(data: Dataset<Sample>): Promise<void> {
  for (let i = 0; i < data.length; i++) if ((await data.get(i)).labels.some((label) => label > 0)) return;
  throw new ArgumentError(
    `SDSeg: none of ${data.length} masks has any foreground: there is nothing to learn`,
  );
}

/** What a training reports, for whoever watches. */
function* eventsOf(
  { phase, event }: TrainProgress,
  steps: Readonly<Record<string, number>>,
): Generator<ActionEvent> {
  if (event.type === "resumed") yield { type: "message", text: `${phase}: goes on after step ${event.step}` };
  if (event.type === "step") {
    const note = `loss ${event.loss.toFixed(4)}  ${event.stepsPerSecond.toFixed(1)} steps/s  ${Math.ceil(event.secondsLeft)} s left`;
    yield { type: "progress", stage: phase, done: event.step, total: steps[phase]!, note };
  }
  if (event.type === "validated")
    yield { type: "message", text: `step ${event.step}: validation Dice ${event.metrics.dice!.toFixed(4)}` };
}

/** Trains, and writes `model.safetensors` in the run folder. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { model, trained } = await startingModel(options);
  const settings = settingsOf(options);
  const { title, source, scale: own } = await openData(options.data, model.config, "train");
  const scale = options.scale ?? own;
  const all = yield* readSamples(source, { config: model.config, scale });
  await checkForeground(all);
  const { train, validation } = parted(all);
  yield {
    type: "message",
    text: `${title}: ${train.length} pictures, ${validation?.length ?? 0} for validation`,
  };
  const frozen = trained || options.initAutoencoder !== undefined;
  const inputs = {
    model,
    settings,
    data: train,
    validation,
    directory: options.out,
    threads: options.threads,
    signal,
  };
  const { autoencoder, decoder, denoiser } = settings;
  const steps = { autoencoder: autoencoder.steps, decoder: decoder.steps, denoiser: denoiser.steps };
  const training = trainSDSeg(inputs, { keepAutoencoder: trained, measureOnly: frozen && !trained });
  let dice: number | undefined;
  for (;;) {
    const { done, value } = await training.next();
    if (!done) {
      if (value.event.type === "validated") dice = value.event.metrics.dice;
      yield* eventsOf(value, steps);
      continue;
    }
    const path = join(options.out, "model.safetensors");
    await saveSDSeg(path, value, {
      name: "model",
      training: `${title}, ${denoiser.steps} steps of ${denoiser.batch}`,
      seed: String(options.seed),
      date: new Date().toISOString().slice(0, 10),
      scale,
    });
    yield { type: "file", path, about: "the model, in half precision" };
    yield { type: "file", path: join(options.out, "denoiser", "report.html"), about: "curves" };
    const measured = dice === undefined ? "" : ` Validation Dice ${dice.toFixed(4)}.`;
    return { summary: `Trained.${measured}`, metrics: dice === undefined ? {} : { dice } };
  }
}

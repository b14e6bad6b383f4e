/** `tweedie train`, `run` and `evaluate q-dit`. */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { tensorToPictures } from "../../../data/index.ts";
import { ArgumentError } from "../../../errors.ts";
import { writeGrid } from "../../../io/index.ts";
import { describeMeasurement, labelAgreement } from "../../../metrics/index.ts";
import { grid } from "../../../report/index.ts";
import { fromHost } from "../../../tensor/index.ts";
import { told, watched } from "../../../work.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { saveDiT } from "../checkpoint.ts";
import { readPictures } from "../data.ts";
import type { EvaluateActionOptions, RunActionOptions, TrainActionOptions } from "../options.ts";
import { type Drawn, draw } from "../sample.ts";
import { distanceToReal, drawnFeatures } from "../study.ts";
import { trainMiniature } from "../train.ts";
import { openModel, openReal } from "./common.ts";

/** Trains, and writes the average of the weights beside the run. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { steps, batch, learningRate, dropLabels, seed, threads, from, out } = options;
  const pictures = await readPictures(options.data, "train");
  await mkdir(out, { recursive: true });
  const training = trainMiniature({
    ...{ pictures, steps, batch, learningRate, dropLabels, seed, threads, signal },
    model: from === undefined ? undefined : (await openModel(from)).model,
    directory: join(out, "run"),
  });
  let loss = Number.NaN;
  const { final } = yield* told(training, (event) => {
    if (event.type === "metrics") loss = event.values.loss ?? loss;
    return event;
  });
  const path = join(out, "model.safetensors");
  const notes = {
    data: `${pictures.count} training pictures`,
    steps: String(steps),
    batch: String(batch),
    seed: String(seed),
  };
  await saveDiT(path, final, notes);
  yield { type: "file", path, about: "the average of the weights, in half precision" };
  return { summary: `Trained for ${steps} steps of ${batch} pictures.`, metrics: { loss } };
}

/** Pictures in the making, of a batch. */
const PREVIEWS = 20;

/** Draws pictures into one file. */
export async function* runAction(
  options: RunActionOptions,
  { signal, previews }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { model } = await openModel(options.model);
  const { label, count, steps, guidance, seed, threads, out } = options;
  const { classes, sampleSize: size, inChannels: channels } = model.config;
  if (label !== undefined && label >= classes)
    throw new ArgumentError(`label: expected 0 to ${classes - 1}, got ${label}`);
  const drawOptions = {
    count,
    steps,
    guidance,
    seed,
    ...(label !== undefined && { label: () => label }),
    ...(threads && { threads }),
    ...(signal && { signal }),
  };
  const columns = Math.min(count, 10);
  const drawn = yield* watched<ActionEvent, Drawn>((tell) =>
    draw(model, drawOptions, async ({ step, first, x }) => {
      tell({ type: "progress", stage: `draw from ${first}`, done: step + 1, total: steps });
      if (previews && step % Math.ceil(steps / PREVIEWS) === 0)
        tell({ type: "preview", picture: grid(await tensorToPictures(x), { columns }) });
    }),
  );
  await mkdir(dirname(out), { recursive: true });
  await writeGrid(out, fromHost("f32", [count, channels, size, size], drawn.values), { columns, scale: 2 });
  yield { type: "file", path: out, about: `${count} pictures` };
  const { stepMilliseconds } = drawn;
  return {
    summary: `${count} pictures in ${steps} DDIM steps of ${stepMilliseconds.toFixed(1)} ms each.`,
    metrics: { stepMilliseconds },
  };
}

/** Measures drawn pictures against real ones. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { count, steps, guidance, seed, threads } = options;
  const real = await openReal(options.data);
  const { model } = await openModel(options.model);
  const drawn = await draw(model, {
    count,
    steps,
    guidance,
    seed,
    ...(threads && { threads }),
    ...(signal && { signal }),
  });
  yield { type: "progress", stage: "draw", done: count, total: count };
  const distance = await distanceToReal(real, drawn);
  const agreement = labelAgreement(await drawnFeatures(real, drawn), drawn.labels);
  const recipe = {
    metric: "FD",
    extractor: real.extractor.recipe,
    counts: { real: real.moments.count, generated: count },
    seed,
    settings: { steps, guidance },
  };
  return {
    summary: `${describeMeasurement({ value: distance, recipe })}; ${(100 * agreement).toFixed(1)} % of the pictures are taken for their class.`,
    metrics: { distance, agreement, stepMilliseconds: drawn.stepMilliseconds },
  };
}

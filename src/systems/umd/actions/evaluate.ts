/** `tweedie evaluate umd`: what linear probes find in features. */

import type { Labelled } from "../../../data/picture-set.ts";
import { ArgumentError } from "../../../errors.ts";
import type { LabelledFeatures } from "../../../metrics/index.ts";
import { linearProbeAccuracy } from "../../../metrics/linear-probe.ts";
import { readWeights } from "../../../training/weights.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { isUMD, loadUMD } from "../checkpoint.ts";
import { umdFeatures } from "../features.ts";
import { publishedModel } from "../official.ts";
import type { EvaluateActionOptions } from "../options.ts";
import { labelled, NOISY_INDEX, probeModel, ridgeAccuracies } from "../probe.ts";
import { maeFeatures } from "../published-features.ts";
import { autoencoderFor, modelFile, openInputs } from "./common.ts";

interface Halves {
  readonly title: string;
  readonly train: Labelled;
  readonly test: Labelled;
}

async function openHalves(
  { data, limit }: EvaluateActionOptions,
  rest: Omit<Parameters<typeof openInputs>[0], "folder" | "half" | "limit">,
): Promise<Halves> {
  const open = (half: "train" | "test") => openInputs({ folder: data, half, limit: limit ?? 4000, ...rest });
  const [train, test] = [await open("train"), await open("test")];
  return { title: train.title, train: labelled(train.pictures), test: labelled(test.pictures) };
}

/** Shots that every class of the support can give. */
function possibleShots({ labels, classes }: Labelled): (number | "all")[] {
  const counts = classes.map((_, k) => labels.filter((label) => label === k).length);
  return [...[10, 100].filter((n) => counts.every((c) => c >= n)), "all"];
}

const percent = (value: number | undefined): string => (value === undefined ? "–" : (100 * value).toFixed(1));

function* tableOf(
  title: string,
  shots: readonly (number | "all")[],
  rows: (string | number)[][],
): Generator<ActionEvent> {
  const names = shots.map((n) => (n === "all" ? "all labels %" : `${n}-shot %`));
  yield { type: "table", title, table: { columns: ["features", ...names], rows } };
}

const keyOf = (n: number | "all"): string => (n === "all" ? "all" : `${n}-shot`);

/** The encoder of a published MAE. */
async function* evaluateMAE(
  options: EvaluateActionOptions,
  weights: Awaited<ReturnType<typeof readWeights>>["weights"],
): AsyncGenerator<ActionEvent, ActionResult> {
  const published = publishedModel(weights);
  if (published.kind === "dit")
    throw new ArgumentError("UMD: a published DiT is sampled by tweedie generate; only MAE is probed here");
  const { model } = published;
  const { imageSize: size, inChannels: channels } = model.config;
  const { title, train, test } = await openHalves(options, { size, channels });
  const shots = possibleShots(train);
  const [a, b] = [await maeFeatures(model, train), await maeFeatures(model, test)];
  const { dim: width } = model.config;
  const settings = { shots, seed: options.seed, classes: train.classes.length };
  const found = ridgeAccuracies(
    { rows: a, width, labels: train.labels },
    { rows: b, width, labels: test.labels },
    settings,
  );
  yield* tableOf(`${title}: published MAE`, shots, [
    ["class token", ...shots.map((n) => percent(found[keyOf(n)]))],
  ]);
  return { summary: `Probe on all labels: ${percent(found.all)} %.`, metrics: found };
}

/** Probes a model of one's own, at both levels of noise and by both kinds of features, or a published MAE. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  _context: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { seed, threads, linear, linearRate } = options;
  const path = await modelFile(options.model);
  const { weights, metadata } = await readWeights(path);
  if (!isUMD(metadata)) return yield* evaluateMAE(options, weights);
  const { model } = await loadUMD(path);
  const { size, channels, domain } = model.config;
  const autoencoder = await autoencoderFor(domain, options.autoencoder);
  const { title, train, test } = await openHalves(options, { size, channels, autoencoder });
  const shots = possibleShots(train);
  const results = await probeModel(model, train, test, { shots, seed });
  const rows = results.map(({ at, pooling, accuracies }) => [
    `${pooling === "representation" ? "class tokens" : "mean of tokens"}, ${at === "clean" ? "clean" : `noised at ${NOISY_INDEX}`}`,
    ...shots.map((n) => percent(accuracies[keyOf(n)])),
  ]);
  yield* tableOf(`${title}: ridge on ${train.count} pictures, ${test.count} tested`, shots, rows);
  const best = Math.max(...results.map(({ accuracies }) => accuracies.all ?? 0));
  const metrics: Record<string, number> = { ridge: best };
  if (linear) {
    const [a, b] = [await umdFeatures(model, train), await umdFeatures(model, test)];
    const of = (rows: Float32Array, labels: Int32Array): LabelledFeatures => ({
      rows,
      width: a.width,
      labels,
    });
    metrics.linear = await linearProbeAccuracy(
      of(a.representation, train.labels),
      of(b.representation, test.labels),
      {
        classes: train.classes.length,
        batch: 256,
        learningRate: linearRate,
        seed,
        ...(threads && { threads }),
      },
    );
    yield {
      type: "message",
      text: `linear layer on class tokens, 100 epochs of LARS: ${percent(metrics.linear)} %`,
    };
  }
  return { summary: `Best probe on all labels: ${percent(best)} %.`, metrics };
}

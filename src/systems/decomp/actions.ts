/** What `train` and `evaluate` do. */
import { join } from "node:path";
import { tensorOf } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { grid } from "../../report/index.ts";
import { drained, type Table, told, type Work } from "../../work.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { type DecompSet, dataVariance, MADE, openSet, union } from "./data.ts";
import { checkConfig, type DecompConfig, type DecompUNet, decompFile, openDecomp, PRESETS } from "./model.ts";
import type { EvaluateActionOptions, TrainActionOptions } from "./options.ts";
import { modelOf, shown } from "./run.ts";
import { firstPictures, floorsOf, type Scores, scoresOf, takeApart } from "./scores.ts";
import { freshDecomp, type TrainSettings, trainDecomp, training } from "./train.ts";
import { apart, openDecomposer, whole } from "./use.ts";

function configOf(options: TrainActionOptions): DecompConfig {
  const { preset, size, components, latent, norm, linear, weighted, schedule, prediction, dropLatents } =
    options;
  const base: DecompConfig = PRESETS[preset];
  return checkConfig({
    ...base,
    size: size ?? base.size,
    components: components ?? base.components,
    latent: latent ?? base.latent,
    encoder: { ...base.encoder, norm: norm ?? base.encoder.norm, relu: base.encoder.relu && !linear },
    ...{ weighted, schedule, prediction, guided: dropLatents > 0 },
  });
}

const settingsOf = (options: TrainActionOptions): TrainSettings => {
  const { steps, batch, learningRate, fall, ema, dropLatents, downweight, orthogonality, seed } = options;
  return training({ steps, batch, learningRate, fall, ema, dropLatents, downweight, orthogonality, seed });
};

/** Set that a preset is meant for. */
function setFor({ data, preset }: TrainActionOptions): string {
  const standard = preset === "smoke" ? "blocks2" : MADE.find((name) => name === preset);
  const source = data ?? standard;
  if (source === undefined)
    throw new ArgumentError(`Decomp: preset ${preset} needs a folder of pictures (--data)`);
  return source;
}

/** Shows what a model makes of a few pictures: each with its components, and drawn again. */
async function* drawn(model: DecompUNet, set: DecompSet, threads?: number): Work<void> {
  const few = firstPictures(set, 8);
  const { size, components } = model.config;
  const decomposer = openDecomposer([model], { threads });
  try {
    const latents = await decomposer.encode(tensorOf(few.pictures));
    const how = { steps: 25 };
    const parts = await shown(await drained(decomposer.compose([apart(latents)], how)), size);
    const again = await shown(await drained(decomposer.compose([whole(latents)], how)), size);
    const given = await shown(few.pictures.values, size);
    const cells = given.flatMap((one, i) => [
      one,
      ...parts.slice(i * components, (i + 1) * components),
      again[i]!,
    ]);
    const picture = grid(cells, { columns: components + 2, scale: Math.max(1, Math.ceil(48 / size)) });
    yield { type: "picture", name: "pictures, components, drawn again", picture };
  } finally {
    await decomposer.close();
  }
}

/** Trains, and writes `model.safetensors` in the run folder. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal, previews }: ActionContext,
): Work<ActionResult> {
  const { from, also, limit, out, seed, threads } = options;
  const given = from === undefined ? undefined : await openDecomp(from);
  const config = given?.config ?? configOf(options);
  const first = await openSet(setFor(options), "train", config.size, limit);
  const set = also === undefined ? first : union(first, await openSet(also, "train", config.size, limit));
  const settings = settingsOf(options);
  const variance = await dataVariance(set);
  yield {
    type: "message",
    text: `${set.title}: ${set.pictures.count} pictures; the mean picture alone has an error of ${variance.toFixed(4)}`,
  };
  let loss = Number.NaN;
  const run = trainDecomp({
    stage: "train",
    model: given ?? freshDecomp(config, set, seed),
    set,
    settings,
    folder: join(out, "train"),
    lookEvery: Math.max(50, Math.ceil(settings.steps / 20)),
    ...(previews && { look: (model: DecompUNet) => drawn(model, set, threads) }),
    threads,
    signal,
  });
  const { final } = yield* told(run, (event) => {
    if (event.type === "metrics") loss = event.values.loss ?? loss;
    return event;
  });
  const path = join(out, "model.safetensors");
  const about = `${settings.steps} steps of ${settings.batch} on ${set.title}, predicting ${config.prediction}, seed ${seed}`;
  await decompFile.save(path, final, { training: about });
  yield { type: "file", path, about: "the model, in half precision" };
  yield { type: "file", path: join(out, "train", "report.html"), about: "curves" };
  return { summary: `Trained: ${about}. Last loss ${loss.toFixed(4)}.`, metrics: { loss, variance } };
}

const ROWS: Readonly<Record<string, (scores: Scores) => number | undefined>> = {
  "squared error": ({ error }) => error,
  "squared error, latents of the next picture": ({ shuffledError }) => shuffledError,
  "component mIoU": ({ miou }) => miou,
  "overlap of components": ({ overlap }) => overlap,
  "coverage of the objects": ({ coverage }) => coverage,
  "outside of the objects": ({ outside }) => outside,
  "recombination IoU": ({ recombination }) => recombination,
  MIG: ({ mig }) => mig,
  MCC: ({ mcc }) => mcc,
  "MIG without hue": ({ migWithoutHue }) => migWithoutHue,
  "MCC without hue": ({ mccWithoutHue }) => mccWithoutHue,
  "difference of components": ({ collapse }) => collapse?.distance,
  "dead latents": ({ collapse }) => collapse?.dead,
};

/** The scores as a table, beside what is no model at all. */
function scoreTable(scores: Scores, set: DecompSet, variance: number): Table {
  const floors = set.masks && scores.miou !== undefined ? floorsOf(set) : undefined;
  const none: Record<string, number | undefined> = {
    "squared error": variance,
    "component mIoU": floors?.whole,
  };
  const rows = Object.entries(ROWS).flatMap(([name, of]) => {
    const value = of(scores);
    return value === undefined ? [] : [[name, Number(value.toFixed(4)), none[name] ?? null] as const];
  });
  return { columns: ["measure", "model", "mean picture, or all objects in each component"], rows };
}

/** Draws test pictures again and measures. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { data, limit, method, steps, eta, clip, seed, threads } = options;
  const model = await modelOf(options.model);
  const set = await openSet(data, "test", model.config.size, limit ?? 256);
  const decomposer = openDecomposer([model], { threads });
  try {
    yield { type: "progress", stage: `drawing ${set.pictures.count} pictures`, done: 0, total: 1 };
    const taken = await takeApart(decomposer, set, { method, steps, eta, clip, seed, signal });
    yield { type: "progress", stage: `drawing ${set.pictures.count} pictures`, done: 1, total: 1 };
    const scores = scoresOf(taken, set);
    yield {
      type: "table",
      title: `${set.title}, ${set.pictures.count} pictures`,
      table: scoreTable(scores, set, await dataVariance(set)),
    };
    const { error, miou, overlap, mig } = scores;
    const found = { error, miou, overlap, mig };
    return {
      summary: `Squared error ${error.toFixed(4)}${miou === undefined ? "" : `, component mIoU ${miou.toFixed(3)}, overlap ${overlap!.toFixed(3)}`}.`,
      metrics: Object.fromEntries(
        Object.entries(found).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])),
      ),
    };
  } finally {
    await decomposer.close();
  }
}

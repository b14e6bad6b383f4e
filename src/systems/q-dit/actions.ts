/** `tweedie train`, `run` and `evaluate q-dit`, and the stop in the tour. */
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { slicePictures, tensorOf, tensorToPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { type Picture, writeGrid } from "../../io/index.ts";
import {
  describeMeasurement,
  extractFeatures,
  labelAgreement,
  openFeatureNetwork,
  qualityOf,
  referenceOf,
} from "../../metrics/index.ts";
import { grid } from "../../report/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import type { Quality, TourContext, TourResult } from "../tour.ts";
import { readPictures } from "./data.ts";
import { fileOf, openModel, saveDiT } from "./model.ts";
import type { EvaluateActionOptions, RunActionOptions, TrainActionOptions } from "./options.ts";
import { pictureRatio } from "./scores.ts";
import { trainMiniature } from "./train.ts";
import { type Drawn, type DrawStep, draw } from "./use.ts";

/** The network whose features measure, and which knows the classes. */
const openJudge = async () =>
  openFeatureNetwork(await shippedFile("checkpoints/fashion-features.safetensors"));

/** Trains, and writes the average of the weights beside the run. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { steps, batch, learningRate, dropLabels, seed, threads, from, out } = options;
  const pictures = await readPictures(options.data, "train", options.limit);
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
  yield { type: "file", path: join(out, "run", "report.html"), about: "curves" };
  return { summary: `Trained for ${steps} steps of ${batch} pictures.`, metrics: { loss } };
}

/** Steps of a drawing as progress, batch by batch. */
const drawProgress = ({ first, step, steps }: DrawStep): WorkEvent => ({
  type: "progress",
  stage: `draw from ${first}`,
  done: step + 1,
  total: steps,
});

/** Pictures in the making, of a batch. */
const PREVIEWS = 20;

/** Draws pictures into one file. */
export async function* runAction(
  options: RunActionOptions,
  { signal, previews }: ActionContext,
): Work<ActionResult> {
  const { model } = await openModel(options.model);
  const { label, count, steps, guidance, seed, threads, out } = options;
  const { classes } = model.config;
  if (label !== undefined && label >= classes)
    throw new ArgumentError(`label: expected 0 to ${classes - 1}, got ${label}`);
  const columns = Math.min(count, 10);
  const drawing = draw(model, {
    ...{ count, steps, guidance, seed, threads, signal },
    ...(label !== undefined && { label: () => label }),
  });
  let drawn: Drawn;
  for (;;) {
    const { done, value } = await drawing.next();
    if (done) {
      drawn = value;
      break;
    }
    yield drawProgress(value);
    if (previews && value.step % Math.ceil(steps / PREVIEWS) === 0)
      yield { type: "preview", picture: grid(await tensorToPictures(value.x), { columns }) };
  }
  await mkdir(dirname(out), { recursive: true });
  await writeGrid(out, tensorOf(drawn), { columns, scale: 2 });
  if (previews) {
    const picture = grid(await tensorToPictures(tensorOf(drawn)), { columns, scale: 2 });
    yield { type: "picture", name: "pictures", picture };
  }
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
): Work<ActionResult> {
  const { count, steps, guidance, seed, threads } = options;
  const judge = await openJudge();
  const reference = await referenceOf(judge.network, await readPictures(options.data, "test", options.limit));
  const { model } = await openModel(options.model);
  const drawn = yield* told(draw(model, { count, steps, guidance, seed, threads, signal }), drawProgress);
  const { fid: distance, agreement = 0 } = await qualityOf(judge.network, reference, drawn);
  const recipe = {
    metric: "FD",
    extractor: judge.recipe,
    counts: { real: reference.features.size, generated: count },
    seed,
    settings: { steps, guidance },
  };
  return {
    summary: `${describeMeasurement({ value: distance, recipe })}; ${(100 * agreement).toFixed(1)} % of the pictures are taken for their class.`,
    metrics: { distance, agreement, stepMilliseconds: drawn.stepMilliseconds },
  };
}

/** The original first: the others are compared with it. */
const MODELS = [
  { name: "fashion", title: "full precision" },
  { name: "fashion-w8a8", title: "W8A8" },
  { name: "fashion-w4a8", title: "W4A8" },
] as const;

const CLASSES = "t-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split(" ");
const GUIDANCE = 1.5;

export interface QDiTTourSize {
  readonly pictures: number;
  /** Of DDIM. */
  readonly steps: number;
}

const SIZE: QDiTTourSize = { pictures: 100, steps: 20 };

/** Pictures of one model, and what was measured of them. */
interface Shown {
  readonly title: string;
  readonly drawn: Drawn;
  /** PSNR to the first model's pictures, dB. */
  readonly likeness: number;
  /** The first ten, one of each class. */
  readonly pictures: readonly Picture[];
  readonly bytes: number;
  /** Share of the pictures that the classifier takes for what was asked for. */
  readonly agreement: number;
}

const kilobytes = (bytes: number): number => bytes / 1000;

/** Of the smallest model all that counts; of those between how like the original they are. */
function tourQuality(original: Shown, packed: readonly Shown[]): Quality[] {
  const { title, agreement, bytes } = original;
  const smallest = packed.at(-1)!;
  return [
    {
      name: `right class, ${smallest.title}`,
      value: smallest.agreement,
      better: "higher",
      baseline: { name: title, value: agreement },
    },
    ...packed.map(
      (shown): Quality => ({
        name: `likeness to ${title}, ${shown.title}`,
        value: shown.likeness,
        unit: "dB",
        better: "higher",
      }),
    ),
    {
      name: `file, ${smallest.title}`,
      value: kilobytes(smallest.bytes),
      unit: "kB",
      better: "lower",
      baseline: { name: `${title}, 16 bits`, value: kilobytes(bytes) },
    },
  ];
}

/** Draws with all three models, compares, shows. */
export async function* tourQDiT(
  { seed, threads, signal }: TourContext,
  size: Partial<QDiTTourSize> = {},
): Work<TourResult> {
  const { pictures: count, steps } = { ...SIZE, ...size };
  const judge = await openJudge();
  const total = MODELS.length * steps;
  const shown: Shown[] = [];
  for (const [k, { name, title }] of MODELS.entries()) {
    const { model } = await openModel(name);
    let step = 0;
    const drawn = yield* told(
      draw(model, { count, steps, seed, guidance: GUIDANCE, threads, signal }),
      (): WorkEvent => {
        const done = Math.min(total, k * steps + ++step);
        return { type: "progress", stage: title, done, total };
      },
    );
    const first = slicePictures(drawn, 0, CLASSES.length);
    const found = await extractFeatures(judge.network, drawn.values, count, threads);
    shown.push({
      ...{ title, drawn },
      likeness: await pictureRatio((shown[0]?.drawn ?? drawn).values, drawn.values),
      pictures: await tensorToPictures(tensorOf(first)),
      bytes: (await stat(await fileOf(name))).size,
      agreement: labelAgreement(found, drawn.labels),
    });
  }
  yield { type: "progress", stage: "compared", done: total, total };
  const [original, ...packed] = shown as [Shown, ...Shown[]];
  yield {
    type: "figure",
    name: "fashion",
    caption: `Pieces of clothing from noise: one of each class, the same noise in every column, ${steps} steps of DDIM. Below the full-precision model, its copies with weights of 8 and of 4 bits, run on integer kernels.`,
    pictures: shown.flatMap(({ pictures }) => pictures),
    columns: CLASSES.slice(0, original.pictures.length),
    rows: shown.map(({ title }) => title),
    scale: 3,
  };
  yield {
    type: "table",
    title: `${count} pictures, ten classes in turn. Right class: share that a classifier trained on real pictures takes for what was asked for; chance is 0.1. Likeness: PSNR to the full-precision model's pictures of the same seeds.`,
    table: {
      columns: ["model", "file, kB", "likeness, dB", "right class"],
      rows: shown.map((each) => [
        each.title,
        Math.round(kilobytes(each.bytes)),
        each === original ? null : each.likeness,
        each.agreement,
      ]),
    },
  };
  return {
    did: `drew ${count} pieces of clothing in full precision and again with ${packed.map(({ title }) => title).join(" and ")} weights`,
    quality: tourQuality(original, packed),
  };
}

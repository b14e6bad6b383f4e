/** Q-DiT in the tour: the same pictures in full precision and with packed weights, from the same seeds. */
import { stat } from "node:fs/promises";
import { tensorToPictures } from "../../../data/index.ts";
import type { Picture } from "../../../io/index.ts";
import { extractFeatures, labelAgreement, openFeatureNetwork } from "../../../metrics/index.ts";
import { fromHost } from "../../../tensor/index.ts";
import { during } from "../../../work.ts";
import { shippedFile } from "../../shipped.ts";
import type { Quality, TourContext, TourEvent, TourResult } from "../../tour.ts";
import { type Drawn, draw } from "../sample.ts";
import { pictureRatio } from "../study.ts";
import { modelFile, openModel } from "./common.ts";

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
  /** The first ten, one of each class. */
  readonly pictures: readonly Picture[];
  readonly bytes: number;
  readonly seconds: number;
  /** Share of the pictures that the classifier takes for what was asked for. */
  readonly agreement: number;
}

const clipped = (values: Float32Array): Float32Array => values.map((v) => Math.min(1, Math.max(-1, v)));

const kilobytes = (bytes: number): number => bytes / 1000;

/** Of the smallest model all that counts; of those between how like the original they are. */
function qualityOf(original: Shown, packed: readonly Shown[]): Quality[] {
  const { title, drawn, agreement, bytes } = original;
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
        value: pictureRatio(drawn.values, shown.drawn.values),
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
): AsyncGenerator<TourEvent, TourResult> {
  const { pictures: count, steps } = { ...SIZE, ...size };
  const judge = await openFeatureNetwork(await shippedFile("checkpoints/fashion-features.safetensors"));
  const total = MODELS.length * steps;
  const shown: Shown[] = [];
  for (const [k, { name, title }] of MODELS.entries()) {
    const { model } = await openModel(name);
    const { sampleSize, inChannels } = model.config;
    const startedAt = performance.now();
    let step = 0;
    const settings = {
      count,
      steps,
      seed,
      guidance: GUIDANCE,
      ...(threads && { threads }),
      ...(signal && { signal }),
    };
    const work = draw(model, settings, () => void step++);
    const drawn = yield* during(work, () => ({
      type: "progress" as const,
      stage: title,
      done: Math.min(total, k * steps + step),
      total,
    }));
    const seconds = (performance.now() - startedAt) / 1000;
    const values = clipped(drawn.values);
    const first = Math.min(count, CLASSES.length);
    const plane = inChannels * sampleSize ** 2;
    const found = await extractFeatures(judge.network, values, count, threads);
    shown.push({
      title,
      drawn,
      seconds,
      pictures: await tensorToPictures(
        fromHost("f32", [first, inChannels, sampleSize, sampleSize], values.slice(0, first * plane)),
      ),
      bytes: (await stat(await modelFile(name))).size,
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
      columns: ["model", "file, kB", "likeness, dB", "right class", "s"],
      rows: shown.map((each) => [
        each.title,
        Math.round(kilobytes(each.bytes)),
        each === original ? null : pictureRatio(original.drawn.values, each.drawn.values),
        each.agreement,
        each.seconds,
      ]),
    },
  };
  return {
    did: `drew ${count} pieces of clothing in full precision and again with ${packed.map(({ title }) => title).join(" and ")} weights`,
    quality: qualityOf(original, packed),
  };
}

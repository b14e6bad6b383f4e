/** The measurements of the study: every number with all that decides it. */
import { cropPlanes, type Dataset, padded, sizeFor } from "../../data/index.ts";
import { inTurns, type Made, mean } from "../../study/index.ts";
import { fromHost, jit, type Tensor, zeros } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import {
  allForeground,
  BRIGHTNESS,
  diffusionPredictor,
  type OpenPredictor,
  plainPredictor,
  THRESHOLDS,
  thresholdPredictor,
} from "./baselines.ts";
import {
  CEILING,
  FLOORS,
  inPixels,
  PIXEL_PICTURES,
  PLAIN_UNET,
  type Reached,
  type SetFound,
  type TimesOfOne,
  type Variant,
  WAYS,
  type Way,
  wayName,
} from "./compared.ts";
import { imagesOf, masksOf, type Sample } from "./data.ts";
import {
  CLASSES_CONFIG,
  firstOf,
  type Lab,
  printOf,
  sharedAutoencoder,
  trainedClasses,
  trainedPixels,
  trainedVariant,
} from "./lab.ts";
import { type SDSeg, totalStride } from "./model.ts";
import {
  asPredictions,
  ensembleScores,
  evaluateOn,
  type Predict,
  predictWith,
  runSeeds,
  type Scores,
  stabilityOf,
} from "./scores.ts";
import { knownSet } from "./sets.ts";
import { openSegmenter, type Segmenter } from "./use.ts";

const reachedBy = ({ dice, iou, perPicture }: Scores): Reached => ({ dice, iou, perPicture });

/** Batch size: 16 pictures of 64x64, fewer of larger ones. */
async function batchFor(data: Dataset<Sample>): Promise<number> {
  const { width, height } = (await data.get(0)).image;
  return Math.max(1, Math.floor((16 * 64 * 64) / (width * height)));
}

const scored = async (predict: Predict, data: Dataset<Sample>): Promise<Reached> =>
  reachedBy(await evaluateOn(predict, data, { batch: await batchFor(data) }));

/** One way to segment, under several seeds of the noise. */
async function measuredWay(
  segmenter: Segmenter,
  options: Way["options"],
  seeds: number,
  data: Dataset<Sample>,
): Promise<Reached> {
  if (seeds === 1) return scored(predictWith(segmenter, options), data);
  const batch = await batchFor(data);
  const runs = await runSeeds((seed) => predictWith(segmenter, { ...options, seed }), data, { seeds, batch });
  const { scores } = runs;
  return {
    dice: mean(scores.map(({ dice }) => dice)),
    iou: mean(scores.map(({ iou }) => iou)),
    perPicture: scores[0]!.perPicture.map((_, i) => mean(scores.map(({ perPicture }) => perPicture[i]!))),
    perSeed: scores.map(({ dice }) => dice),
    ensemble: reachedBy(await ensembleScores(runs, data)),
    stability: await stabilityOf(runs, data, segmenter.model),
  };
}

/** All that is measured of a variant on a set. */
export async function* variantCells(lab: Lab, set: string, variant: Variant): Work<SetFound> {
  const { study, signal, options } = lab;
  const model = yield* trainedVariant(lab, set, variant);
  const { data, print } = await lab.test(set);
  const segmenter = lab.open(model.value, { threads: options.threads });
  const reached: Record<string, Reached> = {};
  try {
    for (const [way, { options: given, seeds: wanted, variants }] of Object.entries(WAYS)) {
      if (!variants.includes(variant)) continue;
      const seeds = wanted === "all" ? options.seeds : wanted;
      const cell = yield* study.measure(`${set}, ${variant}, ${way}`, {
        given: { options: given, seeds, test: print },
        from: [model],
        measure: () => measuredWay(segmenter, { ...given, signal }, seeds, data),
      });
      reached[wayName(variant, way)] = cell.value;
    }
  } finally {
    await segmenter.close();
  }
  if (variant !== "lambda-1") return { reached };
  return { reached, times: (yield* timesCell(lab, set, model)).value };
}

/** Rounds of the times; fifty steps take most of it. */
const ROUNDS = 7;

async function* timesCell(lab: Lab, set: string, model: Made<SDSeg>): Work<Made<TimesOfOne>> {
  const { data } = await lab.test(set);
  const { width, height } = (await data.get(0)).image;
  return yield* lab.study.measure(`${set}, times`, {
    given: { width, height, rounds: ROUNDS },
    from: [model],
    measure: async () => ({ width, height, times: await timesOf(model.value, await data.get(0)) }),
  });
}

/** Times of one picture, one step and fifty; of the denoiser alone, one call and fifty. With the default threads. */
async function timesOf(model: SDSeg, sample: Sample): Promise<TimesOfOne["times"]> {
  const { height, width } = sample.image;
  const picture = imagesOf([sample]);
  const segmenter = openSegmenter(model);
  const size = sizeFor([height, width], totalStride(model.config));
  const latent = zeros([1, model.config.autoencoder.latentChannels, ...model.latentSize(...size)]);
  const denoiser = jit((z: Tensor, t: Tensor) => model.network.predict(z, t, z));
  const [z, t] = [await latent.eval(), await fromHost("f32", [1], Float32Array.of(999)).eval()];
  const ddim = { pad: true, mode: "ddim", steps: 50 } as const;
  try {
    return await inTurns(
      {
        one: () => segmenter.segment(picture, { pad: true }),
        fifty: () => segmenter.segment(picture, ddim),
        denoiserOne: () => denoiser(z, t),
        denoiserFifty: async () => {
          for (let i = 0; i < 50; i++) await denoiser(z, t);
        },
      },
      ROUNDS,
    );
  } finally {
    await segmenter.close();
    await denoiser.close();
  }
}

/** A measurement with a segmenter that is opened for it and closed after it. */
async function withOpen(open: () => OpenPredictor, data: Dataset<Sample>): Promise<Reached> {
  const { predict, close } = open();
  try {
    return await scored(predict, data);
  } finally {
    await close();
  }
}

/** The strongest rival: a U-Net over pixels without diffusion. */
export async function* plainCell(lab: Lab, set: string): Work<SetFound> {
  const { study, options } = lab;
  const model = yield* trainedPixels(lab, set, "plain");
  const { data, print } = await lab.test(set);
  const cell = yield* study.measure(`${set}, ${PLAIN_UNET}`, {
    given: { test: print },
    from: [model],
    measure: () => withOpen(() => plainPredictor(model.value, { threads: options.threads }), data),
  });
  return { reached: { [PLAIN_UNET]: cell.value } };
}

export async function* pixelCells(lab: Lab, set: string): Work<SetFound> {
  const model = yield* trainedPixels(lab, set, "diffusion");
  const data = firstOf((await lab.test(set)).data, PIXEL_PICTURES);
  const sampling = { steps: 50, ensemble: 5, seed: 0 };
  const cell = yield* lab.study.measure(`${set}, diffusion in pixels`, {
    given: { sampling, eta: 1, test: await printOf(data) },
    from: [model],
    measure: () => withOpen(() => diffusionPredictor(model.value, sampling), data),
  });
  return { reached: { [inPixels(data.length)]: cell.value } };
}

/** Masks through the autoencoder and back: no latent method can be better. */
function ceilingPredictor(model: SDSeg, threads: number | undefined): OpenPredictor {
  const { maskChannels } = model.config;
  const run = jit((mask: Tensor) => model.autoencoder.call(mask).mean(1, true).add(1).mul(0.5), { threads });
  return {
    async predict(samples) {
      const [{ image, labels }] = samples as [Sample];
      const mask = await padded(masksOf(samples, maskChannels), totalStride(model.config));
      const [, , h, w] = mask.shape as [number, number, number, number];
      const maps = (await (await run(mask)).data()) as Float32Array;
      return asPredictions(cropPlanes(maps, [h, w], [image.height, image.width]), labels.length);
    },
    close: () => run.close(),
  };
}

/** What needs no denoiser: the ceiling, thresholds on the files' own brightness, everything as foreground. */
export async function* floorCells(lab: Lab, set: string): Work<SetFound> {
  const { study, options } = lab;
  const base = yield* sharedAutoencoder(lab);
  const test = await lab.test(set);
  const ceiling = yield* study.measure(`${set}, ceiling`, {
    given: { test: test.print },
    from: [base],
    measure: () => withOpen(() => ceilingPredictor(base.value, options.threads), test.data),
  });
  const reached: Record<string, Reached> = { [CEILING]: ceiling.value };
  const bright = await lab.test(set, BRIGHTNESS);
  const dark = knownSet(set)?.inverted ?? false;
  for (const name of ["otsu", "li"] as const) {
    const cell = yield* study.measure(`${set}, ${FLOORS[name]}`, {
      given: { threshold: name, dark, test: bright.print },
      measure: () => scored(thresholdPredictor(THRESHOLDS[name], dark), bright.data),
    });
    reached[FLOORS[name]] = cell.value;
  }
  const everything = yield* study.measure(`${set}, ${FLOORS.foreground}`, {
    given: { test: test.print },
    measure: () => scored(allForeground, test.data),
  });
  return { reached: { ...reached, [FLOORS.foreground]: everything.value } };
}

/** Dice of each class by one step for each class. */
export async function* classCells(lab: Lab): Work<SetFound> {
  const model = yield* trainedClasses(lab);
  const { data, print } = await lab.read("shapes", "test", CLASSES_CONFIG);
  const cell = yield* lab.study.measure("shapes, one step", {
    given: { test: print },
    from: [model],
    async measure() {
      const segmenter = lab.open(model.value, { threads: lab.options.threads });
      try {
        const found = await evaluateOn(predictWith(segmenter), data, { classes: CLASSES_CONFIG.classes });
        return { ...reachedBy(found), perClass: found.perClass };
      } finally {
        await segmenter.close();
      }
    },
  });
  return { reached: { "shapes, one step": cell.value }, perClass: cell.value.perClass };
}

/** The study's measurements: an arm with a seed, and pictures to show. */
import type { FeatureNetwork } from "../../metrics/index.ts";
import type { Made } from "../../study/index.ts";
import { jit, type Tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { type Arm, type Context, cometCell, dataOf, decompCell, vaeCell, variantsOf } from "./arms.ts";
import { decompBatches } from "./data.ts";
import { decompLoss } from "./method.ts";
import type { DecompUNet } from "./model.ts";
import { shown } from "./run.ts";
import { firstPictures, type Scores, scoresOf, type Taken, takeApart } from "./scores.ts";
import { distancesOf, takeByComet, takeByVAE } from "./take.ts";
import { openDecomposer } from "./use.ts";

/** Numbers of one arm with one seed. */
export interface Measured extends Omit<Scores, "errors"> {
  readonly errors: readonly number[];
  /** Distance in unit features of the classifier's three maps, mean over pictures. */
  readonly perceptual: number;
  /** Fréchet distance in the classifier's features. */
  readonly fid: number;
}

/** The loss on training pictures, with the same noise for all arms: by which trainings of an arm are chosen. */
async function trainingLoss(model: DecompUNet, { train, options }: Context): Promise<number> {
  const rules = { batch: 256, seed: 77, dropLatents: 0 };
  const batch = decompBatches(model.config, train, rules)(0);
  const loss = jit(
    (b: typeof batch) => {
      const still = {
        config: model.config,
        encode: (x: Tensor) => model.encode(x),
        denoise: model.denoise.bind(model),
      };
      return decompLoss({ downweight: false, orthogonality: 0 })(still, b).loss;
    },
    options.threads === undefined ? {} : { threads: options.threads },
  );
  try {
    return await (await loss(batch)).item();
  } finally {
    await loss.close();
  }
}

async function* takenBy(context: Context, arm: Arm, seed: number) {
  const { options, test, signal } = context;
  const { threads, drawSteps: steps } = options;
  if (arm === "COMET") {
    const made = yield* cometCell(context, seed);
    return { made, given: {}, take: () => takeByComet(made.value, test, threads) };
  }
  if (arm === "beta-VAE") {
    const made = yield* vaeCell(context, seed);
    return { made, given: {}, take: () => takeByVAE(made.value, test, threads) };
  }
  let best: { made: Made<DecompUNet>; loss: number } | undefined;
  const names = variantsOf(arm, options);
  for (const name of names) {
    const made = yield* decompCell(context, name, seed);
    if (names.length === 1) {
      best = { made, loss: 0 };
      break;
    }
    const { value: loss } = yield* context.study.measure(`training loss, ${made.name}`, {
      from: [made],
      given: { data: dataOf(context.train) },
      measure: () => trainingLoss(made.value, context),
    });
    if (!best || loss < best.loss) best = { made, loss };
  }
  const { made } = best!;
  const take = async (): Promise<Taken> => {
    const decomposer = openDecomposer([made.value], { threads });
    try {
      return await takeApart(decomposer, test, { steps, seed: 0, signal });
    } finally {
      await decomposer.close();
    }
  };
  return { made, given: { steps }, take };
}

/** Trains an arm with a seed, and measures it on the test pictures. */
export async function* armCell(
  context: Context,
  classifier: Made<FeatureNetwork>,
  { arm, seed }: { readonly arm: Arm; readonly seed: number },
): Work<Measured> {
  const { study, options, test } = context;
  const { made, given, take } = yield* takenBy(context, arm, seed);
  const { value } = yield* study.measure(`${options.set} ${arm}, seed ${seed}, measured`, {
    given: { ...given, test: dataOf(test) },
    from: [made as Made<unknown>, classifier],
    async measure(): Promise<Measured> {
      const taken = await take();
      return {
        ...scoresOf(taken, test),
        ...(await distancesOf(classifier.value, test, taken.reconstruction)),
      };
    },
  });
  return value;
}

/** Pictures that are shown, as bytes [N, S, S, 3]. */
export interface Pictures {
  readonly given: readonly number[];
  readonly parts: readonly number[];
  readonly together: readonly number[];
  readonly mixtures: readonly number[];
}

/** The first test pictures taken apart by the method's model of the first seed. */
export async function* shownCell(context: Context, count: number): Work<Pictures> {
  const { study, options, test } = context;
  const made = yield* decompCell(context, "x0", 0);
  const { drawSteps: steps, set, threads } = options;
  const { value } = yield* study.measure(`${set} pictures taken apart`, {
    given: { steps, count, test: dataOf(test) },
    from: [made],
    async measure(): Promise<Pictures> {
      const few = firstPictures(test, count);
      const decomposer = openDecomposer([made.value], { threads });
      try {
        const { reconstruction, components, mixtures } = await takeApart(decomposer, few, { steps });
        const bytes = async (values: Float32Array): Promise<number[]> =>
          (await shown(values, made.value.config.size)).flatMap(({ data }) => Array.from(data));
        return {
          given: await bytes(few.pictures.values),
          parts: await bytes(components!),
          together: await bytes(reconstruction),
          mixtures: await bytes(mixtures!),
        };
      } finally {
        await decomposer.close();
      }
    },
  });
  return value;
}

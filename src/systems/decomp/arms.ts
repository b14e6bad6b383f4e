/** The cells of the study: what is trained and compared, how each takes pictures apart, and how that is measured. */
import { overPictures, tensorOf } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  type FeatureNetwork,
  featureDistance,
  openFeatureNetwork,
  qualityOf,
  referenceOf,
  saveFeatureNetwork,
  trainFeatureNetwork,
} from "../../metrics/index.ts";
import { type Made, mean, type Study } from "../../study/index.ts";
import { createNoise, fromHost, jit, type Tensor } from "../../tensor/index.ts";
import { epochIndices } from "../../training/index.ts";
import type { Work } from "../../work.ts";
import {
  type BetaVAE,
  baselineTraining,
  type Comet,
  type CometConfig,
  cometFile,
  freshComet,
  freshVAE,
  trainComet,
  trainVAE,
  type VAEConfig,
  vaeFile,
} from "./baselines.ts";
import { type DecompSet, decompBatches, madeSet } from "./data.ts";
import { decompLoss } from "./method.ts";
import { type DecompConfig, type DecompUNet, decompFile, PRESETS } from "./model.ts";
import type { ReproduceActionOptions } from "./options.ts";
import { shown } from "./run.ts";
import { firstPictures, halfMask, rolled, type Scores, scoresOf, type Taken, takeApart } from "./scores.ts";
import { freshDecomp, type TrainSettings, trainDecomp, training } from "./train.ts";
import { type Latents, mixed, openDecomposer } from "./use.ts";

/** How an arm differs from the method. */
export interface Change {
  readonly config?: (base: DecompConfig) => Partial<DecompConfig>;
  readonly settings?: Partial<TrainSettings>;
}

const linear = (base: DecompConfig): Partial<DecompConfig> => ({ encoder: { ...base.encoder, relu: false } });
const eps = { prediction: "eps" } as const;
const SLOW = { learningRate: 2e-4 };

/** The method; the ablations; latents four times as wide, by which the bottleneck is told from the rest. */
export const CHANGES = {
  x0: {},
  eps: { config: () => eps },
  "eps, slow": { config: () => eps, settings: SLOW },
  "eps, linear": { config: (base) => ({ ...eps, ...linear(base) }) },
  "eps, linear, slow": { config: (base) => ({ ...eps, ...linear(base) }), settings: SLOW },
  single: { config: ({ components, latent }) => ({ components: 1, latent: components * latent }) },
  wide: { config: ({ latent }) => ({ latent: 4 * latent }) },
} as const satisfies Readonly<Record<string, Change>>;

/** What `--arms` chooses among; all four ways to predict the noise count as one arm, the best by its training loss. */
export const ARMS = ["x0", "eps", "single", "wide", "COMET", "beta-VAE"] as const;
export type Arm = (typeof ARMS)[number];

/** Trainings of an arm, of which the best by the loss on training pictures is kept. */
export const variantsOf = (arm: Arm, { tuned }: Pick<ReproduceActionOptions, "tuned">): string[] =>
  arm === "eps" && tuned ? Object.keys(CHANGES).filter((name) => name.startsWith("eps")) : [arm];

/** COMET's steps cost a quarter of the method's. */
const COMET_STEPS = 4;

/** What all cells share. */
export interface Context {
  readonly study: Study;
  readonly options: ReproduceActionOptions;
  readonly base: DecompConfig;
  readonly train: DecompSet;
  readonly test: DecompSet;
  readonly signal?: AbortSignal | undefined;
}

export async function contextOf(
  study: Study,
  options: ReproduceActionOptions,
  signal?: AbortSignal,
): Promise<Context> {
  const { set, preset, test } = options;
  const base: DecompConfig = PRESETS[preset === "smoke" ? "smoke" : set];
  if (preset === "smoke" && set !== "blocks2")
    throw new ArgumentError(`Decomp: the preset for tests is of blocks2, not of ${set}`);
  const of = (half: "train" | "test") => madeSet(set, half, base.size);
  return {
    study,
    options,
    base,
    train: await of("train"),
    test: firstPictures(await of("test"), test),
    signal,
  };
}

/** What is said of the data in fingerprints: they are made of this alone. */
const dataOf = ({ title, pictures: { count, size } }: DecompSet) => ({ title, count, size });

interface TrainCell<M> {
  readonly given: object;
  readonly file: {
    readonly cell: { save(path: string, model: M): Promise<void>; load(path: string): Promise<M> };
  };
  readonly run: (folder: string) => Work<{ readonly final: M }>;
}

const trainedCell = <M extends object>(
  { study, train }: Context,
  name: string,
  cell: TrainCell<M>,
): Work<Made<M>> =>
  study.model<M>(name, {
    given: { ...cell.given, data: dataOf(train) },
    async *make(folder) {
      return (yield* cell.run(folder)).final;
    },
    save: cell.file.cell.save,
    load: cell.file.cell.load,
  });

/** A model of the method, or of one of its changes. */
export function decompCell(context: Context, name: string, seed: number): Work<Made<DecompUNet>> {
  const { options, base, train: set, signal } = context;
  const change: Change = CHANGES[name as keyof typeof CHANGES];
  const config: DecompConfig = { ...base, ...change.config?.(base) };
  const { steps, batch, threads } = options;
  const settings = training({ steps, batch, seed, ...change.settings });
  const stage = `${options.set} ${name}, seed ${seed}`;
  return trainedCell(context, stage, {
    given: { config, settings },
    file: decompFile,
    run: (folder) =>
      trainDecomp({ stage, model: freshDecomp(config, set, seed), set, settings, folder, threads, signal }),
  });
}

export const cometConfig = ({ base: { size, components, latent } }: Context): CometConfig => ({
  ...{ size, components, latent, filters: 32, steps: 5, rate: 500 },
});

function cometCell(context: Context, seed: number): Work<Made<Comet>> {
  const { options, train: set, signal } = context;
  const { steps, batch, threads } = options;
  const config = cometConfig(context);
  const settings = baselineTraining({ steps: COMET_STEPS * steps, batch, seed });
  const stage = `${options.set} COMET, seed ${seed}`;
  return trainedCell(context, stage, {
    given: { config, settings },
    file: cometFile,
    run: (folder) =>
      trainComet({ stage, model: freshComet(config, seed), set, settings, folder, threads, signal }),
  });
}

function vaeCell(context: Context, seed: number): Work<Made<BetaVAE>> {
  const { options, base, train: set, signal } = context;
  const { steps, batch, threads } = options;
  const config: VAEConfig = { size: base.size, latent: base.components * base.latent, beta: 4 };
  const settings = baselineTraining({ steps, batch, seed, learningRate: 1e-3 });
  const stage = `${options.set} beta-VAE, seed ${seed}`;
  return trainedCell(context, stage, {
    given: { config, settings },
    file: vaeFile,
    run: (folder) =>
      trainVAE({ stage, model: freshVAE(config, seed), set, settings, folder, threads, signal }),
  });
}

// ---- how each takes pictures apart

const chunked = async (count: number, batch: number, f: (from: number, to: number) => Promise<void>) => {
  for (let from = 0; from < count; from += batch) await f(from, Math.min(count, from + batch));
};

/** COMET draws by going down the energy from noise. */
async function takeByComet(model: Comet, set: DecompSet, threads?: number): Promise<Taken> {
  const { size } = model.config;
  const { count } = set.pictures;
  const settings = threads === undefined ? {} : { threads };
  const encode = jit((x: Tensor) => model.encode(x), settings);
  const refine = jit((x: Tensor, z: Tensor) => model.refine(x, z), settings);
  const source = createNoise("philox", 0);
  const draw = async ({ values, count: n, components, width }: Latents, each = 1): Promise<Float32Array> => {
    const out = new Float32Array(n * 3 * size * size);
    await chunked(n, 128, async (from, to) => {
      const shape = [to - from, 3, size, size];
      const start = new Float32Array(shape.reduce((a, b) => a * b, 1));
      const plane = start.length / (to - from);
      for (let i = from; i < to; i++) {
        const at = { sample: Math.floor(i / each), purpose: "comet draw", step: 0 };
        start.set(source.uniform([1, ...shape.slice(1)], at) as Float32Array, (i - from) * plane);
      }
      const rows = values.slice(from * components * width, to * components * width);
      const z = fromHost("f32", [to - from, components, width], rows);
      const drawn = await refine(fromHost("f32", shape, start), z);
      out.set((await drawn.data()) as Float32Array, from * plane);
    });
    return out;
  };
  try {
    const z = await encode(tensorOf(set.pictures));
    const [, components, width] = z.shape as [number, number, number];
    const latents: Latents = { count, components, width, values: (await z.data()) as Float32Array };
    const next = rolled(latents);
    const alone = { ...latents, count: count * components, components: 1 };
    const [mixture] = mixed(latents, next, halfMask(components));
    return {
      latents,
      reconstruction: await draw(latents),
      shuffled: await draw(next),
      components: await draw(alone, components),
      mixtures: await draw(mixture!.latents),
    };
  } finally {
    await Promise.all([encode.close(), refine.close()]);
  }
}

/** A beta-VAE has no components: all its latents are one. */
async function takeByVAE(model: BetaVAE, set: DecompSet, threads?: number): Promise<Taken> {
  const { count } = set.pictures;
  const { z, x } = await overPictures(
    set.pictures,
    (pictures: Tensor) => {
      const [means] = model.encode(pictures);
      return { z: means, x: model.decode(means).sigmoid() };
    },
    { threads },
  );
  const latents: Latents = { count, components: 1, width: z.values.length / count, values: z.values };
  return { latents, reconstruction: x.values };
}

// ---- measuring

/** Numbers of one arm with one seed. */
export interface Measured extends Omit<Scores, "errors"> {
  readonly errors: readonly number[];
  /** Distance in unit features of the classifier's three maps, mean over pictures. */
  readonly perceptual: number;
  /** Fréchet distance in the classifier's features. */
  readonly fid: number;
}

/** Labels of each picture's questions: factors, or of blocks shape and colour, from the top left on. */
function questionsOf({ title, factors, masks, pictures: { count } }: DecompSet) {
  const known = factors!.length / count;
  if (!title.startsWith("blocks"))
    return { heads: Array.from({ length: known }, () => 10), labels: factors! };
  const objects = known / 4;
  const labels = new Int32Array(count * objects * 2);
  for (let i = 0; i < count; i++) {
    const order = masks![i]!.map((mask, k) => ({ at: mask.indexOf(1), k })).sort((a, b) => a.at - b.at);
    for (const [j, { k }] of order.entries())
      for (const part of [0, 1]) labels[(i * objects + j) * 2 + part] = factors![i * known + 4 * k + part]!;
  }
  return { heads: Array.from({ length: objects }, () => [19, 6]).flat(), labels };
}

/** Pictures in [0, 1] as classifiers take them. */
const signed = (values: Float32Array): Float32Array => values.map((v) => 2 * v - 1);

/** The classifier whose features measure distances: it learns the questions that the set's maker can answer. */
export async function* classifierCell({ study, options, train, base }: Context): Work<Made<FeatureNetwork>> {
  const { classifierSteps: steps, threads, set } = options;
  return yield* study.model<FeatureNetwork>(`${set} classifier`, {
    given: { steps, data: dataOf(train) },
    async *make() {
      const { heads, labels } = questionsOf(train);
      const indices = epochIndices(train.pictures.count, 64, 0);
      const values = signed(train.pictures.values);
      const plane = 3 * base.size ** 2;
      const classes = heads.reduce((a, b) => a + b, 0);
      const run = trainFeatureNetwork({
        config: { size: base.size, channels: 3, classes, heads },
        steps,
        seed: 0,
        ...(threads !== undefined && { threads }),
        batch(step) {
          const chosen = indices(step);
          const rows = new Float32Array(chosen.length * plane);
          const answers = new Int32Array(chosen.length * heads.length);
          for (const [i, index] of chosen.entries()) {
            rows.set(values.subarray(index * plane, (index + 1) * plane), i * plane);
            answers.set(labels.subarray(index * heads.length, (index + 1) * heads.length), i * heads.length);
          }
          return {
            x: fromHost("f32", [chosen.length, 3, base.size, base.size], rows),
            labels: fromHost("i32", [chosen.length, heads.length], answers),
          };
        },
      });
      let model: FeatureNetwork | undefined;
      for await (const event of run) {
        if (event.type === "step")
          yield { type: "progress", stage: `${set} classifier`, done: event.step, total: steps };
        if (event.type === "done") model = event.state.model;
      }
      return model!;
    },
    save: (path, model) => saveFeatureNetwork(path, model),
    load: async (path) => (await openFeatureNetwork(path, "decomp features")).network,
  });
}

const mapsOf = (network: FeatureNetwork, x: Tensor): Tensor[] => {
  const first = network.conv1.call(x).relu();
  const second = network.conv2.call(first).relu();
  return [first, second, network.conv3.call(second).relu()];
};

/** Distances of drawn pictures to the real ones, in the features of a classifier. */
async function distancesOf(network: FeatureNetwork, set: DecompSet, drawn: Float32Array) {
  const real = { ...set.pictures, values: signed(set.pictures.values) };
  const made = { ...real, values: signed(drawn) };
  const plane = made.values.length / made.count;
  const inputs = (first: number, n: number) => ({
    other: fromHost(
      "f32",
      [n, real.channels, real.size, real.size],
      made.values.slice(first * plane, (first + n) * plane),
    ),
  });
  const { gap } = await overPictures(
    real,
    (x: Tensor, { other }: { other: Tensor }) => ({
      gap: featureDistance(mapsOf(network, x), mapsOf(network, other)),
    }),
    { inputs },
  );
  const { fid } = await qualityOf(network, await referenceOf(network, real), made);
  return { perceptual: mean(gap.values), fid };
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

/** How COMET and the beta-VAE take test pictures apart and draw them again, and how far drawn pictures are from real ones. */
import { overPictures, tensorOf } from "../../data/index.ts";
import {
  type FeatureNetwork,
  featureDistance,
  frechetFeatureDistance,
  openFeatureNetwork,
  referenceOf,
  saveFeatureNetwork,
  trainFeatureNetwork,
} from "../../metrics/index.ts";
import { type Made, mean } from "../../study/index.ts";
import { createNoise, fromHost, jit, type Tensor } from "../../tensor/index.ts";
import { epochIndices } from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { type Context, dataOf } from "./arms.ts";
import type { BetaVAE, Comet } from "./baselines.ts";
import type { DecompSet } from "./data.ts";
import { halfMask, rolled, type Taken } from "./scores.ts";
import { type Latents, mixed } from "./use.ts";

const chunked = async (count: number, batch: number, f: (from: number, to: number) => Promise<void>) => {
  for (let from = 0; from < count; from += batch) await f(from, Math.min(count, from + batch));
};

/** COMET draws by going down the energy from noise. */
export async function takeByComet(model: Comet, set: DecompSet, threads?: number): Promise<Taken> {
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
export async function takeByVAE(model: BetaVAE, set: DecompSet, threads?: number): Promise<Taken> {
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
export async function distancesOf(network: FeatureNetwork, set: DecompSet, drawn: Float32Array) {
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
  const [a, b] = [await referenceOf(network, real), await referenceOf(network, made)];
  const fid = frechetFeatureDistance(a.features, b.features);
  return { perceptual: mean(gap.values), fid };
}

/**
 * A small convolutional classifier whose 64 features stand in for Inception's where pictures are small:
 * the distances computed with them are FID-like, comparable among themselves and with no published number.
 */
import { createHash } from "#node";
import { ArgumentError, ShapeError } from "../errors.ts";
import { decodeSafetensors, isRawTensor, writeSafetensors } from "../io/index.ts";
import { readFileBytes } from "../io/read-bytes.ts";
import {
  adam,
  blankRng,
  Conv2d,
  cosineDecay,
  createRng,
  Linear,
  loadParameters,
  Module,
  parameters,
  type Rng,
  type TrainEvent,
  train,
} from "../nn/index.ts";
import { concat, fromHost, jit, oneHot, select, split, type Tensor } from "../tensor/index.ts";
import type { Recipe } from "./recipe.ts";
import { SampleTable } from "./sample-table.ts";

/** Sizes of a feature network. */
export interface FeatureNetworkConfig {
  /** Height and width of the pictures, a multiple of 4. */
  readonly size: number;
  readonly channels: number;
  /** Number of scores: the classes, or of several questions the classes of all. */
  readonly classes: number;
  /** Classes of each question, when there are several. Default: one question. */
  readonly heads?: readonly number[];
}

/** Classes of each question that a network answers. */
export const headsOf = ({ classes, heads = [classes] }: FeatureNetworkConfig): readonly number[] => heads;

/** Width of the features. */
export const FEATURES = 64;

/** Three convolutions, a feature layer, a classifier. Pictures are in [-1, 1]. */
export class FeatureNetwork extends Module {
  readonly conv1: Conv2d;
  readonly conv2: Conv2d;
  readonly conv3: Conv2d;
  readonly feature: Linear;
  readonly classifier: Linear;
  readonly config: FeatureNetworkConfig;

  constructor(config: FeatureNetworkConfig, rng: Rng) {
    super();
    const { size, channels, classes } = config;
    const answers = headsOf(config).reduce((sum, n) => sum + n, 0);
    if (answers !== classes)
      throw new ArgumentError(`FeatureNetwork: heads of ${answers} classes, ${classes} are declared`);
    if (size % 4 !== 0)
      throw new ArgumentError(`FeatureNetwork: expected a size divisible by 4, got ${size}`);
    this.config = config;
    this.conv1 = new Conv2d(channels, 32, 3, rng, { stride: 2, padding: 1 });
    this.conv2 = new Conv2d(32, 64, 3, rng, { stride: 2, padding: 1 });
    this.conv3 = new Conv2d(64, 64, 3, rng, { padding: 1 });
    this.feature = new Linear(64 * (size / 4) ** 2, FEATURES, rng);
    this.classifier = new Linear(FEATURES, classes, rng);
  }

  /** x [N, C, H, W] gives [N, 64]. Throws `ShapeError` for pictures of another size. */
  features(x: Tensor): Tensor {
    const { size, channels } = this.config;
    if (x.rank !== 4 || x.shape[1] !== channels || x.shape[2] !== size || x.shape[3] !== size)
      throw new ShapeError(`FeatureNetwork: expected [N, ${channels}, ${size}, ${size}], got ${x}`);
    const h = this.conv3.call(this.conv2.call(this.conv1.call(x).relu()).relu()).relu();
    return this.feature.call(h.reshape([x.shape[0]!, -1])).relu();
  }

  /** Scores of the classes, [N, classes]. */
  call(x: Tensor): Tensor {
    return this.classifier.call(this.features(x));
  }
}

/** Scores [N, classes] as one tensor per question. */
const perHead = (config: FeatureNetworkConfig, scores: Tensor): Tensor[] => split(scores, headsOf(config), 1);

/** Pictures in [-1, 1] with integer labels [N], or [N, heads] for several questions. */
export interface LabelledBatch {
  readonly x: Tensor;
  readonly labels: Tensor;
}

/** Options of `trainFeatureNetwork`. */
export interface TrainFeatureOptions {
  readonly config: FeatureNetworkConfig;
  /** The batch of a step. */
  readonly batch: (step: number) => LabelledBatch;
  readonly steps: number;
  readonly seed: number;
  readonly threads?: number;
}

/** Trains a classifier with cross entropy. */
export function trainFeatureNetwork({ config, batch, steps, seed, threads }: TrainFeatureOptions) {
  const heads = headsOf(config);
  const loss = (model: FeatureNetwork, { x, labels }: LabelledBatch): Tensor =>
    perHead(config, model.call(x))
      .map((scores, k) => {
        const truth = labels.rank === 1 ? labels : select(labels, 1, k);
        return scores.logSoftmax(-1).mul(oneHot(truth, heads[k]!)).sum(-1).mean().neg();
      })
      .reduce((sum, part) => sum.add(part));
  return train({
    model: new FeatureNetwork(config, createRng(seed)),
    loss,
    batch,
    steps,
    optimizer: adam({ learningRate: cosineDecay(2e-3, steps) }),
    ...(threads && { jit: { threads } }),
  }) as AsyncGenerator<TrainEvent<FeatureNetwork>, unknown>;
}

/** A trained network with the name and hash for recipes. */
export interface FeatureExtractor {
  readonly network: FeatureNetwork;
  readonly recipe: NonNullable<Recipe["extractor"]>;
  /** Notes saved with it, such as its test accuracy. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Writes a network in half precision, with its configuration and notes as metadata. */
export async function saveFeatureNetwork(
  path: string,
  network: FeatureNetwork,
  notes: Readonly<Record<string, string>> = {},
): Promise<void> {
  const tensors: Record<string, { dtype: "f16"; shape: readonly number[]; data: Uint16Array }> = {};
  for (const [key, t] of parameters(network)) {
    const half = t.cast("f16");
    tensors[key] = { dtype: "f16", shape: t.shape, data: (await half.data()) as Uint16Array };
  }
  await writeSafetensors(path, tensors, { ...notes, config: JSON.stringify(network.config) });
}

/** Reads what `saveFeatureNetwork` wrote. Throws `ArgumentError` for another kind of file. */
export async function openFeatureNetwork(path: string, name = "fashion-features"): Promise<FeatureExtractor> {
  const bytes = await readFileBytes(path);
  const { metadata, tensors } = decodeSafetensors(bytes, { source: path });
  const config = metadata.get("config");
  if (!config) throw new ArgumentError(`${path}: expected a feature network, there is no configuration`);
  const weights = new Map<string, Tensor>();
  for (const [key, t] of tensors) {
    if (isRawTensor(t)) throw new ArgumentError(`${path}: ${key} is of type ${t.dtype}`);
    weights.set(key, fromHost(t.dtype, t.shape, t.data));
  }
  const blank = new FeatureNetwork(JSON.parse(config), blankRng);
  const network = loadParameters(blank, weights, { widen: true });
  return { network, recipe: { name, hash: createHash("sha256").update(bytes).digest("hex") }, metadata };
}

/** Features of pictures. // [N, D] */
export interface ExtractedFeatures {
  readonly features: SampleTable;
  /** Probability of each class, row-major. // [N, classes] */
  readonly probabilities: Float32Array;
  readonly classes: number;
  readonly heads: readonly number[];
}

/** Features and class probabilities of many pictures, `values` [N, C, H, W] flat, in batches of one size. */
export async function extractFeatures(
  network: FeatureNetwork,
  values: Float32Array,
  batch = 250,
  threads?: number,
): Promise<ExtractedFeatures> {
  const { size, channels, classes } = network.config;
  const heads = headsOf(network.config);
  const plane = channels * size * size;
  const count = values.length / plane;
  if (!Number.isInteger(count) || count === 0)
    throw new ShapeError(`extractFeatures: ${values.length} values are no pictures of ${plane}`);
  const run = jit(
    (net: FeatureNetwork, x: Tensor) => {
      const features = net.features(x);
      const answers = perHead(net.config, net.classifier.call(features)).map((scores) => scores.softmax(-1));
      return { features, probabilities: concat(answers[0]!, answers.slice(1), 1) };
    },
    threads ? { threads } : {},
  );
  const features = new SampleTable(FEATURES);
  const probabilities = new Float32Array(count * classes);
  try {
    for (let at = 0; at < count; at += batch) {
      const n = Math.min(batch, count - at);
      const x = fromHost("f32", [n, channels, size, size], values.slice(at * plane, (at + n) * plane));
      const found = await run(network, x);
      features.addAll(at, (await found.features.data()) as Float32Array);
      probabilities.set((await found.probabilities.data()) as Float32Array, at * classes);
    }
  } finally {
    await run.close();
  }
  return { features, probabilities, classes, heads };
}

/** Share of right answers to a question: pictures whose likeliest class is their label, one label per question. */
export function labelAgreement(
  { probabilities, classes, heads }: ExtractedFeatures,
  labels: ArrayLike<number>,
  head = 0,
): number {
  const count = probabilities.length / classes;
  const first = heads.slice(0, head).reduce((sum, n) => sum + n, 0);
  let right = 0;
  for (let i = 0; i < count; i++) {
    const row = probabilities.subarray(i * classes + first, i * classes + first + heads[head]!);
    if (row.indexOf(Math.max(...row)) === labels[i * heads.length + head]) right++;
  }
  return right / count;
}

/** The full linear probe: a layer on frozen features, trained with LARS. */
import { ArgumentError } from "../errors.ts";
import {
  cosineDecay,
  createRng,
  Linear,
  lars,
  loadParameters,
  parameters,
  train,
  warmup,
} from "../nn/index.ts";
import { fillPermutation, fromHost, oneHot, type Seed, type Tensor, zeros } from "../tensor/index.ts";
import type { LabelledFeatures } from "./ridge-probe.ts";

/** Options of `linearProbeAccuracy`. */
export interface LinearProbeOptions {
  readonly classes: number;
  readonly epochs?: number;
  readonly batch?: number;
  /** At a batch of 256; it is in proportion to the batch. */
  readonly learningRate?: number;
  readonly seed: Seed;
  readonly threads?: number;
}

/** Rows by mean and deviation of the training features: what batch norm without scale and shift comes to on frozen features. */
function standardize(train: LabelledFeatures, rows: LabelledFeatures["rows"]): Float32Array {
  const { width } = train;
  const count = train.rows.length / width;
  const mean = new Float64Array(width);
  const variance = new Float64Array(width);
  train.rows.forEach((value, at) => {
    mean[at % width]! += value / count;
  });
  train.rows.forEach((value, at) => {
    variance[at % width]! += (value - mean[at % width]!) ** 2 / count;
  });
  return Float32Array.from(
    rows,
    (value, at) => (value - mean[at % width]!) / Math.sqrt(variance[at % width]! + 1e-6),
  );
}

/**
 * Accuracy on `test` of a linear layer that is trained on `support`: 100 epochs of LARS with momentum 0.9, decay 5e-5,
 * five epochs of warm-up and a cosine.
 */
export async function linearProbeAccuracy(
  support: LabelledFeatures,
  test: LabelledFeatures,
  options: LinearProbeOptions,
): Promise<number> {
  const { classes, epochs = 100, learningRate = 0.1, seed, threads } = options;
  const count = support.labels.length;
  const batch = Math.min(options.batch ?? 4096, count);
  if (batch < 1 || epochs < 1)
    throw new ArgumentError(`linear probe: batches of ${batch} for ${epochs} epochs`);
  const { width } = support;
  const rows = standardize(support, support.rows);
  const perEpoch = Math.floor(count / batch);
  const steps = epochs * perEpoch;
  const order = new Int32Array(count);
  const fresh = new Linear(width, classes, createRng(seed));
  const start = loadParameters(
    fresh,
    new Map(
      [...parameters(fresh)].map(([key, t]) => [
        key,
        key === "weight" ? createRng(seed).normal(t.shape, 0.01) : zeros(t.shape),
      ]),
    ),
  );
  const run = train({
    model: start,
    loss: (model: Linear, { x, labels }: { x: Tensor; labels: Tensor }) =>
      model.call(x).logSoftmax(-1).mul(oneHot(labels, classes)).sum(-1).mean().neg(),
    batch: (step) => {
      const at = step % perEpoch;
      if (at === 0 || step === 0)
        fillPermutation(order, { seed, sample: 0, purpose: "probe", step: Math.floor(step / perEpoch) });
      const chosen = order.subarray(at * batch, (at + 1) * batch);
      const x = new Float32Array(batch * width);
      chosen.forEach((row, i) => {
        x.set(rows.subarray(row * width, (row + 1) * width), i * width);
      });
      return {
        x: fromHost("f32", [batch, width], x),
        labels: fromHost(
          "i32",
          [batch],
          Int32Array.from(chosen, (row) => support.labels[row]!),
        ),
      };
    },
    steps,
    optimizer: lars({
      // The trust ratio of 0.001 is part of the published rate.
      learningRate: warmup(5 * perEpoch, cosineDecay((learningRate * batch) / 256, steps)),
      weightDecay: 5e-5,
    }),
    ...(threads && { jit: { threads } }),
  });
  let next = await run.next();
  while (!next.done) next = await run.next();
  const model = next.value.model;
  const scores = model.call(fromHost("f32", [test.labels.length, width], standardize(support, test.rows)));
  const found = await scores.argmax(-1).data();
  return (
    Array.from(test.labels).reduce((right, label, i) => right + (Number(found[i]) === label ? 1 : 0), 0) /
    test.labels.length
  );
}

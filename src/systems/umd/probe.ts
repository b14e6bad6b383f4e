/** Probes of features as the claim is measured: few shots and many labels, clean and noised, tokens and their mean. */

import type { Labelled, LabelledPictures } from "../../data/picture-set.ts";
import { ArgumentError } from "../../errors.ts";
import {
  chooseLambda,
  fewShot,
  type LabelledFeatures,
  probeAccuracy,
  ridgeProbe,
} from "../../metrics/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { umdFeatures } from "./features.ts";
import type { UMD } from "./model.ts";

/** The low noise at which diffusion transformers are looked at. */
export const NOISY_INDEX = 50;

/** Weights of the ridge that are tried on the support, the same for all models. */
export const LAMBDAS = [1, 10, 100, 1024, 10_000] as const;

/** Throws `ArgumentError` for pictures without labels. */
export function labelled(pictures: LabelledPictures): Labelled {
  if (!pictures.labels) throw new ArgumentError("UMD: a probe needs pictures with labels");
  return pictures as Labelled;
}

export interface ProbeSettings {
  /** Samples of each class; "all": the whole support. */
  readonly shots: readonly (number | "all")[];
  readonly seed: Seed;
}

/** Accuracy of a ridge on few or all of the support, its lambda chosen on the support. */
export function ridgeAccuracies(
  support: LabelledFeatures,
  query: LabelledFeatures,
  { shots, seed, classes }: ProbeSettings & { readonly classes: number },
): Record<string, number> {
  const entries = shots.map((n) => {
    const chosen = n === "all" ? support : fewShot(support, { classes, shots: n, seed });
    const lambda = chooseLambda(chosen, { classes, grid: LAMBDAS, seed });
    const accuracy = probeAccuracy(ridgeProbe(chosen, { classes, lambda }), query);
    return [n === "all" ? "all" : `${n}-shot`, accuracy] as const;
  });
  return Object.fromEntries(entries);
}

/** Where features are read. */
export interface Reading {
  readonly at: "clean" | "noisy";
  readonly pooling: "representation" | "pooled";
}

export interface ProbeResult extends Reading {
  readonly accuracies: Readonly<Record<string, number>>;
}

/** All readings of a model's features, probed. */
export async function probeModel(
  model: UMD,
  support: Labelled,
  query: Labelled,
  settings: ProbeSettings,
): Promise<ProbeResult[]> {
  const classes = Math.max(support.classes.length, 1 + support.labels.reduce((a, b) => Math.max(a, b), 0));
  const results: ProbeResult[] = [];
  for (const at of ["clean", "noisy"] as const) {
    const options = at === "noisy" ? { index: NOISY_INDEX, seed: settings.seed } : {};
    const [a, b] = [await umdFeatures(model, support, options), await umdFeatures(model, query, options)];
    for (const pooling of ["representation", "pooled"] as const) {
      const features = (rows: Float32Array, labels: Int32Array): LabelledFeatures => ({
        rows,
        width: a.width,
        labels,
      });
      const accuracies = ridgeAccuracies(
        features(a[pooling], support.labels),
        features(b[pooling], query.labels),
        {
          ...settings,
          classes,
        },
      );
      results.push({ at, pooling, accuracies });
    }
  }
  return results;
}

/** The best reading for each number of shots: every model is judged where it is strongest. */
export function bestOf(results: readonly ProbeResult[]): Record<string, number> {
  const best: Record<string, number> = {};
  for (const { accuracies } of results)
    for (const [shots, value] of Object.entries(accuracies)) best[shots] = Math.max(best[shots] ?? 0, value);
  return best;
}

/** Raw pixels as features: the floor that any of them must leave behind. */
export function pixelAccuracies(
  support: Labelled,
  query: Labelled,
  settings: ProbeSettings,
): Record<string, number> {
  const width = support.channels * support.size ** 2;
  const features = ({ values, labels }: Labelled): LabelledFeatures => ({ rows: values, width, labels });
  return Object.fromEntries(
    settings.shots.map((n) => {
      const classes = support.classes.length;
      const chosen =
        n === "all"
          ? features(support)
          : fewShot(features(support), { classes, shots: n, seed: settings.seed });
      const probe = ridgeProbe(chosen, { classes, lambda: 1024 });
      return [n === "all" ? "all" : `${n}-shot`, probeAccuracy(probe, features(query))];
    }),
  );
}

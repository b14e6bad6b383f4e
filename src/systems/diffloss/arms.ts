/** What the study compares: the loss of the pixels alone, DiffLoss, its parts, and what might explain its effect more simply. */

import type { FeatureNetwork } from "../../metrics/index.ts";
import { frozen } from "../../nn/index.ts";
import { avgPool, type Tensor } from "../../tensor/index.ts";
import type { FurtherLoss, PixelLoss, RestorationBatch } from "../../training/index.ts";
import { gradientDistance, type TimestepRange } from "./method.ts";
import type { PriorNetwork } from "./model.ts";
import { calibrated, calibratedWeights, diffLossOf, pixelTerm, pullOf } from "./train.ts";

/** One way to train: what is beside the loss of the pixels. */
export interface Arm {
  readonly about: string;
  readonly beside?: "diffloss" | "gradient" | "perceptual";
  /** Shares of both terms in the pull of DiffLoss. Default: half each. */
  readonly terms?: "natural" | "semantic";
  readonly range?: TimestepRange;
  /** The prior's weights are those it began with. */
  readonly untrained?: true;
  readonly detachPrior?: true;
  /** Steps relative to the others. Default 1. */
  readonly longer?: number;
}

/** Noise below t = 10 is left out: its errors weigh up to 10,000 times as much as those of the middle. */
const RANGE: TimestepRange = [10, 999];

export const ARMS = {
  pixels: { about: "L1 alone" },
  full: { about: "L1 and DiffLoss", beside: "diffloss" },
  gradient: { about: "L1 and the squared error of the gradients, without any network", beside: "gradient" },
  "random prior": {
    about: "L1 and DiffLoss with a prior that was never trained",
    beside: "diffloss",
    untrained: true,
  },
  perceptual: { about: "L1 and the features of a classifier of rooms", beside: "perceptual" },
  detached: {
    about: "L1 and DiffLoss without its gradient, as in the published code",
    beside: "diffloss",
    detachPrior: true,
  },
  naturalness: { about: "L1 and the guessed noise alone", beside: "diffloss", terms: "natural" },
  semantics: { about: "L1 and h-space alone", beside: "diffloss", terms: "semantic" },
  "low noise": { about: "L1 and DiffLoss, t below 400", beside: "diffloss", range: [10, 399] },
  longer: { about: "L1 alone, for as much arithmetic as DiffLoss takes", longer: 3 },
} as const satisfies Readonly<Record<string, Arm>>;
export type ArmName = keyof typeof ARMS;
export const ARM_NAMES = Object.keys(ARMS) as ArmName[];

/** What decides the claim. */
export const CORE: readonly ArmName[] = [
  "pixels",
  "full",
  "gradient",
  "random prior",
  "perceptual",
  "detached",
];

/** What arms are made with. */
export interface Judges {
  readonly prior: PriorNetwork;
  readonly untrained: PriorNetwork;
  readonly classifier: FeatureNetwork;
}

export interface ArmSettings {
  readonly pixel: PixelLoss;
  /** Pull of every further loss relative to the pixels. */
  readonly strength: number;
  readonly seed: number;
  readonly threads?: number | undefined;
}

/** Mean squared distance of a classifier's three maps. Pictures in [-1, 1]. */
function featureLoss(net: FeatureNetwork, z: Tensor, x: Tensor): Tensor {
  const maps = (t: Tensor): Tensor[] => {
    const a = net.conv1.call(avgPool(t, 2)).relu(); // it has learned from pictures of half the size
    const b = net.conv2.call(a).relu();
    return [a, b, net.conv3.call(b).relu()];
  };
  const [own, other] = [maps(z), maps(x.stopGradient())];
  return own.map((map, i) => map.sub(other[i]!).square().mean()).reduce((sum, part) => sum.add(part));
}

/** A loss without weight, and the same with the weight at which it pulls as wanted. */
async function weighed<E>(
  { extra, loss }: FurtherLoss<E>,
  restore: (y: Tensor) => Tensor,
  batches: readonly RestorationBatch[],
  { pixel, strength, threads }: ArmSettings,
): Promise<FurtherLoss<unknown>> {
  const pixels = await pullOf(pixelTerm(pixel), restore, batches, { threads });
  const weight = calibrated(pixels, await pullOf({ extra, loss }, restore, batches, { threads }), strength);
  return {
    extra,
    loss: (z, x, given) => {
      const { loss: value } = loss(z, x, given as E) as { loss: Tensor };
      return { loss: value.mul(weight), metrics: { further: value } };
    },
  };
}

/** The further loss of an arm, its weight measured on batches as the network restores them; none for pixels alone. */
export async function furtherOf(
  arm: Arm,
  judges: Judges,
  restore: (y: Tensor) => Tensor,
  batches: readonly RestorationBatch[],
  settings: ArmSettings,
): Promise<FurtherLoss<unknown> | undefined> {
  const { seed, strength } = settings;
  if (arm.beside === "gradient")
    return weighed(
      { extra: () => ({}), loss: (z, x) => ({ loss: gradientDistance(z, x) }) },
      restore,
      batches,
      settings,
    );
  if (arm.beside === "perceptual") {
    const extra = { classifier: frozen(judges.classifier) };
    const loss: FurtherLoss<typeof extra> = {
      extra: () => extra,
      loss: (z, x, { classifier }) => ({ loss: featureLoss(classifier, z, x) }),
    };
    return weighed(loss, restore, batches, settings);
  }
  if (arm.beside !== "diffloss") return undefined;
  const { range = RANGE, terms, detachPrior = false } = arm;
  const prior = arm.untrained ? judges.untrained : judges.prior;
  const both = await calibratedWeights(prior, restore, batches, { ...settings, range, strength });
  const weights = {
    natural: terms === "semantic" ? 0 : both.natural * (terms ? 2 : 1),
    semantic: terms === "natural" ? 0 : both.semantic * (terms ? 2 : 1),
  };
  return diffLossOf(prior, { weights, range, seed, detachPrior }) as FurtherLoss<unknown>;
}

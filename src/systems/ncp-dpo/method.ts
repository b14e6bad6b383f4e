/**
 * Noise-conditioned perception (Gambashidze et al. 2024, arXiv 2406.17636): preferences are learned not in the error of the
 * noise but in the features of the model's own frozen U-Net, one denoising step later. Equations as numbered there.
 */
import {
  addNoise,
  type NoiseLevel,
  OBJECTIVES,
  type PredictionType,
  perSample,
} from "../../diffusion/index.ts";
import type { LossParts } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";

/** Where errors are measured: of the prediction, of features one step later, or the sum of both. */
export const SPACES = ["latent", "ncp", "both"] as const;
/** Where errors are measured. */
export type Space = (typeof SPACES)[number];

/** What is made of the errors of a pair. */
export const LOSSES = ["dpo", "cpo", "sft", "ipo", "hinge", "orpo"] as const;
/** What is made of the errors of a pair. */
export type PreferenceLoss = (typeof LOSSES)[number];

/** How the loss is made up. */
export interface PreferenceOptions {
  readonly space: Space;
  readonly loss: PreferenceLoss;
  /** How much a difference of errors counts. */
  readonly beta: number;
  /** Factor of the winner's own error (`cpo`), or of the odds (`orpo`). */
  readonly lambda: number;
  /** Factor of the error of features beside that of the prediction, for `both`. */
  readonly kappa: number;
  /** Features are averaged over space first. */
  readonly pooled: boolean;
}

/** Denoisers of a pair's pictures; weights are theirs. x [N, C, h, w], t [N], condition: a tree with N rows. */
export interface Networks<C> {
  readonly prediction: PredictionType;
  /** With the LoRA that is trained. */
  policy(x: Tensor, t: Tensor, condition: C): Tensor;
  /** As it was before. */
  reference(x: Tensor, t: Tensor, condition: C): Tensor;
  /** Maps of a frozen encoder with the factor of each; gradients flow through to x. */
  features(x: Tensor, t: Tensor, condition: C): readonly { readonly map: Tensor; readonly weight: number }[];
}

/** S(o) = stretch x_t + gain o + spread z: where a step from t to t' leads that believes the prediction o. */
export interface StepTo {
  readonly stretch: Tensor; // [N]
  readonly gain: Tensor; // [N]
  readonly spread: Tensor; // [N]
}

/**
 * Winner and loser of a pair, one after the other along axis 0. They share t, t', noise and z: else chance drowns their
 * difference.
 */
export interface PairBatch<C> {
  readonly x0: Tensor; // [2 B, C, h, w]
  readonly noise: Tensor; // [2 B, C, h, w]
  readonly z: Tensor; // [2 B, C, h, w]
  readonly level: NoiseLevel; // [2 B]
  readonly t: Tensor; // [2 B]
  readonly later: Tensor; // [2 B], t'
  readonly step: StepTo; // [2 B]
  readonly condition: C;
}

/** Mean square of each sample, in double precision: the errors of features are 1e-5 and less. // [N, …] to [N] f64 */
const meanSquare = (d: Tensor): Tensor => d.reshape([d.shape[0]!, -1]).cast("f64").square().mean(1);

/** S(o), eq. 12: the step is the same for all predictions, so S(o) - S(o') = gain (o - o'). */
export const stepped = (x: Tensor, o: Tensor, z: Tensor, { stretch, gain, spread }: StepTo): Tensor =>
  x
    .mul(perSample(stretch, x))
    .add(o.mul(perSample(gain, x)))
    .add(z.mul(perSample(spread, x)));

/** Eq. 13: mean of ‖ f(S(o)) - f(S(o*)) ‖² over all numbers of all maps, o* being the true prediction. */
function perceivedError<C>(nets: Networks<C>, b: PairBatch<C>, x: Tensor, truth: Tensor, pooled: boolean) {
  const seen = (o: Tensor) => nets.features(stepped(x, o, b.z, b.step), b.later, b.condition);
  const wanted = seen(truth);
  const shaped = (map: Tensor): Tensor => (pooled && map.rank === 4 ? map.mean([2, 3]) : map);
  return (o: Tensor): Tensor => {
    const parts = seen(o).map(({ map, weight }, i) => {
      const d = shaped(map).sub(shaped(wanted[i]!.map).stopGradient());
      const size = d.size / d.shape[0]!;
      return { sum: meanSquare(d).mul(size * weight * weight), size };
    });
    const total = parts.reduce((n, { size }) => n + size, 0);
    return parts
      .map(({ sum }) => sum)
      .reduce((a, b2) => a.add(b2))
      .div(total);
  };
}

/** -log of the logistic function, of large arguments too. */
const surprise = (a: Tensor): Tensor => a.cast("f32").neg().softplus();

/** Losses [B] of the errors [B] of winner and loser; `gain` = (ref_w - ref_l) - (w - l) is how much they moved apart. */
const WRAPPERS: Record<
  PreferenceLoss,
  (e: { w: Tensor; l: Tensor; gain?: Tensor }, o: PreferenceOptions) => Tensor
> = {
  dpo: ({ gain }, { beta }) => surprise(gain!.mul(beta)), // eq. 8, 18
  cpo: ({ w, l }, { beta, lambda }) => surprise(l.sub(w).mul(beta)).add(w.mul(lambda).cast("f32")), // eq. 11, 19
  sft: ({ w }) => w.cast("f32"),
  ipo: ({ gain }, { beta }) =>
    gain!
      .sub(1 / (2 * beta))
      .square()
      .cast("f32"), // Azar et al. 2023, eq. 17
  hinge: ({ gain }, { beta }) => gain!.mul(-beta).add(1).relu().cast("f32"),
  orpo: ({ w, l }, { lambda }) => w.cast("f32").add(surprise(l.sub(w)).mul(lambda)), // after Hong et al. 2024
};

/** Losses that compare with the reference model. */
export const comparesWithReference = (loss: PreferenceLoss): boolean =>
  !["cpo", "sft", "orpo"].includes(loss);

/** Of winners and of losers. // [2 B] to [B] each */
const sides = (errors: Tensor): [w: Tensor, l: Tensor] => {
  const pairs = errors.reshape([-1, 2]);
  return [pairs.select(1, 0), pairs.select(1, 1)];
};

/** The loss of a batch of pairs. Gradients flow through the policy's prediction alone, and through f's activations. */
export function preferenceLoss<C>(
  nets: Networks<C>,
  options: PreferenceOptions,
  batch: PairBatch<C>,
): LossParts {
  const { space, loss, beta, kappa, pooled } = options;
  const { x0, noise, level, t, condition } = batch;
  const x = addNoise(x0, noise, level);
  const truth = OBJECTIVES[nets.prediction].target(x0, noise, level);
  const plain = (o: Tensor): Tensor => meanSquare(o.sub(truth)); // L, [2 B]
  const perceived = space === "latent" ? plain : perceivedError(nets, batch, x, truth, pooled); // PL, [2 B]
  const errorOf = (o: Tensor): Tensor =>
    space === "both" ? plain(o).add(perceived(o).mul(kappa)) : perceived(o);
  const [w, l] = sides(errorOf(nets.policy(x, t, condition)));
  const metrics: Record<string, Tensor> = { "winner's error": w, "loser's error": l };
  let gain: Tensor | undefined;
  if (comparesWithReference(loss)) {
    const reference = errorOf(nets.reference(x, t, condition).stopGradient()).stopGradient();
    const [refW, refL] = sides(reference);
    gain = refW.sub(refL).sub(w.sub(l));
    Object.assign(metrics, {
      "winner's reward": refW.sub(w).mul(beta),
      "loser's reward": refL.sub(l).mul(beta),
      "implicit accuracy": gain.greater(0).cast("f32").add(gain.equal(0).cast("f32").mul(0.5)),
      "beta gain": gain.abs().mul(beta),
      "loser's error / reference": l.div(refL.add(1e-30)),
    });
  }
  const means = Object.entries(metrics).map(([name, value]) => [name, value.mean().cast("f32")] as const);
  return {
    loss: WRAPPERS[loss]({ w, l, ...(gain && { gain }) }, options).mean(),
    metrics: Object.fromEntries(means),
  };
}

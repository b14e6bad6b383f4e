/**
 * AnyControl (Sun et al. 2024, arXiv 2406.18958): text to picture under any mix of conditions. A query transformer reads the
 * text and the tokens of all conditions, as a set, and gives maps of one size; these steer one trainable copy of the frozen
 * U-Net's way down. Training pairs need not fit together: one condition shows a place without its near thing, the other only
 * that thing, and the picture to make has both.
 */
import {
  diffusionLoss,
  type LossWeight,
  type NoiseLevel,
  type Objective,
  uniformWeight,
} from "../../diffusion/index.ts";
import { type Controls, scaledControls, type UNet2DConditionModel } from "../../networks/index.ts";
import { frozen, type Module } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";

/** What steers a picture beside its prompt. A condition of weight 0 is not there: no number of its pixels has an effect. */
export interface Guide {
  readonly conditions: Tensor; // [N, n, 3, S, S] in [-1, 1], black where there is nothing
  readonly weights: Tensor; // [N, n]
  /** The prompt and the types of the conditions, as tokens, and where there is one. */
  readonly ids: Tensor; // [N, L]
  readonly textMask: Tensor; // [N, L]
}

/** Anything that turns a guide into residuals of a U-Net: AnyControl, and what it is compared with. `P`: trees of tensors, N on axis 0. */
export interface Steering<P = unknown> extends Module {
  /** Eq. 1 and 2: queries fuse V_i + P of all conditions, then are aligned with the text; once for a picture, without x and t. */
  prepare(guide: Guide): P;
  /** Residuals of the skip connections and of the middle, at a step. */
  controls(x: Tensor, t: Tensor, context: Tensor, prepared: P): Controls;
}

/** The frozen model under control: its U-Net, and what that was trained to predict. */
export interface Denoiser {
  readonly unet: UNet2DConditionModel;
  readonly objective: Objective;
}

/** The U-Net's prediction, steered: residuals times w are added to its skips and its middle. Without a steering, its own. */
export function steered<P>(
  unet: UNet2DConditionModel,
  [x, t, context]: readonly [x: Tensor, t: Tensor, context: Tensor],
  by?: { readonly steering: Steering<P>; readonly prepared: P; readonly strength?: Tensor | undefined },
): Tensor {
  if (!by) return unet.call(x, t, context);
  const own = by.steering.controls(x, t, context, by.prepared);
  return unet.call(x, t, context, { controls: by.strength ? scaledControls(own, by.strength) : own });
}

/** What one training step takes. */
export interface Batch {
  readonly unet: UNet2DConditionModel;
  readonly x0: Tensor; // [N, C, h, w]
  readonly context: Tensor; // [N, T, D], of the empty text where it is dropped
  readonly guide: Guide;
  readonly noise: Tensor;
  readonly level: NoiseLevel;
  readonly timestep: Tensor; // [N]
}

/**
 * L = E w ‖ε - ε_θ(z_t, t, text, {c_i})‖²: the gradient reaches encoder and adapter through the frozen U-Net. Published: w is 1.
 * Short trainings weigh high noise more, where conditions decide what a picture is.
 */
export const anyControlLoss =
  <P>(objective: Objective, weight: LossWeight = uniformWeight) =>
  (steering: Steering<P>, { unet, context, guide, ...batch }: Batch): Tensor => {
    const held = frozen(unet);
    const prepared = steering.prepare(guide);
    return diffusionLoss(
      (x, t, text: Tensor) => steered(held, [x, t, text], { steering, prepared }),
      { ...batch, condition: context },
      { objective, weight },
    );
  };

/** Scales an autoencoder's latents for the diffusion model: about zero mean and unit variance. */
import { type Fields, listOf, NUMBER, POSITIVE } from "../../io/fields.ts";
import { constant, type Tensor } from "../../tensor/index.ts";

/** `scaled = (z - shift) scale`, or with means and deviations of the channels `(z - mean) scale / std`. */
export interface LatentScale {
  readonly scalingFactor: number;
  readonly shiftFactor: number;
  /** One for each channel. */
  readonly mean: readonly number[] | undefined;
  readonly std: readonly number[] | undefined;
}

/** Reads `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std`. */
export function latentScale(config: Fields, channels: number, scalingFactor: number): LatentScale {
  const mean = config.optional("latents_mean", listOf(NUMBER));
  const std = config.optional("latents_std", listOf(POSITIVE));
  for (const [key, list] of Object.entries({ latents_mean: mean, latents_std: std }))
    if (list && list.length !== channels) throw config.error(key, `${channels} values, one for each channel`);
  if ((mean === undefined) !== (std === undefined))
    throw config.error(mean ? "latents_std" : "latents_mean", "both means and deviations, or neither");
  return {
    scalingFactor: config.value("scaling_factor", POSITIVE, scalingFactor),
    shiftFactor: config.value("shift_factor", NUMBER, 0),
    mean,
    std,
  };
}

/** Shift and factor of each channel: numbers, or [1, C, 1, 1]. */
function affine({ scalingFactor, shiftFactor, mean, std }: LatentScale): {
  shift: number | Tensor;
  factor: number | Tensor;
} {
  if (!mean || !std) return { shift: shiftFactor, factor: scalingFactor };
  const shape = [1, mean.length, 1, 1];
  return {
    shift: constant("f32", shape, mean),
    factor: constant(
      "f32",
      shape,
      std.map((s) => scalingFactor / s),
    ),
  };
}

/** Latents [N, C, H, W] as the diffusion model sees them. */
export function scaleLatents(z: Tensor, scale: LatentScale): Tensor {
  const { shift, factor } = affine(scale);
  return (shift === 0 ? z : z.sub(shift)).mul(factor);
}

/** The inverse of `scaleLatents`: what the decoder takes. */
export function unscaleLatents(z: Tensor, scale: LatentScale): Tensor {
  const { shift, factor } = affine(scale);
  const divided = z.div(factor);
  return shift === 0 ? divided : divided.add(shift);
}

/** Random parts of a training batch, drawn on the host and given to the compiled step as inputs. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  type NoiseAddress,
  type NoiseSource,
  type Tensor,
  tensor,
  treeMap,
  where,
} from "../../tensor/index.ts";

/** Options of `trainingNoise`. */
export interface TrainingNoiseOptions {
  /**
   * Strength of a normal that all pixels of a channel share, so that the mean brightness is learned too ("offset noise",
   * Guttenberg 2023; 0.05 to 0.1 is usual). Default 0.
   */
  readonly offset?: number;
  /** Where to draw; `purpose` is set here. */
  readonly at?: Omit<NoiseAddress, "purpose">;
}

/** Noise for training, [N, C, …]. With an offset, two draws. Throws `ArgumentError` for a negative offset. */
export function trainingNoise(
  source: NoiseSource,
  shape: readonly number[],
  { offset = 0, at = {} }: TrainingNoiseOptions = {},
): Tensor {
  if (!(offset >= 0)) throw new ArgumentError(`trainingNoise: offset must not be negative, got ${offset}`);
  const values = source.normal(shape, { ...at, purpose: "noise" });
  if (offset > 0) {
    const [n = 1, channels = 1] = shape;
    const shared = source.normal([n, channels], { ...at, purpose: "offset noise" });
    const size = values.length / shared.length;
    for (let i = 0; i < values.length; i++) values[i]! += offset * shared[Math.floor(i / size)]!;
  }
  return tensor(values, { shape });
}

/** Which samples lose their condition: true with probability `rate`, [N]. Throws `ArgumentError` outside of [0, 1]. */
export function drawDropout(
  source: NoiseSource,
  count: number,
  rate: number,
  at: Omit<NoiseAddress, "purpose"> = {},
): Tensor {
  if (!(rate >= 0 && rate <= 1))
    throw new ArgumentError(`drawDropout: the rate must be in [0, 1], got ${rate}`);
  const uniforms = source.uniform([count, 1], { ...at, purpose: "condition dropout" });
  return tensor(
    Array.from(uniforms, (u) => u < rate),
    { dtype: "bool" },
  );
}

/**
 * The condition with `empty` (the empty prompt's embedding, the null class) in place of samples that are dropped, so
 * that one network learns both guesses of classifier-free guidance. Both are trees of the same structure; the tensors
 * of `empty` have N or 1 samples on axis 0.
 */
export function dropCondition<C>(condition: C, empty: C, dropped: Tensor): C {
  return treeMap(
    (given, path, none) => {
      if (given.shape[0] !== dropped.shape[0])
        throw new ShapeError(
          `dropCondition: "${path}" has shape [${given.shape}], there are ${dropped.shape[0]} samples`,
        );
      const mask = dropped.reshape([dropped.shape[0]!, ...given.shape.slice(1).map(() => 1)]);
      return where(mask, none!, given);
    },
    condition,
    empty,
  );
}

/**
 * The channel outliers of large DiTs, planted into a small one. It computes the same function: a few channels of the
 * inputs of linear layers are made many times larger, and the weights that they meet as much smaller.
 */
import { ArgumentError } from "../../errors.ts";
import { DiTTransformer2DModel } from "../../networks/index.ts";
import { mapParameters, parameters } from "../../nn/index.ts";
import { fillPermutation, fillUniform, fromHost, type Tensor } from "../../tensor/index.ts";

export interface StressOptions {
  readonly seed: number;
  /** Share of channels that grow. Default 0.04. */
  readonly share?: number;
  /** Range of the factors. Default 8 to 32. */
  readonly factors?: readonly [number, number];
}

/** A factor for each channel, 1 for most. */
function channelFactors(width: number, stream: number, options: StressOptions): Float32Array {
  const { seed, share = 0.04, factors = [8, 32] } = options;
  const count = Math.max(1, Math.round(share * width));
  const order = fillPermutation(new Int32Array(width), { seed, sample: stream, purpose: "stress", step: 0 });
  const draws = fillUniform(new Float32Array(count), { seed, sample: stream, purpose: "stress", step: 1 });
  const out = new Float32Array(width).fill(1);
  draws.forEach((u, i) => {
    out[order[i]!] = factors[0] + u * (factors[1] - factors[0]);
  });
  return out;
}

/** Parts of the condition's projection: shift, scale and gate before attention, then before the perceptron. */
const [SHIFT, SCALE, SHIFT_MLP, SCALE_MLP] = [0, 1, 3, 4];

/** The same function with outliers before the projections of attention and perceptron. Throws `ArgumentError` for other models. */
export async function stressed(
  model: DiTTransformer2DModel,
  options: StressOptions,
): Promise<DiTTransformer2DModel> {
  if (!(model instanceof DiTTransformer2DModel)) throw new ArgumentError("stressed: expected a DiT");
  const weights = new Map<string, Float32Array>();
  const values = async (key: string): Promise<Float32Array> => {
    const t = parameters(model).get(key);
    if (!t) throw new ArgumentError(`stressed: the model has no "${key}"`);
    if (!weights.has(key)) weights.set(key, Float32Array.from((await t.data()) as Float32Array));
    return weights.get(key)!;
  };
  const divideColumns = async (key: string, f: Float32Array): Promise<void> => {
    const w = await values(key);
    for (let i = 0; i < w.length; i++) w[i]! /= f[i % f.length]!;
  };
  const multiplyRows = async (
    key: string,
    part: number,
    f: Float32Array,
    plusOne: boolean,
  ): Promise<void> => {
    const [w, b] = [await values(`${key}.weight`), await values(`${key}.bias`)];
    const inputs = parameters(model).get(`${key}.weight`)!.shape[1]!;
    for (let c = 0; c < f.length; c++) {
      const row = part * f.length + c;
      for (let i = 0; i < inputs; i++) w[row * inputs + i]! *= f[c]!;
      b[row] = f[c]! * b[row]! + (plusOne ? f[c]! - 1 : 0); // 1 + scale grows, not the scale
    }
  };
  const dim = model.config.heads * model.config.headDim;
  for (const [i] of model.transformerBlocks.entries()) {
    const block = `transformer_blocks.${i}`;
    const [attention, perceptron, value] = [0, 1, 2].map((k) => channelFactors(dim, 3 * i + k, options)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    for (const [part, f, plusOne] of [
      [SHIFT, attention, false],
      [SCALE, attention, true],
      [SHIFT_MLP, perceptron, false],
      [SCALE_MLP, perceptron, true],
    ] as const)
      await multiplyRows(`${block}.norm1.linear`, part, f, plusOne);
    for (const name of ["to_q", "to_k", "to_v"])
      await divideColumns(`${block}.attn1.${name}.weight`, attention);
    await divideColumns(`${block}.ff.net.0.proj.weight`, perceptron);
    await multiplyRows(`${block}.attn1.to_v`, 0, value, false);
    await divideColumns(`${block}.attn1.to_out.0.weight`, value);
  }
  return mapParameters(model, (t, key): Tensor => {
    const changed = weights.get(key);
    return changed ? fromHost("f32", t.shape, changed) : t;
  });
}

/** A small training problem: a two-layer network learns a fixed linear map from generated data. */
import { adamW, createRng, powerDecay, type TrainOptions } from "../../src/nn/index.ts";
import { fillNormal, fromHost, type Tensor, tensor } from "../../src/tensor/index.ts";

export interface Regression {
  readonly w: Tensor;
  readonly v: Tensor;
}
interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
}

export function makeTraining(
  options: Partial<TrainOptions<Regression, Batch>>,
): TrainOptions<Regression, Batch> {
  const rng = createRng(1);
  const truth = tensor([[1], [-2], [0.5]]);
  return {
    model: { w: rng.normal([3, 8], 0.5), v: rng.normal([8, 1], 0.5) },
    loss: (m, { x, y }) => x.matmul(m.w).matmul(m.v).sub(y).square().mean(),
    optimizer: adamW({ learningRate: 0.03 }),
    clipNorm: 5,
    ema: powerDecay(),
    steps: 10,
    batch: async (step) => {
      const x = fromHost("f32", [16, 3], fillNormal(new Float32Array(48), { seed: 7, step }));
      return { x, y: await x.matmul(truth).eval() };
    },
    ...options,
  };
}

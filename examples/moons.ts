/** Your own diffusion model: two moons, a network of one's own, EDM training with an average of the weights, a sampler. */
import { concat, createNoise, fromHost, jit, type Tensor, tensor } from "tweedie";
import {
  type DiffusionBatch,
  diffusionLoss,
  edmObjective,
  edmPrediction,
  edmWeight,
  finalSample,
  heun,
  karrasSigmas,
  logNormal,
  networkDenoiser,
  withZero,
} from "tweedie/diffusion";
import { adamW, createRng, MLP, Module, powerDecay, train } from "tweedie/nn";
import { diffusionBatch, sigmaLevels } from "tweedie/training";

const [BATCH, STEPS, DEVIATION] = [256, 800, 0.5]; // DEVIATION: of the data
const source = createNoise("philox", 1);
const onMoon = (angle: number, upper: boolean) => [
  ((upper ? Math.cos(angle) : 1 - Math.cos(angle)) - 0.5) * 0.6,
  ((upper ? Math.sin(angle) : 0.5 - Math.sin(angle)) - 0.25) * 0.6,
];
function moons(step: number): Tensor {
  const angles = source.uniform([BATCH], { step, purpose: "angles" });
  return tensor(Array.from(angles, (u, i) => onMoon(Math.PI * u, i % 2 === 0))); // [N, 2]
}

class Net extends Module {
  mlp: MLP;
  constructor(rng = createRng(0)) {
    super();
    this.mlp = new MLP([2 + 8, 128, 128, 2], rng);
  }
  /** x [N, 2] and sigma [N] give [N, 2]. */
  call(x: Tensor, sigma: Tensor): Tensor {
    const c = sigma.log().mul(0.25).unsqueeze(1); // [N, 1]
    const waves = [1, 2, 4, 8].flatMap((k) => [c.mul(k).sin(), c.mul(k).cos()]);
    return this.mlp.call(concat(x, waves, 1));
  }
}

const run = train({
  model: new Net(),
  optimizer: adamW({ learningRate: 2e-3 }),
  steps: STEPS,
  ema: powerDecay(),
  batch: (step): DiffusionBatch<object> => ({
    x0: moons(step),
    condition: {},
    ...diffusionBatch([BATCH, 2], { source, step, levels: sigmaLevels(logNormal()) }),
  }),
  loss: (net, batch: DiffusionBatch<object>) =>
    diffusionLoss((x, sigma) => net.call(x, sigma), batch, {
      objective: edmObjective(DEVIATION),
      weight: edmWeight(DEVIATION),
    }),
});
let net = new Net();
for await (const event of run) {
  if (event.type === "step" && event.step % 200 === 0) console.log(`step ${event.step}: loss ${event.loss.toFixed(3)}`);
  if (event.type === "done") net = event.state.ema!;
}

const compiled = jit((n: Net, x: Tensor, sigma: Tensor) => n.call(x, sigma));
const denoise = networkDenoiser((x, sigma) => compiled(net, x, tensor(Array(x.shape[0]).fill(sigma))), {
  parameterization: edmPrediction(DEVIATION),
  timestep: (sigma) => sigma,
});
const start = fromHost("f32", [500, 2], source.normal([500, 2], { purpose: "start" })).mul(20);
const drawn = await (await finalSample(heun(denoise, start, withZero(karrasSigmas(12, { min: 0.01, max: 20 }))))).toArray();
const curve = [true, false].flatMap((up) => Array.from({ length: 200 }, (_, k) => onMoon((Math.PI * k) / 199, up)));
const distance = (i: number) => Math.min(...curve.map(([a, b]) => Math.hypot(drawn[2 * i]! - a!, drawn[2 * i + 1]! - b!)));
const mean = Array.from({ length: 500 }, (_, i) => distance(i)).reduce((a, b) => a + b) / 500;
console.log(`mean distance of 500 samples to the moons: ${mean.toFixed(3)}`);

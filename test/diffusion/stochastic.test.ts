import { describe, expect, it } from "vitest";
import {
  type BrownianPath,
  brownianPath,
  consistency,
  type Denoise,
  ddim,
  ddpm,
  dpm2Ancestral,
  dpmSolverMultistep,
  dpmSolverSDE,
  dpmSolverSinglestep,
  eulerAncestral,
  finalSample,
  heun,
  karrasSigmas,
  predictorCorrector,
  type SampleOptions,
  type Sampler,
  saSolver,
  schedulerFromConfig,
  tcd,
  weightedSum,
  withZero,
} from "../../src/diffusion/index.ts";
import { createNoise, type Tensor, tensor } from "../../src/tensor/index.ts";
import { consistentNormal, DEVIATION, denoiseNormal, filled, MEAN, meanAndVariance } from "./normal-data.ts";
import { loopB, sums } from "./reference-loops.ts";

const SHAPE = [128, 64] as const;
const HIGH = 20;
const levels = (steps: number): number[] => withZero(karrasSigmas(steps, { min: 0.02, max: HIGH }));

/** Exact samples of the noised data at the first level, in f64. */
function start(seed: number, shape: readonly number[] = SHAPE): Tensor {
  const normals = Float64Array.from(createNoise("philox", seed).normal(shape, { step: 0 }));
  return weightedSum(
    [Math.sqrt(HIGH ** 2 + DEVIATION ** 2), tensor(normals, { shape })],
    [MEAN, filled(shape, 1)],
  );
}

/** First-order methods lose variance in proportion to the step: they get more steps. */
const METHODS: [name: string, steps: number, sampler: Sampler, options?: object][] = [
  ["DDIM with eta 1", 400, ddim, { eta: 1 }],
  ["DDIM with eta 0.5", 200, ddim, { eta: 0.5 }],
  ["Euler ancestral", 400, eulerAncestral],
  ["DDPM, small variance", 400, ddpm],
  ["DPM2 ancestral", 80, dpm2Ancestral],
  ["EDM with churn", 80, heun, { churn: 40 }],
  ["DPM-Solver++ 2M SDE", 80, dpmSolverMultistep, { algorithm: "sde-dpmsolver++" }],
  ["DPM-Solver++ 2M SDE, heun", 80, dpmSolverMultistep, { algorithm: "sde-dpmsolver++", solver: "heun" }],
  ["DPM-Solver++ 3M SDE", 80, dpmSolverMultistep, { algorithm: "sde-dpmsolver++", order: 3 }],
  ["DPM-Solver++ 2S SDE", 100, dpmSolverSinglestep, { algorithm: "sde-dpmsolver++" }],
  ["DPM-Solver++ SDE", 80, dpmSolverSDE],
  ["SA-Solver", 80, saSolver],
  ["SA-Solver on noise", 80, saSolver, { predict: "noise" }],
];

/** Standard errors: of the mean 0.0088, of the variance 1.6 %. */
async function expectNormal(x: Tensor, slack = 0.02): Promise<void> {
  const { mean, variance } = await meanAndVariance(x);
  expect(Math.abs(mean - MEAN), `mean ${mean}`).toBeLessThan(0.04);
  expect(Math.abs(variance / DEVIATION ** 2 - 1), `variance ${variance}`).toBeLessThan(0.05 + slack);
}

describe("stochastic samplers keep the distribution of Gaussian data", () => {
  it.each(METHODS)("%s", async (_, steps, sampler, options = {}) => {
    const all: SampleOptions = { ...options, noise: createNoise("philox", 2) };
    await expectNormal(await finalSample(sampler(denoiseNormal, start(1), levels(steps), all)));
  });

  it("DPM-Solver 2M SDE on noise, which must end above zero", async () => {
    const sigmas = karrasSigmas(100, { min: 0.02, max: HIGH });
    const options = { algorithm: "sde-dpmsolver", noise: createNoise("philox", 2) } as const;
    await expectNormal(await finalSample(dpmSolverMultistep(denoiseNormal, start(1), sigmas, options)));
  });

  it.each(["sample", "batch"] as const)("predictor-corrector with %s norms", async (norms) => {
    const options = { norms, snr: 0.1, noise: createNoise("philox", 2) };
    await expectNormal(
      await finalSample(predictorCorrector(denoiseNormal, start(1), levels(80), options)),
      0.05,
    );
  });

  it.each([
    ["consistency in 4 steps", consistency, {}],
    ["TCD with gamma 1 in 4 steps", tcd, { eta: 1 }],
  ] as [string, Sampler, object][])("%s with a perfect consistency function", async (_, sampler, options) => {
    const all = { ...options, noise: createNoise("philox", 2) };
    await expectNormal(await finalSample(sampler(consistentNormal, start(1), levels(4), all)));
  });

  it("DDPM's large variance is the posterior's for data of deviation 1", async () => {
    const wide = (x: Tensor, sigma: number): Tensor => weightedSum([1 / (1 + sigma ** 2), x]);
    const sigmas = withZero(karrasSigmas(20, { min: 0.02, max: HIGH }));
    const options = { variance: "large", noise: createNoise("philox", 2) } as const;
    const x = weightedSum([1, start(1)], [-MEAN, filled(SHAPE, 1)]);
    const { variance } = await meanAndVariance(await finalSample(ddpm(wide, x, sigmas, options)));
    // Exact in any number of steps, except that the last one returns the mean; the small variance loses 15 % here.
    expect(Math.abs(variance - 1)).toBeLessThan(0.06);
  });
});

/** Noise of the two stages of each step as torchsde's tree has it: Brownian motion in sigma. */
function pathInSigma(seed: number): BrownianPath {
  const noise = createNoise("philox", seed);
  const draw = (shape: readonly number[]): Tensor => tensor(noise.normal(shape), { shape });
  let stage: { from: number; to: number; z: Tensor } | undefined;
  return {
    normal(from, to, shape) {
      const before = stage?.from === from ? stage : undefined;
      if (!before) return (stage = { from, to, z: draw(shape) }).z;
      const correlation = Math.sqrt((from - before.to) / (from - to));
      return weightedSum([correlation, before.z], [Math.sqrt(1 - correlation ** 2), draw(shape)]);
    },
  };
}

describe("the DPM-Solver SDE rows of the published table, for other seeds", () => {
  const B1 = { num_train_timesteps: 1100, beta_start: 0.0001, beta_end: 0.02, beta_schedule: "linear" };
  it.each([
    [87, {}, 162.5238],
    [88, { prediction_type: "v_prediction" }, 119.8488],
    [89, { use_karras_sigmas: true }, 170.3135],
  ] as [number, object, number][])("row %d lies within their spread", async (_, config, published) => {
    const scheduler = schedulerFromConfig(
      { _class_name: "DPMSolverSDEScheduler", ...B1, ...config },
      { steps: 10 },
    );
    const found: number[] = [];
    for (let seed = 0; seed < 40; seed++) {
      found.push((await sums(await loopB(scheduler, { path: pathInSigma(seed), innerDenoised: true }))).sum);
    }
    const mean = found.reduce((a, b) => a + b, 0) / found.length;
    const spread = Math.sqrt(found.reduce((a, b) => a + (b - mean) ** 2, 0) / found.length);
    expect(Math.abs(published - mean), `mean ${mean}, spread ${spread}`).toBeLessThan(3 * spread);
    expect(spread / mean).toBeLessThan(0.08);
  });
});

describe("Brownian paths", () => {
  const shape = [3, 5];
  const of = (seed: number) => brownianPath(createNoise("philox", seed));
  const increments = async (seed: number, from: number, to: number): Promise<number[]> => {
    const time = 1 / to ** 2 - 1 / from ** 2;
    return (await of(seed).normal(from, to, shape).toArray()).map((v) => v * Math.sqrt(time));
  };

  it("are the same in whatever order they are asked", async () => {
    const path = of(3);
    const first = await path.normal(5, 1, shape).toArray();
    for (const sigma of [80, 10, 0.5, 0.01]) path.normal(sigma, sigma / 2, shape);
    expect(await path.normal(5, 1, shape).toArray()).toEqual(first);
    expect(await of(3).normal(5, 1, shape).toArray()).toEqual(first);
    expect(await of(4).normal(5, 1, shape).toArray()).not.toEqual(first);
  });

  it("add up: a step is the sum of its parts", async () => {
    const [whole, upper, lower] = [
      await increments(3, 10, 0.1),
      await increments(3, 10, 1.7),
      await increments(3, 1.7, 0.1),
    ];
    whole.forEach((v, i) => {
      expect(v).toBeCloseTo(upper[i]! + lower[i]!, 5);
    });
  });

  it("have standard normal, independent increments", async () => {
    const path = of(5);
    const big = [64, 64];
    const [a, b] = [path.normal(10, 2, big), path.normal(2, 1.9, big)];
    for (const t of [a, b]) {
      const { mean, variance } = await meanAndVariance(t);
      expect(Math.abs(mean)).toBeLessThan(0.06);
      expect(Math.abs(variance - 1)).toBeLessThan(0.09);
    }
    const [u, v] = [await a.toArray(), await b.toArray()];
    const covariance = u.reduce((total, x, i) => total + x * v[i]!, 0) / u.length;
    expect(Math.abs(covariance)).toBeLessThan(0.06);
  });

  it("make the sample of an SDE converge as steps grow in number, which fresh noise does not", async () => {
    const shape = [8, 64];
    const x = start(7, shape);
    const end = async (steps: number, path: boolean): Promise<Tensor> => {
      const noise = createNoise(path ? "philox" : "torch-cpu", 9);
      return finalSample(dpmSolverSDE(denoiseNormal, x, levels(steps), { noise }));
    };
    const distance = async (path: boolean): Promise<number> => {
      const difference = weightedSum([1, await end(40, path)], [-1, await end(160, path)]);
      return Math.sqrt((await meanAndVariance(difference)).variance);
    };
    expect(await distance(true)).toBeLessThan(0.35);
    expect(await distance(false)).toBeGreaterThan(0.9);
  });

  it("make one ancestral step the sum of smaller ones, as far as the clean sample is known", async () => {
    const shape = [4, 16];
    const known: Denoise = () => filled(shape, 1);
    const options = { algorithm: "sde-dpmsolver++", order: 1, noise: createNoise("philox", 2) } as const;
    const end = (sigmas: number[]) =>
      finalSample(dpmSolverMultistep(known, start(1, shape), sigmas, options));
    const difference = weightedSum([1, await end([20, 2])], [-1, await end([20, 13, 9, 4, 3.5, 2])]);
    expect(Math.max(...(await difference.toArray()).map(Math.abs))).toBeLessThan(1e-4);
  });

  it("need an addressed source", () => {
    expect(() => brownianPath(createNoise("torch-cpu", 0))).toThrow(/philox/);
  });
});

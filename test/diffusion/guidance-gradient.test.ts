import { afterAll, describe, expect, it } from "vitest";
import {
  type CompiledDenoise,
  classifierGuidance,
  conditionalDenoiser,
  guessGuidance,
  measurementGuidance,
  posteriorSampling,
  rewardGuidance,
  type TracedDenoise,
  tracedDenoiser,
} from "../../src/diffusion/guidance/index.ts";
import { epsilonPrediction } from "../../src/diffusion/parameterization.ts";
import { finalSample } from "../../src/diffusion/sample.ts";
import { euler } from "../../src/diffusion/samplers/euler.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng, Linear } from "../../src/nn/index.ts";
import { cachedSessions, type Tensor, tensor } from "../../src/tensor/index.ts";
import { gaussian, geometric, type Mean, maxDifference, posteriorMean, scalar } from "./gaussian.ts";

const VARIANCE = 0.5;
const rng = createRng(7);
const x = rng.normal([3, 4], 2);
const prior: Mean = { mean: rng.normal([3, 4]) };
const plain = gaussian(VARIANCE);
const traced: TracedDenoise<Mean> = (z, sigma, { mean }) => posteriorMean(z, sigma, mean, VARIANCE);
const SIGMAS = [0.05, 0.7, 4, 30];

const open: CompiledDenoise[] = [];
const track = (d: CompiledDenoise): CompiledDenoise => {
  open.push(d);
  return d;
};
afterAll(() => Promise.all(open.map((d) => d.close())));

/** E[x0 | x, y] for y = x0[0] + noise of variance r, x = x0 + sigma noise: one Gaussian update of the first coordinate. */
function bayes(sigma: number, y: Tensor, r: number): Tensor {
  const mean = posteriorMean(x, scalar(sigma), prior.mean, VARIANCE);
  const variance = (VARIANCE * sigma ** 2) / (VARIANCE + sigma ** 2);
  const first = mean.sliceAxis(1, 0, 1);
  const moved = first.add(y.sub(first).mul(variance / (variance + r)));
  return moved.concat(mean.sliceAxis(1, 1), 1);
}

const y = tensor([[0.3], [-1], [2]]); // [3, 1]
const operator = (x0: Tensor): Tensor => x0.sliceAxis(1, 0, 1);
const NOISE = 0.1;
const guessVariance = (sigma: number): number => NOISE + (VARIANCE * sigma ** 2) / (VARIANCE + sigma ** 2);

describe("classifier guidance", () => {
  interface Known {
    readonly mean: Tensor;
    readonly y: Tensor;
  }
  /** log p(y | x, sigma), exactly: y is Gaussian around the first coordinate of E[x0 | x]. */
  const logProbability = (z: Tensor, sigma: Tensor, known: Known): Tensor => {
    const s2 = sigma.square();
    const variance = s2.mul(VARIANCE).div(s2.add(VARIANCE)).add(NOISE);
    const residual = known.y.sub(operator(posteriorMean(z, sigma, known.mean, VARIANCE)));
    return residual.square().div(variance.mul(2)).neg().sum([1]);
  };
  const inputs = { mean: prior.mean, y };

  it("with the true classifier gives Bayes' posterior mean at every noise level", async () => {
    const guided = track(classifierGuidance((z, s) => plain(z, s, prior), logProbability, { inputs }));
    for (const sigma of SIGMAS)
      expect(await maxDifference(await guided(x, sigma), bayes(sigma, y, NOISE))).toBeLessThan(2e-5);
  });

  it("for a flow's x = (1 - t) x0 + t noise, too", async () => {
    const t = 0.4;
    const flowLog = (z: Tensor, s: Tensor, known: Known): Tensor =>
      logProbability(z.mul(1 / (1 - t)), s.mul(1 / (1 - t)), known);
    const denoise = (z: Tensor, s: number) => plain(z.mul(1 / (1 - s)), s / (1 - s), prior);
    const guided = track(classifierGuidance(denoise, flowLog, { inputs, flow: true }));
    const got = await guided(x.mul(1 - t), t);
    expect(await maxDifference(got, bayes(t / (1 - t), y, NOISE))).toBeLessThan(2e-5);
    const pure = track(classifierGuidance((z) => z, flowLog, { inputs, flow: true }));
    expect(await maxDifference(await pure(x, 1), x)).toBe(0); // no signal, nothing to classify
  });

  it("scales, keeps to its interval, treats samples one by one, and compiles once", async () => {
    const denoise = (z: Tensor, s: number) => plain(z, s, prior);
    const guided = track(
      classifierGuidance(denoise, logProbability, { inputs, scale: (s) => 2 + 0 * s, interval: [0.1, 10] }),
    );
    const base = await denoise(x, 0.7);
    const move = (await guided(x, 0.7)).sub(base);
    expect(await maxDifference(move, bayes(0.7, y, NOISE).sub(base).mul(2))).toBeLessThan(2e-5);
    expect(await maxDifference(await guided(x, 30), await denoise(x, 30))).toBe(0);
    const before = cachedSessions();
    await (await guided(x, 0.9)).eval();
    await (await guided(x, 1.1)).eval();
    expect(cachedSessions() - before).toBeLessThanOrEqual(1);
    const whole = track(classifierGuidance(denoise, (z) => z.sum(), { inputs }));
    await expect(whole(x, 1)).rejects.toThrow(ShapeError);
  });
});

describe("guidance through the denoiser", () => {
  it("by a linear-Gaussian measurement gives the posterior mean", async () => {
    const guided = track(
      measurementGuidance(traced, operator, { inputs: prior, measurement: y, variance: guessVariance }),
    );
    for (const sigma of SIGMAS)
      expect(await maxDifference(await guided(x, sigma), bayes(sigma, y, NOISE))).toBeLessThan(2e-5);
  });

  it("samples the posterior: means and spreads of many samples are Bayes'", async () => {
    const count = 2000;
    const mean = tensor([0.5, -1]).reshape([1, 2]).broadcastTo([count, 2]);
    const guided = track(
      measurementGuidance(traced, operator, {
        inputs: { mean },
        measurement: tensor([[2]]),
        variance: guessVariance,
      }),
    );
    const start = createRng(11).normal([count, 2], 40);
    const out = await finalSample(euler(guided, start, geometric(40, 0.01, 80)));
    const gain = VARIANCE / (VARIANCE + NOISE);
    const means = await out.mean([0]).toArray();
    const spreads = await out.variance([0]).toArray();
    expect(means[0]).toBeCloseTo(0.5 + gain * 1.5, 1);
    expect(means[1]).toBeCloseTo(-1, 1);
    expect(spreads[0]).toBeCloseTo(VARIANCE * (1 - gain), 1);
    expect(Math.abs(spreads[1]! - VARIANCE)).toBeLessThan(0.06);
  });

  it("by a reward r(x0) = b.x0 shifts the guess by the posterior variance times b", async () => {
    const b = tensor([1, -2, 0, 3]);
    const guided = track(
      rewardGuidance(traced, (x0, _s, given) => x0.mul(given.b).sum([1]), {
        inputs: { ...prior, b },
        scale: 0.5,
      }),
    );
    for (const sigma of SIGMAS) {
      const variance = (VARIANCE * sigma ** 2) / (VARIANCE + sigma ** 2);
      const want = posteriorMean(x, scalar(sigma), prior.mean, VARIANCE).add(b.mul(0.5 * variance));
      expect(await maxDifference(await guided(x, sigma), want)).toBeLessThan(2e-5);
    }
  });

  it("differentiates through a network that comes in as input, as differences do", async () => {
    const layer = new Linear(4, 4, rng);
    const objective = (x0: Tensor): Tensor => x0.square().sum([1]);
    const network: TracedDenoise<{ layer: Linear }> = (z, sigma, given) =>
      given.layer.call(z).div(sigma.add(1));
    const guided = track(rewardGuidance(network, objective, { inputs: { layer } }));
    const sigma = 0.8;
    const step = 1e-2;
    const value = async (z: Tensor): Promise<number[]> =>
      objective(layer.call(z).mul(1 / (1 + sigma))).toArray();
    const got = await guided(x, sigma);
    const numeric = tensor([[1, 0, 0, 0]]).mul(step);
    const [up, down] = [await value(x.add(numeric)), await value(x.sub(numeric))];
    const moved = await got
      .sub(layer.call(x).mul(1 / (1 + sigma)))
      .sliceAxis(1, 0, 1)
      .toArray();
    moved.forEach((m, i) => {
      expect(m).toBeCloseTo((sigma ** 2 * (up[i]! - down[i]!)) / (2 * step), 2);
    });
  });

  it("serves raw networks: prediction, timestep and scalings are converted in the graph", async () => {
    const options = { parameterization: epsilonPrediction, timestep: (sigma: number) => 100 * sigma };
    /** The perfect eps network: scaled x and timestep in, noise out. */
    const network = (scaled: Tensor, t: Tensor, { mean }: Mean): Tensor => {
      const sigma = t.mul(0.01).reshape([-1, 1]);
      const z = scaled.mul(sigma.square().add(1).sqrt());
      return z.sub(posteriorMean(z, sigma, mean, VARIANCE)).div(sigma);
    };
    const { denoise, feed } = tracedDenoiser(network, options);
    const guided = track(
      measurementGuidance(denoise, operator, {
        inputs: feed(prior),
        measurement: y,
        variance: guessVariance,
      }),
    );
    for (const sigma of SIGMAS)
      expect(await maxDifference(await guided(x, sigma), bayes(sigma, y, NOISE))).toBeLessThan(5e-4); // x - sigma eps cancels
    const conditional = conditionalDenoiser<Mean>((z, t, c) => network(z, tensor([t]), c), options);
    expect(await maxDifference(await conditional(x, 2, prior), await plain(x, 2, prior))).toBeLessThan(1e-4);
  });

  it("at the guess needs no network gradient, and is exact when scaled by the posterior variance", async () => {
    const b = tensor([1, -2, 0, 3]);
    const variance = (s: number): number => (VARIANCE * s ** 2) / (VARIANCE + s ** 2);
    const guided = track(
      guessGuidance(
        (z, s) => plain(z, s, prior),
        (x0, _s, given) => x0.mul(given).sum([1]),
        {
          inputs: b,
          scale: variance,
          interval: [0, 10],
        },
      ),
    );
    const want = (await plain(x, 2, prior)).add(b.mul(variance(2)));
    expect(await maxDifference(await guided(x, 2), want)).toBeLessThan(2e-5);
    expect(await maxDifference(await guided(x, 11), await plain(x, 11, prior))).toBe(0);
  });

  it("refuses a variance that is not positive", () => {
    const guided = track(
      measurementGuidance(traced, operator, { inputs: prior, measurement: y, variance: () => 0 }),
    );
    expect(() => guided(x, 1)).toThrow(ArgumentError);
  });
});

describe("diffusion posterior sampling", () => {
  const sigmas = geometric(20, 0.02, 40);
  const start = x.mul(10);
  const run = (scale: number) =>
    finalSample(
      posteriorSampling(euler, traced, operator, start, sigmas, { inputs: prior, measurement: y, scale }),
    );
  const misfit = async (out: Tensor): Promise<number> => operator(out).sub(y).abs().mean().item();

  it("without a step is the sampler alone, and with one comes closer to the measurement", async () => {
    const alone = await finalSample(euler((z, s) => plain(z, s, prior), start, sigmas));
    expect(await maxDifference(await run(0), alone)).toBeLessThan(1e-4);
    const led = await run(0.2);
    expect(await misfit(led)).toBeLessThan(0.4 * (await misfit(alone)));
    const rest = (t: Tensor): Tensor => t.sliceAxis(1, 1);
    expect(await maxDifference(rest(led), rest(alone))).toBeLessThan(1e-4); // coordinates that were not measured
  });

  it("moves by the gradient of the norm of the residual, as the first step shows", async () => {
    const sampling = posteriorSampling(euler, traced, operator, start, [2, 1], {
      inputs: prior,
      measurement: y,
      scale: 0.3,
    });
    const got = (await sampling.next()).value as { x: Tensor };
    await sampling.return(start);
    const unmoved = (await euler((z, s) => plain(z, s, prior), start, [2, 1]).next()).value as { x: Tensor };
    const guess = await plain(start, 2, prior);
    const slope = VARIANCE / (VARIANCE + 4); // d denoised / d x
    const direction = y.sub(operator(guess)).sign().mul(slope); // minus the gradient, for one measured number
    const want = operator(unmoved.x).add(direction.mul(0.3 * Math.sqrt(5 * 2)));
    expect(await maxDifference(operator(got.x), want)).toBeLessThan(1e-4);
  });
});

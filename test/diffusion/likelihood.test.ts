import { describe, expect, it } from "vitest";
import {
  bitsPerDimension,
  edmPrediction,
  exponentialSigmas,
  type LikelihoodOptions,
  logLikelihood,
  samplePrediction,
  type TraceableNetwork,
} from "../../src/diffusion/index.ts";
import { AbortError, ArgumentError } from "../../src/errors.ts";
import { createNoise, tensor } from "../../src/tensor/index.ts";

const MEAN = 0.7;
/** Deviations of the data's three dimensions, turned by an angle in the first two. */
const DEVIATIONS = [1.3, 0.4, 0.8];
const [COS, SIN] = [Math.cos(0.6), Math.sin(0.6)];
const ROTATION = [COS, -SIN, 0, SIN, COS, 0, 0, 0, 1];

/** The perfect denoiser; the timestep is sigma, and the network's input is not scaled. */
const network: TraceableNetwork = (x, sigma) => {
  const rotation = tensor(Float32Array.from(ROTATION), { shape: [3, 3] });
  const variances = tensor(Float32Array.from(DEVIATIONS, (d) => d * d));
  const along = x.sub(MEAN).matmul(rotation);
  const shrunk = along.mul(variances.div(variances.add(sigma.square())));
  return shrunk.matmul(rotation.transpose()).add(MEAN);
};

const options: LikelihoodOptions = {
  parameterization: (sigma) => ({ ...samplePrediction(sigma), input: 1 }),
  timestep: (sigma) => sigma,
  sigmas: exponentialSigmas(700, { min: 1e-3, max: 500 }).reverse(),
  priorDeviation: 500,
};

const ROWS = [
  [0.7, 0.7, 0.7],
  [1.9, -0.2, 0.1],
  [-2, 1, 3],
];
const x = tensor(Float32Array.from(ROWS.flat()), { shape: [3, 3] });

/** Closed form of the log-density. */
const exact = ROWS.map(([a, b, c]) => {
  const centred = [a! - MEAN, b! - MEAN, c! - MEAN];
  const along = [COS * centred[0]! + SIN * centred[1]!, -SIN * centred[0]! + COS * centred[1]!, centred[2]!];
  return along.reduce(
    (sum, v, i) => sum - 0.5 * (v / DEVIATIONS[i]!) ** 2 - Math.log(DEVIATIONS[i]! * Math.sqrt(2 * Math.PI)),
    0,
  );
});

describe("log-likelihood by the probability-flow ODE", () => {
  it("is the closed form on a Gaussian, with the exact divergence", async () => {
    const { logLikelihood: found, latent } = await logLikelihood(network, x, {
      ...options,
      divergence: "exact",
    });
    found.forEach((v, i) => {
      expect(v).toBeCloseTo(exact[i]!, 2);
    });
    // The path through the mean stays there.
    expect((await latent.toArray()).slice(0, 3)).toEqual([0.7, 0.7, 0.7].map((v) => expect.closeTo(v, 3)));
  });

  it("converges with second order in the steps", async () => {
    const errorOf = async (steps: number): Promise<number> => {
      const sigmas = exponentialSigmas(steps + 1, { min: 0.02, max: 500 }).reverse();
      const at = (n: readonly number[]) =>
        logLikelihood(network, x, { ...options, sigmas: n, divergence: "exact" });
      const fine = exponentialSigmas(201, { min: 0.02, max: 500 }).reverse();
      return Math.abs((await at(sigmas)).logLikelihood[1]! - (await at(fine)).logLikelihood[1]!);
    };
    expect(Math.log2((await errorOf(25)) / (await errorOf(50)))).toBeGreaterThan(1.6);
  });

  it("is estimated without bias by random signs", async () => {
    const rows = 256;
    const many = tensor(
      Float32Array.from({ length: rows * 3 }, (_, i) => ROWS[1]![i % 3]!),
      { shape: [rows, 3] },
    );
    const { logLikelihood: found } = await logLikelihood(network, many, {
      ...options,
      sigmas: exponentialSigmas(60, { min: 1e-3, max: 500 }).reverse(),
      noise: createNoise("philox", 3),
    });
    const mean = found.reduce((a, b) => a + b, 0) / rows;
    const spread = Math.sqrt(found.reduce((a, b) => a + (b - mean) ** 2, 0) / rows);
    expect(spread).toBeGreaterThan(0.05);
    expect(Math.abs(mean - exact[1]!)).toBeLessThan(4 * (spread / Math.sqrt(rows)) + 0.01);
  });

  it("of more probes spreads less", async () => {
    const spreadOf = async (divergence: number): Promise<number> => {
      const same = tensor(
        Float32Array.from({ length: 96 }, (_, i) => ROWS[1]![i % 3]!),
        { shape: [32, 3] },
      );
      const sigmas = exponentialSigmas(30, { min: 1e-3, max: 500 }).reverse();
      const noise = createNoise("philox", 3);
      const { logLikelihood: v } = await logLikelihood(network, same, {
        ...options,
        sigmas,
        divergence,
        noise,
      });
      return Math.max(...v) - Math.min(...v);
    };
    expect(await spreadOf(16)).toBeLessThan(await spreadOf(1));
  });

  it("works through a preconditioned network", async () => {
    // The raw output for which EDM's preconditioning gives the perfect denoiser of N(0, 1/4): it is zero.
    const zero: TraceableNetwork = (at) => at.mul(0);
    const point = tensor(Float32Array.of(0.3, -0.2), { shape: [1, 2] });
    const { logLikelihood: found } = await logLikelihood(zero, point, {
      ...options,
      parameterization: edmPrediction(0.5),
      divergence: "exact",
    });
    const density = -(0.09 + 0.04) / (2 * 0.25) - 2 * Math.log(0.5 * Math.sqrt(2 * Math.PI));
    expect(found[0]).toBeCloseTo(density, 2);
  });

  it("refuses what it cannot do", async () => {
    const fail = (more: Partial<LikelihoodOptions>) => logLikelihood(network, x, { ...options, ...more });
    await expect(fail({})).rejects.toThrow(/noise source/);
    await expect(fail({ divergence: "exact", sigmas: [2, 1] })).rejects.toThrow(/rising/);
    await expect(fail({ divergence: "exact", sigmas: [0, 1] })).rejects.toThrow(ArgumentError);
    const signal = AbortSignal.abort();
    await expect(fail({ divergence: "exact", signal })).rejects.toThrow(AbortError);
    const wide = tensor(new Float32Array(5000), { shape: [1, 5000] });
    await expect(logLikelihood(network, wide, { ...options, divergence: "exact" })).rejects.toThrow(
      /too many/,
    );
  });

  it("in bits per dimension counts the width of the data's steps", () => {
    // A uniform density over 256 steps of 1/128 in [-1, 1] is 8 bits.
    expect(bitsPerDimension(3 * Math.log(0.5), 3, 1 / 128)).toBeCloseTo(8, 12);
    expect(bitsPerDimension(-Math.LN2 * 6, 3)).toBeCloseTo(2, 12);
  });
});

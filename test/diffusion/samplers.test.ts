import { describe, expect, it } from "vitest";
import {
  type Denoise,
  ddim,
  epsilonPrediction,
  euler,
  finalSample,
  karrasSigmas,
  mapElements,
  networkDenoiser,
  SAMPLERS,
  type SampleOptions,
  type SamplerName,
  type SampleStep,
  samplePrediction,
  singlestepOrders,
  startingAtSample,
  weightedSum,
  withZero,
} from "../../src/diffusion/index.ts";
import { AbortError, ArgumentError, DTypeError, NonFiniteError, ShapeError } from "../../src/errors.ts";
import { cachedSessions, createNoise, jit, type Tensor, tensor } from "../../src/tensor/index.ts";

const names = Object.keys(SAMPLERS) as SamplerName[];
const levels = (steps: number): number[] => withZero(karrasSigmas(steps, { min: 0.1, max: 10 }));
/** What a sampler runs over; inversion runs upwards. */
const scheduleFor = (name: SamplerName, steps = 6): number[] =>
  name === "ddim-inversion" ? levels(steps).reverse() : levels(steps);
const noise = (seed = 5) => createNoise("philox", seed);
const sample = (shape: readonly number[], seed = 1): Tensor =>
  weightedSum([10, tensor(createNoise("philox", seed).normal(shape, { step: 0 }), { shape })]);

/** A denoiser that is neither linear nor the same for all elements. */
const squash: Denoise = (x, sigma) => mapElements(x, (v) => Math.tanh(v / Math.sqrt(1 + sigma ** 2)));

/** Calls in 12 steps down to 0, where that is not 12 times the evaluations of one step. */
const CALLS_IN_12_STEPS: Partial<Record<SamplerName, number>> = {
  // The last step, to level 0, needs one evaluation only.
  heun: 23,
  "edm-stochastic": 23,
  dpm2: 23,
  "dpm2-ancestral": 23,
  "dpmpp-sde": 23,
  pndm: 3 * 4 + 9, // three Runge-Kutta steps
  plms: 2 + 11, // one improved Euler step
};

it("UniPC over the noise ends at level 0 on the guess, as over the clean sample", async () => {
  const last = (predict: "denoised" | "noise") =>
    finalSample(SAMPLERS.unipc.sampler(squash, sample([2, 3]), levels(12), { predict } as SampleOptions));
  const [clean, noisy] = [await last("denoised"), await last("noise")];
  const [a, b] = [await clean.toArray(), await noisy.toArray()];
  a.forEach((v, i) => {
    expect(b[i]!).toBeCloseTo(v, 1);
  });
});

describe.each(names)("%s", (name) => {
  const { sampler, stochastic, evaluations } = SAMPLERS[name];

  it("yields each step of its schedule and returns the last sample", async () => {
    const sigmas = scheduleFor(name);
    const run = sampler(squash, sample([2, 3]), sigmas, { noise: noise() });
    const seen: number[] = [];
    let last: Tensor | undefined;
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        expect(value).toBe(last);
        break;
      }
      expect([value.sigma, value.sigmaNext]).toEqual([sigmas[value.step], sigmas[value.step + 1]]);
      expect([value.steps, value.x.shape, value.denoised.shape]).toEqual([6, [2, 3], [2, 3]]);
      seen.push(value.step);
      last = value.x;
    }
    expect(seen).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it("calls the denoiser as often as it says", async () => {
    let calls = 0;
    const counted: Denoise = (x, sigma) => {
      calls++;
      return squash(x, sigma);
    };
    await finalSample(sampler(counted, sample([2, 3]), scheduleFor(name, 12), { noise: noise() }));
    expect(calls).toBe(CALLS_IN_12_STEPS[name] ?? 12 * evaluations);
  });

  it("treats each sample of a batch as it would alone", async () => {
    const x = sample([3, 2, 4]);
    const run = (at: Tensor, options: SampleOptions) =>
      finalSample(sampler(squash, at, scheduleFor(name), options));
    const batch = await (await run(x, { noise: noise() })).toArray();
    const second = tensor((await x.toArray()).slice(8, 16), { shape: [1, 2, 4] });
    const alone = await (await run(second, { noise: startingAtSample(noise(), 1) })).toArray();
    alone.forEach((v, i) => {
      expect(v).toBeCloseTo(batch[8 + i]!, 5);
    });
  });

  it(stochastic ? "draws noise, the same for the same seed" : "draws no noise", async () => {
    const run = async (options?: SampleOptions) =>
      (await finalSample(sampler(squash, sample([2, 3]), scheduleFor(name), options))).toArray();
    if (!stochastic) return expect(await run()).toEqual(await run({ noise: noise(6) }));
    expect(await run({ noise: noise(5) })).toEqual(await run({ noise: noise(5) }));
    expect(await run({ noise: noise(5) })).not.toEqual(await run({ noise: noise(6) }));
    await expect(run()).rejects.toThrow(/give it a source as options.noise/);
  });

  it.runIf(name !== "ddim-inversion")("takes a single step to the guess of the clean sample", async () => {
    const guesses: Tensor[] = [];
    const kept: Denoise = async (x, sigma) => {
      guesses.push(await (await squash(x, sigma)).eval());
      return guesses.at(-1)!;
    };
    const x = await finalSample(sampler(kept, sample([2, 3]), [10, 0], { noise: noise() }));
    const guess = await guesses.at(-1)!.toArray();
    for (const [i, v] of (await x.toArray()).entries()) expect(v).toBeCloseTo(guess[i]!, 6);
  });
});

describe("the inversion of DDIM", () => {
  it("adds the noise that the network sees at the level it leads to", async () => {
    const x = sample([2, 3]);
    const inverted = await finalSample(SAMPLERS["ddim-inversion"].sampler(squash, x, [0, 10]));
    const asNext = weightedSum([Math.sqrt(101), x]); // x, as a sample of level 10
    const expected = weightedSum([1, x], [1, asNext], [-1, await squash(asNext, 10)]);
    const [actual, wanted] = [await inverted.toArray(), await expected.toArray()];
    for (const [i, v] of wanted.entries()) expect(actual[i]! / v).toBeCloseTo(1, 5);
  });
});

describe("the loop of all samplers", () => {
  const x = sample([1, 4]);

  it("goes on from the tensor that next() is given", async () => {
    const run = ddim((at) => weightedSum([0.5, at]), x, [4, 2, 1]);
    await run.next();
    const replacement = tensor(Float32Array.of(1, 2, 3, 4), { shape: [1, 4] });
    const { value } = (await run.next(replacement)) as { value: SampleStep };
    // D = x / 2, so x' = D + (x - D) / 2 = 3 x / 4.
    expect(await value.x.toArray()).toEqual([0.75, 1.5, 2.25, 3]);
    expect(await run.next()).toMatchObject({ done: true });
  });

  it("lets the last step be replaced as well", async () => {
    const run = euler(squash, x, [1, 0]);
    await run.next();
    const replacement = sample([1, 4], 9);
    expect(await run.next(replacement)).toEqual({ done: true, value: replacement });
  });

  it("stops when it is aborted, before the denoiser is called again", async () => {
    const controller = new AbortController();
    let calls = 0;
    const run = SAMPLERS.heun.sampler(
      (at, sigma) => {
        if (++calls === 3) controller.abort();
        return squash(at, sigma);
      },
      x,
      levels(50),
      { signal: controller.signal },
    );
    await run.next();
    await expect(run.next()).rejects.toThrow(AbortError);
    expect(calls).toBe(3);
    expect(await run.next()).toEqual({ done: true, value: undefined });
  });

  it("names the step at which a NaN appears", async () => {
    const broken: Denoise = (at, sigma) => (sigma < 2 ? at.mul(Number.NaN) : squash(at, sigma));
    const run = finalSample(euler(broken, x, [8, 4, 1, 0]));
    await expect(run).rejects.toThrow(NonFiniteError);
    await expect(run).rejects.toThrow(/denoised sample has NaN at element 0 .* step 3 of 3 \(sigma 1 to 0\)/);
  });

  it.each([
    [[5], /at least one step/],
    [[], /at least one step/],
    [[5, Number.NaN, 0], /noise level 1 of 3 must be finite and positive, got NaN/],
    [[5, 0, 0], /noise level 1 of 3 must be finite and positive, got 0/],
    [[Number.POSITIVE_INFINITY, 0], /noise level 0 of 2 must be finite/],
    [[5, -1], /noise level 1 of 2 must be finite and non-negative, got -1/],
  ])("refuses the schedule %j", async (sigmas, message) => {
    const run = euler(squash, x, sigmas).next();
    await expect(run).rejects.toThrow(ArgumentError);
    await expect(euler(squash, x, sigmas).next()).rejects.toThrow(message);
  });

  it("refuses samples of integers and denoisers that change the shape", async () => {
    const integers = tensor([1, 2], { dtype: "i32" });
    await expect(euler(squash, integers, [1, 0]).next()).rejects.toThrow(DTypeError);
    await expect(euler((at) => at.reshape([4]), x, [1, 0]).next()).rejects.toThrow(ShapeError);
  });

  it("compiles no more sessions for fifty steps than for five", async () => {
    const network = jit((at: Tensor, t: Tensor) => at.mul(t.div(t.add(1))));
    const denoise = networkDenoiser((at, t) => network(at, tensor(Float32Array.of(t), { shape: [] })), {
      parameterization: epsilonPrediction,
      timestep: (sigma) => sigma * 3,
    });
    const shape = [2, 3, 4];
    const run = async (name: SamplerName, steps: number) => {
      await finalSample(
        SAMPLERS[name].sampler(denoise, sample(shape), scheduleFor(name, steps), { noise: noise() }),
      );
    };
    for (const name of names) await run(name, 5);
    const before = cachedSessions();
    for (const name of names) await run(name, 50);
    expect(cachedSessions()).toBe(before);
    expect(network.signatures).toBe(1);
    await network.close();
  });

  it("keeps half precision in and out", async () => {
    const half = tensor([1, 2, 3, 4], { dtype: "f16", shape: [1, 4] });
    const denoise = networkDenoiser((at) => at, { parameterization: samplePrediction, timestep: () => 0 });
    expect((await finalSample(euler(denoise, half, [2, 1, 0]))).dtype).toBe("f16");
  });
});

describe("options out of range", () => {
  const options = { noise: noise() };
  const run = (name: SamplerName, more: object) =>
    SAMPLERS[name].sampler(squash, sample([1, 2]), levels(3), { ...options, ...more });
  it.each([
    ["lms", { order: 5 }],
    ["deis", { order: 4 }],
    ["unipc", { order: 0 }],
    ["dpmpp-2m", { order: 4 }],
    ["dpmpp-2s", { order: 1.5 }],
    ["sa-solver", { predictorOrder: 5 }],
  ] as [SamplerName, object][])("%s %j", (name, more) => {
    expect(() => run(name, more)).toThrow(ArgumentError);
  });

  it.each([
    ["ddim", { eta: -1 }],
    ["tcd", { eta: 2 }],
    ["predictor-corrector", { correctorSteps: 3 }],
    ["dpmpp-2m", { algorithm: "dpm" }],
  ] as [SamplerName, object][])("%s %j, at the first step", async (name, more) => {
    await expect(run(name, more).next()).rejects.toThrow(ArgumentError);
  });
});

describe("orders of singlestep runs", () => {
  it.each([
    [6, 3, true, [1, 2, 3, 1, 2, 1]],
    [7, 3, true, [1, 2, 3, 1, 2, 3, 1]],
    [8, 3, true, [1, 2, 3, 1, 2, 3, 1, 2]],
    [6, 3, false, [1, 2, 3, 1, 2, 3]],
    [4, 2, true, [1, 2, 1, 1]],
    [5, 2, true, [1, 2, 1, 2, 1]],
    [3, 1, true, [1, 1, 1]],
    [1, 2, true, [1]],
  ])("%d steps of order %d, lower at the end: %s", (steps, order, lower, expected) => {
    expect(singlestepOrders(steps, order, lower)).toEqual(expected);
  });
});

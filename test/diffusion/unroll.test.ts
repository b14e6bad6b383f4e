import { describe, expect, it } from "vitest";
import {
  clip,
  consistency,
  ddim,
  ddimInversion,
  ddpm,
  deis,
  dpm2,
  dpm2Ancestral,
  dpmpp2mStep,
  dpmSolverMultistep,
  dpmSolverSDE,
  dpmSolverSinglestep,
  dynamicThreshold,
  epsilonPrediction,
  euler,
  eulerAncestral,
  extrapolate,
  finalSample,
  flowPrediction,
  graphDenoiser,
  heun,
  ipndm,
  karrasSigmas,
  learnedDeviation,
  lms,
  networkDenoiser,
  PARAMETERIZATIONS,
  plms,
  pndm,
  type RuledSampler,
  runNoise,
  SAMPLERS,
  type SampleOptions,
  saSolver,
  scorePrediction,
  tcd,
  toDenoised,
  toPrediction,
  unipc,
  unroll,
  vPrediction,
  weightedSum,
  withZero,
} from "../../src/diffusion/index.ts";
import { ArgumentError } from "../../src/errors.ts";
import { createNoise, grad, input, jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import { lowerGraph } from "../../src/tensor/lower.ts";
import { CPU_CAPABILITIES } from "../../src/tensor/onnx/builder.ts";

const noise = (seed = 5) => createNoise("philox", seed);
const normal = (shape: readonly number[], seed = 1, scale = 1): Tensor =>
  weightedSum([scale, tensor(noise(seed).normal(shape, { step: 0 }), { shape })]);
const levels = (steps: number): number[] => withZero(karrasSigmas(steps, { min: 0.1, max: 10 }));

interface Inputs {
  readonly weight: Tensor; // [3, 3]
  readonly condition: Tensor; // [1, 3]
}
const inputs = (): Inputs => ({ weight: normal([3, 3], 2), condition: normal([1, 3], 3) });
const network = (x: Tensor, timestep: Tensor, { weight, condition }: Inputs): Tensor =>
  x.matmul(weight).add(condition).add(timestep.unsqueeze(-1)).tanh();
const reading = { parameterization: vPrediction, timestep: (sigma: number) => Math.log(sigma + 1) / 4 };
const denoise = graphDenoiser(network, reading);

const bytes = async (x: Tensor): Promise<string> =>
  Buffer.from((await x.data()).buffer as ArrayBuffer).toString("hex");

const RUNS: Record<string, [RuledSampler, object?]> = {
  euler: [euler],
  "euler with churn": [euler, { churn: 3 }],
  "euler-ancestral": [eulerAncestral],
  heun: [heun],
  ddim: [ddim],
  "ddim, eta 0.5, clipped": [ddim as RuledSampler, { eta: 0.5, clip: clip(0.7) }],
  ddpm: [ddpm as RuledSampler, { variance: "large" }],
  dpm2: [dpm2],
  "dpm2-ancestral": [dpm2Ancestral],
  "dpm++ 2M": [dpmSolverMultistep],
  "dpm 3M": [dpmSolverMultistep as RuledSampler, { order: 3, algorithm: "dpmsolver" }],
  "dpm++ 2M SDE": [dpmSolverMultistep as RuledSampler, { algorithm: "sde-dpmsolver++" }],
  "dpm++ SDE": [dpmSolverSDE],
  consistency: [consistency],
  tcd: [tcd],
  pndm: [pndm],
  plms: [plms as RuledSampler, { parameterization: vPrediction }],
  ipndm: [ipndm],
  lms: [lms],
  "lms from midway": [lms as RuledSampler, { before: [40, 20] }],
  deis: [deis as RuledSampler, { order: 3 }],
  unipc: [unipc as RuledSampler, { order: 3, lowerOrderFinal: false }],
  "unipc over the noise": [
    unipc as RuledSampler,
    { predict: "noise", variant: "bh1", disableCorrector: [1] },
  ],
  "dpm++ 2S": [dpmSolverSinglestep],
  "dpm++ 3S": [dpmSolverSinglestep as RuledSampler, { order: 3 }],
  "sa-solver": [saSolver as RuledSampler, { tau: () => 0.4 }],
  "sa-solver over the noise": [saSolver as RuledSampler, { predict: "noise", correctorOrder: 3 }],
};

describe.each(Object.entries(RUNS))("unrolled %s", (_, [sampler, options = {}]) => {
  it("gives the sample of the host, bit for bit, also with recomputation", async () => {
    const [x, given, sigmas] = [normal([2, 3], 1, 10), inputs(), levels(5)];
    const all: SampleOptions = { ...options, noise: noise() };
    const compiled = jit(network);
    const onHost = networkDenoiser((z, t) => compiled(z, tensor([t, t]), given), reading);
    const expected = await finalSample(sampler(onHost, x, sigmas, all));
    const drawn = runNoise(sampler, x.shape, sigmas, all);
    for (const checkpoint of [false, true]) {
      const run = jit(unroll(sampler, denoise, sigmas, { ...options, checkpoint }));
      expect(await bytes(await run(x, given, drawn))).toBe(await bytes(expected));
      await run.close();
    }
    await compiled.close();
  });
});

describe("unroll", () => {
  it("takes every sampler by name but Langevin's, which looks at its samples", () => {
    const without = Object.entries(SAMPLERS).filter(([, { sampler }]) => !("rule" in sampler));
    expect(without.map(([name]) => name)).toEqual(["predictor-corrector"]);
  });

  const sigmas = levels(4);

  it("inverts like the host", async () => {
    const [x, given] = [normal([2, 3]), inputs()];
    const rising = levels(4).reverse();
    const onHost = networkDenoiser((z, t) => network(z, tensor([t, t]), given), reading);
    const expected = await finalSample(ddimInversion(onHost, x, rising));
    expect(await bytes(unroll(ddimInversion, denoise, rising)(x, given))).toBe(await bytes(expected));
  });

  it("has the gradients of code that was unrolled by hand", async () => {
    const [x, given] = [normal([2, 3], 1, 10), inputs()];
    const byHand = (start: Tensor, all: Inputs): Tensor => {
      let z = start;
      sigmas.slice(0, -1).forEach((sigma, i) => {
        const { input: scale, skip, output } = vPrediction(sigma);
        const t = tensor([1, 1]).mul(reading.timestep(sigma));
        const guess = z.mul(skip).add(network(z.mul(scale), t, all).mul(output));
        z = guess.add(z.sub(guess).mul(sigmas[i + 1]! / sigma));
      });
      return z;
    };
    const gradients = (run: (x: Tensor, all: Inputs) => Tensor) =>
      grad((all: { x: Tensor; given: Inputs }) => run(all.x, all.given).square().sum())({ x, given });
    const expected = gradients(byHand);
    for (const checkpoint of [false, true]) {
      const got = gradients(unroll(euler, denoise, sigmas, { checkpoint }));
      for (const of of [
        (g: typeof got) => g.x,
        (g: typeof got) => g.given.weight,
        (g: typeof got) => g.given.condition,
      ]) {
        const [a, b] = [await of(got).toArray(), await of(expected).toArray()];
        a.forEach((v, i) => {
          expect(Math.abs(v - b[i]!)).toBeLessThan(1e-4 * Math.max(1, Math.abs(b[i]!)));
        });
      }
    }
  });

  it.each([
    ["heun", heun, {}],
    ["dpm++ 2M", dpmSolverMultistep, {}],
    ["ddpm", ddpm, { noise: noise() }],
  ] as const)("%s: gradients are the slopes by finite differences", async (_, sampler, options) => {
    const f64 = (t: Tensor): Tensor => t.cast("f64");
    const x = await f64(normal([1, 3], 1, 10)).eval();
    const given = inputs();
    const drawn = runNoise(sampler as RuledSampler, x.shape, sigmas, options);
    const wide = graphDenoiser<Tensor>(
      (z, t, w) => network(z, f64(t), { weight: w, condition: f64(given.condition) }),
      reading,
    );
    const run = unroll(sampler as RuledSampler, wide, sigmas, { ...options, checkpoint: true });
    const loss = jit((z: Tensor, w: Tensor) => run(z, w, drawn).square().sum());
    const w = await f64(given.weight).eval();
    const gradient = await grad((v: Tensor) => run(x, v, drawn).square().sum())(w).toArray();
    const values = await w.toArray();
    for (const i of [0, 4, 7]) {
      const moved = (by: number): Tensor =>
        tensor(
          Float64Array.from(values, (v, k) => (k === i ? v + by : v)),
          { shape: [3, 3] },
        );
      const [above, below] = [await loss(x, moved(1e-5)), await loss(x, moved(-1e-5))];
      const slope = ((await above.item()) - (await below.item())) / 2e-5;
      expect(gradient[i]!).toBeCloseTo(slope, 4);
    }
    await loss.close();
  });

  it("keeps less with recomputation, for the same gradient", async () => {
    const many = levels(12);
    const given = inputs();
    const deep = graphDenoiser<Inputs>((x, t, all) => {
      let y = x;
      for (let i = 0; i < 8; i++) y = network(y, t, all);
      return y;
    }, reading);
    const gradientOf = (checkpoint: boolean) =>
      grad((z: Tensor) => unroll(heun, deep, many, { checkpoint })(z, given).square().sum());
    const peak = (checkpoint: boolean): number => {
      const z = input([64, 3], "f32");
      const options = { capabilities: CPU_CAPABILITIES, data: "feed", inputs: [z] } as const;
      return lowerGraph([gradientOf(checkpoint)(z)], options).peakBytes;
    };
    expect(peak(true)).toBeLessThan(peak(false) / 3);
    const x = normal([4, 3], 1, 10);
    expect(await bytes(gradientOf(true)(x))).toBe(await bytes(gradientOf(false)(x)));
  });

  it("lets gradients through the last steps only when told so", async () => {
    const [x, given] = [normal([2, 3], 1, 10), inputs()];
    const run = unroll(euler, denoise, sigmas, { lastSteps: 1 });
    const whole = grad((all: Inputs) => run(x, all).square().sum())(given);
    const before = await unroll(euler, denoise, sigmas.slice(0, -1))(x, given).eval();
    const last = unroll(euler, denoise, sigmas.slice(-2));
    const alone = grad((all: Inputs) => last(before, all).square().sum())(given);
    expect(await bytes(whole.weight)).toBe(await bytes(alone.weight));
    const zero = await grad((z: Tensor) => run(z, given).sum())(x).toArray();
    expect(zero.every((v) => v === 0)).toBe(true);
  });

  it("says what is missing", () => {
    const run = unroll(ddpm as RuledSampler, denoise, sigmas);
    expect(() => run(normal([2, 3]), inputs())).toThrow(/step 0 draws more noise/);
    expect(() => unroll(euler, denoise, [1])).toThrow(ArgumentError);
    expect(() => unroll(euler, denoise, sigmas, { lastSteps: 0 })).toThrow(/lastSteps/);
    expect(() => runNoise(ddpm as RuledSampler, [2, 3], sigmas, {})).toThrow(/options.noise/);
  });
});

describe("formulas inside of a graph", () => {
  const parameterizations = { ...PARAMETERIZATIONS, scorePrediction, flowPrediction, epsilonPrediction };

  it.each(Object.entries(parameterizations))("%s gives the bits of the host", async (_, p) => {
    const [x, y] = [normal([4, 8], 1, 3), normal([4, 8], 2)];
    for (const sigma of [0.03, 0.9]) {
      for (const convert of [toDenoised, toPrediction]) {
        const compiled = jit((a: Tensor, b: Tensor) => convert(p, a, b, sigma));
        expect(await bytes(await compiled(x, y))).toBe(await bytes(convert(p, x, y, sigma)));
        await compiled.close();
      }
    }
  });

  it("a tensor that is not computed yet, and a term of weight 0, are no obstacle", async () => {
    const [x, y] = [normal([2, 2]), normal([2, 2], 2)];
    const lazy = toDenoised(epsilonPrediction, x.mul(2), y.neg(), 0.5);
    const now = toDenoised(epsilonPrediction, await x.mul(2).eval(), await y.neg().eval(), 0.5);
    expect(await bytes(lazy)).toBe(await bytes(now));
    const infinite = tensor([[Number.POSITIVE_INFINITY, 1]]).mul(1);
    expect(await weightedSum([0, infinite], [2, tensor([[3, 4]])]).toArray()).toEqual([6, 8]);
    expect(await weightedSum([0, infinite]).toArray()).toEqual([0, 0]);
    expect(() => weightedSum([Number.NaN, infinite])).toThrow(ArgumentError);
  });

  it("half precision is rounded as on the host", async () => {
    const [x, y] = await Promise.all([normal([64], 1), normal([64], 2)].map((t) => t.cast("f16").eval()));
    const compiled = jit((a: Tensor, b: Tensor) => weightedSum([1 / 3, a], [-0.7, b]));
    expect(await bytes(await compiled(x!, y!))).toBe(await bytes(weightedSum([1 / 3, x!], [-0.7, y!])));
    await compiled.close();
  });

  it.each([
    ["clip", clip(0.3)],
    ["dynamicThreshold", dynamicThreshold(0.9, 3)],
    ["dynamicThreshold at the largest", dynamicThreshold(1, 10)],
  ] as const)("%s gives the bits of the host", async (_, f) => {
    const x = normal([3, 2, 5], 1, 2);
    const compiled = jit(f);
    expect(await bytes(await compiled(x))).toBe(await bytes(f(x)));
    await compiled.close();
  });

  it("learned deviations and guidance can be differentiated", async () => {
    const v = normal([2, 3]);
    for (const kind of ["range", "log"] as const) {
      const [traced, host] = [
        await learnedDeviation(v.mul(1), kind, 3, 2).toArray(),
        await learnedDeviation(v, kind, 3, 2).toArray(),
      ];
      traced.forEach((value, i) => {
        expect(value).toBeCloseTo(host[i]!, 6);
      });
    }
    const through = grad((z: Tensor) =>
      toDenoised(vPrediction, z, extrapolate(z.mul(2), z.mul(3), 4), 1).sum(),
    )(tensor([[1, 2]]));
    const { skip, output } = vPrediction(1);
    (await through.toArray()).forEach((value) => {
      expect(value).toBeCloseTo(skip + 6 * output, 5);
    });
  });

  it("dpmpp2mStep is the second step of the sampler", async () => {
    const [x, first, second] = [normal([2, 2]), normal([2, 2], 2), normal([2, 2], 3)];
    const answers = [first, second];
    const two = [3, 2, 1.5, 1];
    const states: Tensor[] = [];
    for await (const { x: reached } of dpmSolverMultistep(() => answers.shift() ?? first, x, two))
      states.push(reached);
    const stage = { x: states[0]!, denoised: second, sigma: 2, next: 1.5 };
    expect(await bytes(dpmpp2mStep(stage, { sigma: 3, value: first }))).toBe(await bytes(states[1]!));
  });
});

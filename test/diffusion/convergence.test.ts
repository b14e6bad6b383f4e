import { describe, expect, it } from "vitest";
import {
  ddim,
  deis,
  dpm2,
  dpmSolverMultistep,
  dpmSolverSinglestep,
  euler,
  finalSample,
  heun,
  ipndm,
  lms,
  plms,
  pndm,
  type SampleOptions,
  type Sampler,
  saSolver,
  singlestepOrders,
  unipc,
  weightedSum,
} from "../../src/diffusion/index.ts";
import { tensor } from "../../src/tensor/index.ts";
import { denoiseNormal, denoiseNormalFlow, exactNormal } from "./normal-data.ts";
import { silence } from "./reference-loops.ts";

type Grid = (steps: number) => number[];
const HIGH = 8;
const LOW = 0.2;

const points = (steps: number, level: (share: number) => number): number[] =>
  Array.from({ length: steps + 1 }, (_, i) => level(i / steps));
const even: Grid = (n) => points(n, (u) => HIGH + (LOW - HIGH) * u);
const logarithmic: Grid = (n) => points(n, (u) => HIGH * (LOW / HIGH) ** u);
/** Short first steps, so that a multistep method's start in low order does not hide its order. */
const graded =
  (power: number): Grid =>
  (n) =>
    points(n, (u) => HIGH * (LOW / HIGH) ** (u ** power));

const start = tensor(Float64Array.of(3, -5, 9, 1), { shape: [4] });

async function errorOf<O extends SampleOptions>(
  sampler: Sampler<O>,
  sigmas: number[],
  options: O,
): Promise<number> {
  const x = await finalSample(sampler(denoiseNormal, start, sigmas, options));
  const difference = await weightedSum([1, x], [-1, exactNormal(start, HIGH, LOW)]).toArray();
  return Math.max(...difference.map(Math.abs));
}

const full = { lowerOrderFinal: false };
const ode = { tau: () => 0, noise: silence, ...full };
const middle = (a: number, b: number): number => (a + b) / 2;

/** Options may depend on the number of steps. */
type Options = object | ((steps: number) => object);
const inOrders =
  (order: number, rest: object = {}) =>
  (steps: number) => ({ order, orders: singlestepOrders(steps, order, false), ...rest });

const METHODS: [name: string, order: number, sampler: Sampler, grid: Grid, options: Options, few?: number][] =
  [
    ["Euler", 1, euler, logarithmic, {}],
    ["DDIM", 1, ddim, logarithmic, {}],
    ["Heun", 2, heun, logarithmic, {}],
    ["DPM-Solver-2", 2, dpm2, logarithmic, {}],
    ["DPM-Solver++ 1", 1, dpmSolverMultistep, logarithmic, { order: 1 }],
    ["DPM-Solver++ 2M", 2, dpmSolverMultistep, logarithmic, full],
    ["DPM-Solver++ 2M, heun", 2, dpmSolverMultistep, logarithmic, { solver: "heun", ...full }],
    ["DPM-Solver 2M", 2, dpmSolverMultistep, logarithmic, { algorithm: "dpmsolver", ...full }],
    ["DPM-Solver++ 3M", 3, dpmSolverMultistep, graded(3), { order: 3, ...full }, 384],
    ["DPM-Solver 3M", 3, dpmSolverMultistep, graded(2), { order: 3, algorithm: "dpmsolver", ...full }],
    ["DPM-Solver++ 2S", 2, dpmSolverSinglestep, logarithmic, inOrders(2)],
    ["DPM-Solver++ 2S, heun", 2, dpmSolverSinglestep, logarithmic, inOrders(2, { solver: "heun" })],
    ["DPM-Solver++ 3S", 3, dpmSolverSinglestep, logarithmic, inOrders(3)],
    ["DPM-Solver++ 3S, heun", 3, dpmSolverSinglestep, logarithmic, inOrders(3, { solver: "heun" })],
    ["DPM-Solver 3S", 3, dpmSolverSinglestep, logarithmic, inOrders(3, { algorithm: "dpmsolver" })],
    // The corrector raises the predictor's order by one.
    ["UniPC-2", 3, unipc, logarithmic, full],
    ["UniPC-2 on noise", 3, unipc, logarithmic, { predict: "noise", ...full }],
    [
      "UniP-2",
      2,
      unipc,
      logarithmic,
      { disableCorrector: Array.from({ length: 400 }, (_, i) => i), ...full },
    ],
    ["UniPC-3", 4, unipc, graded(3), { order: 3, ...full }],
    ["UniPC-3, bh1", 4, unipc, graded(3), { order: 3, variant: "bh1", ...full }],
    ["DEIS-1", 1, deis, logarithmic, { order: 1 }],
    ["DEIS-2", 2, deis, logarithmic, full],
    ["DEIS-3", 3, deis, graded(2), { order: 3, ...full }],
    ["LMS-2", 2, lms, logarithmic, { order: 2 }],
    ["LMS-4", 4, lms, graded(3), {}],
    ["iPNDM", 4, ipndm, even, {}],
    ["PNDM", 4, pndm, even, { middle }],
    ["PLMS", 4, plms, even, {}],
    ["SA-Solver 2, tau 0", 2, saSolver, logarithmic, ode],
    ["SA-Solver 2 on noise, tau 0", 2, saSolver, logarithmic, { predict: "noise", ...ode }],
    ["SA-Solver 3, tau 0", 4, saSolver, graded(3), { predictorOrder: 3, correctorOrder: 3, ...ode }],
  ];

describe("on Gaussian data the error falls with the order of the method", () => {
  it.each(METHODS)("%s: %d", async (_, order, sampler, grid, options, few = grid === even ? 192 : 96) => {
    // Some need short steps before their order shows.
    const many = 2 * few;
    const at = (steps: number): Promise<number> =>
      errorOf(sampler, grid(steps), typeof options === "function" ? options(steps) : options);
    const slope = Math.log2((await at(few)) / (await at(many)));
    expect(slope).toBeGreaterThan(order - 0.3);
    expect(slope).toBeLessThan(order + 0.6);
  });

  it("DPM-Solver++ 3M with half its curvature, as the reference library has it, is of order 2", async () => {
    const options = { order: 3, halfCurvature: true, ...full };
    const at = (steps: number) => errorOf(dpmSolverMultistep, graded(2)(steps), options);
    expect(Math.log2((await at(96)) / (await at(192)))).toBeCloseTo(2, 0);
  });

  it.each([
    ["Euler", 1, euler],
    ["Heun", 2, heun],
  ] as [string, number, Sampler][])("in flow coordinates too: %s: %d", async (_, order, sampler) => {
    const [from, to] = [0.9, 0.1];
    // The flow's x over its signal is x0 + ratio * noise.
    const ratio = (sigma: number): number => sigma / (1 - sigma);
    const exact = weightedSum([
      1 - to,
      exactNormal(weightedSum([1 / (1 - from), start]), ratio(from), ratio(to)),
    ]);
    const at = async (steps: number): Promise<number> => {
      const sigmas = points(steps, (u) => from + (to - from) * u);
      const x = await finalSample(sampler(denoiseNormalFlow, start, sigmas));
      const difference = await weightedSum([1, x], [-1, exact]).toArray();
      return Math.max(...difference.map(Math.abs));
    };
    const slope = Math.log2((await at(64)) / (await at(128)));
    expect(Math.abs(slope - order)).toBeLessThan(0.3);
  });

  it("DDIM over rising levels and back returns to the sample", async () => {
    const sigmas = logarithmic(200);
    const clean = exactNormal(start, HIGH, LOW);
    const noisy = await finalSample(ddim(denoiseNormal, clean, [...sigmas].reverse()));
    const again = await finalSample(ddim(denoiseNormal, noisy, sigmas));
    const difference = await weightedSum([1, again], [-1, clean]).toArray();
    expect(Math.max(...difference.map(Math.abs))).toBeLessThan(0.05);
  });
});

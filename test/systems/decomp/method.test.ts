import { describe, expect, it } from "vitest";
import { alphasCumprod, betas } from "../../../src/diffusion/index.ts";
import {
  alphaBarsOf,
  ddpmBetween,
  decompLoss,
  latentOverlap,
  type Network,
  samplingScheduler,
} from "../../../src/systems/decomp/method.ts";
import { createNoise, fromHost, type Tensor, tensor } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";

const X0 = { prediction: "x0", schedule: "cosine" } as const;
const floats = async (x: Tensor): Promise<number[]> => Array.from((await x.data()) as Float32Array);

/** A network whose components predict x / 2 + z_k t / 1000, so that everything can be done by hand. */
const toy = (prediction: "x0" | "eps" = "x0"): Network => ({
  config: { prediction, latent: 1 },
  encode: (x) =>
    x
      .mean([1, 2, 3])
      .reshape([-1, 1, 1])
      .concat(x.mean([1, 2, 3]).reshape([-1, 1, 1]).mul(3), 1),
  denoise: (x, t, z) => {
    const sum = z.mean([1, 2]).mul(t.div(1000));
    return x.mul(0.5).add(sum.reshape([-1, 1, 1, 1]));
  },
});

describe("the schedule", () => {
  it("is the cosine, from beta of at most 0.999", () => {
    const bars = alphaBarsOf(X0);
    const at = (t: number) => Math.cos((((t + 1) / 1000 + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
    const first = Math.cos((0.008 / 1.008) * (Math.PI / 2)) ** 2;
    for (const t of [0, 100, 500, 900]) expect(bars[t]).toBeCloseTo(at(t) / first, 5);
    expect(bars[999]).toBeCloseTo(2.4e-9, 9);
    expect(alphaBarsOf({ schedule: "linear" })[999]).toBeCloseTo(
      alphasCumprod(betas({ schedule: "linear" }))[999]!,
      7,
    );
  });
});

describe("the loss", () => {
  const x0 = fromHost(
    "f32",
    [2, 3, 2, 2],
    Float32Array.from({ length: 24 }, (_, i) => (i % 7) / 7),
  );
  const noise = fromHost("f32", [2, 3, 2, 2], createNoise("philox", 3).normal([2, 3, 2, 2]) as Float32Array);
  const timestep = tensor([100, 800]);
  const level = { alpha: tensor([0.9, 0.3]), sigma: tensor([Math.sqrt(1 - 0.81), Math.sqrt(1 - 0.09)]) };
  const batch = { x0, noise, timestep, level };
  const options = { downweight: false, orthogonality: 0 };

  async function byHand(prediction: "x0" | "eps", zero: boolean[], weights: number[]): Promise<number> {
    const [x, e] = [await floats(x0), await floats(noise)];
    const [alphas, sigmas] = [await floats(level.alpha), await floats(level.sigma)];
    let sum = 0;
    for (const n of [0, 1]) {
      const own = x.slice(12 * n, 12 * n + 12);
      const z = zero[n] ? 0 : (2 * own.reduce((a, b) => a + b, 0)) / 12; // mean of m and 3 m
      for (let i = 12 * n; i < 12 * n + 12; i++) {
        const seen = alphas[n]! * x[i]! + sigmas[n]! * e[i]!;
        const predicted = 0.5 * seen + z * [0.1, 0.8][n]!;
        sum += (weights[n]! * (predicted - (prediction === "x0" ? x[i]! : e[i]!)) ** 2) / 24;
      }
    }
    return sum;
  }

  it.each(["x0", "eps"] as const)("is one squared error of the mean of all components (%s)", async (kind) => {
    const { loss } = decompLoss(options)(toy(kind), batch);
    expect(await loss.item()).toBeCloseTo(await byHand(kind, [false, false], [1, 1]), 6);
  });

  it("weighs little noise more with downweight, and drops all latents of a picture at once", async () => {
    const weighted = decompLoss({ ...options, downweight: true })(toy(), batch).loss;
    const weights = [2 - 2 ** 0.1, 2 - 2 ** 0.8];
    expect(await weighted.item()).toBeCloseTo(await byHand("x0", [false, false], weights), 6);
    const dropped = decompLoss(options)(toy(), { ...batch, dropped: tensor([true, false]) }).loss;
    expect(await dropped.item()).toBeCloseTo(await byHand("x0", [true, false], [1, 1]), 6);
  });

  it("adds the squared products of different latents", async () => {
    const z = fromHost("f32", [1, 2, 2], Float32Array.of(3, 0, 1, 1));
    expect(await latentOverlap(z).item()).toBeCloseTo((2 * 0.5) / 4, 5); // cosines of 45 degrees, squared
    const [plain, more] = [0, 2].map((orthogonality) =>
      decompLoss({ ...options, orthogonality })(toy(), batch),
    );
    const same = await latentOverlap(toy().encode(x0)).item();
    expect((await more!.loss.item()) - (await plain!.loss.item())).toBeCloseTo(2 * same, 5);
  });
});

describe("sampling", () => {
  const x = [0.4, -1.2];
  const start = () => fromHost("f32", [1, 2], Float32Array.from(x));

  it("goes over t = 0, 20, ..., 980", () => {
    const { timesteps } = samplingScheduler(X0, { method: "ddim", steps: 50, eta: 0, clip: "signed" });
    expect(timesteps).toEqual(Array.from({ length: 50 }, (_, i) => 980 - 20 * i));
  });

  it.each(["signed", "unit"] as const)("is DDIM on clipped guesses (%s)", async (clip) => {
    const scheduler = samplingScheduler(X0, { method: "ddim", steps: 4, eta: 0, clip });
    const guess = (v: number, t: number): number => 1.5 * v + t / 2000;
    const network = async (seen: Tensor, t: number) =>
      (await seen
        .mul(1.5)
        .add(t / 2000)
        .eval()) as Tensor;
    const found = await drained(scheduler.sample(network, scheduler.initial(start())));
    const bars = alphaBarsOf(X0);
    const times = [750, 500, 250, 0];
    const byHand = x.map((first) =>
      times.reduce((v, t, i) => {
        const [bar, next] = [bars[t]!, i === 3 ? 1 : bars[times[i + 1]!]!];
        const clean = Math.min(1, Math.max(clip === "unit" ? 0 : -1, guess(v, t)));
        const noise = (v - Math.sqrt(bar) * clean) / Math.sqrt(1 - bar);
        return Math.sqrt(next) * clean + Math.sqrt(1 - next) * noise;
      }, first),
    );
    for (const [i, v] of (await floats(found)).entries()) expect(v).toBeCloseTo(byHand[i]!, 5);
  });

  it("is DDPM with a variance between both usual ones", async () => {
    const bars = alphaBarsOf(X0);
    const sigmaOf = (t: number): number => Math.sqrt(1 / bars[t]! - 1);
    const [sigma, next] = [sigmaOf(501), sigmaOf(500)];
    const noise = { ...createNoise("philox", 5), normal: () => Float32Array.of(1, 1) };
    const zero = async (seen: Tensor) => (await seen.mul(0).eval()) as Tensor;
    const run = ddpmBetween(zero, start(), [sigma, next, 0], { noise });
    const first = await run.next();
    const reached = await floats((first.value as { x: Tensor }).x);
    const drawn = x.map((v, i) => (reached[i]! - v * (next / sigma) ** 2) / Math.sqrt(1 + next ** 2));
    const beta = 1 - bars[501]! / bars[500]!;
    const small = (beta * (1 - bars[500]!)) / (1 - bars[501]!);
    const share = (beta + 1) / 2;
    const deviation = Math.exp((share * Math.log(beta) + (1 - share) * Math.log(small)) / 2);
    for (const v of drawn) expect(v / deviation).toBeCloseTo(1, 4);
    expect(deviation).toBeGreaterThan(Math.sqrt(small));
    expect(deviation).toBeLessThan(Math.sqrt(beta));
  });
});

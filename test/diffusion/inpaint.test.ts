import { describe, expect, it } from "vitest";
import { inpaint, keepKnown } from "../../src/diffusion/inpaint.ts";
import { finalSample, type SampleStep } from "../../src/diffusion/sample.ts";
import { euler, eulerAncestral } from "../../src/diffusion/samplers/euler.ts";
import { heun } from "../../src/diffusion/samplers/heun.ts";
import { AbortError, ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng } from "../../src/nn/index.ts";
import { cachedSessions, createNoise, type Tensor, tensor } from "../../src/tensor/index.ts";
import { gaussian, geometric, maxDifference, withMean } from "./gaussian.ts";

const rng = createRng(31);
const SHAPE = [2, 3, 4, 4];
const image = rng.normal(SHAPE);
const imageNoise = rng.normal(SHAPE);
const x = rng.normal(SHAPE, 10);
/** Left half kept, then a soft column, then made anew. */
const mask = tensor([[[[0, 0, 0.5, 1]]]]);
const sigmas = geometric(10, 0.1, 8);
const denoise = withMean(gaussian(0.5), 1);
const options = { image, mask, imageNoise };
const columns = (t: Tensor, from: number, to: number): Tensor => t.sliceAxis(3, from, to);

describe("inpainting", () => {
  it("keeps known pixels exactly, with any sampler, and makes the others anew", async () => {
    for (const sampler of [euler, heun, eulerAncestral]) {
      const noise = createNoise("philox", 3);
      const out = await finalSample(inpaint(sampler, denoise, x, sigmas, { ...options, noise }));
      expect(await columns(out, 0, 2).toArray()).toEqual(await columns(image, 0, 2).toArray());
      const alone = await finalSample(sampler(denoise, x, sigmas, { noise: createNoise("philox", 3) }));
      expect(await maxDifference(columns(out, 3, 4), columns(alone, 3, 4))).toBeLessThan(1e-5); // pixels are independent here
    }
  });

  it("keeps them exactly at the end of a schedule that ends above 0, too", async () => {
    const out = await finalSample(inpaint(euler, denoise, x, [2, 1, 0.1], options));
    expect(await columns(out, 0, 2).toArray()).toEqual(await columns(image, 0, 2).toArray());
  });

  it("mixes where the mask is soft", async () => {
    const steps: SampleStep[] = [];
    for await (const step of inpaint(euler, denoise, x, sigmas, options)) steps.push(step);
    expect(steps.length).toBe(8);
    const last = steps.at(-1)!;
    const made = columns(last.denoised, 2, 3); // Euler's last step ends at its guess
    const want = made.mul(0.5).add(columns(image, 2, 3).mul(0.5));
    expect(await maxDifference(columns(last.x, 2, 3), want)).toBeLessThan(1e-5);
  });

  it("has the known part at the level of each step, with the same noise or with fresh noise", async () => {
    for await (const { x: sample, sigmaNext } of inpaint(euler, denoise, x, sigmas, options)) {
      const want = image.add(imageNoise.mul(sigmaNext));
      expect(await maxDifference(columns(sample, 0, 2), columns(want, 0, 2))).toBeLessThan(1e-5);
    }
    const noises: number[][] = [];
    const fresh = { ...options, freshNoise: true, noise: createNoise("philox", 8) };
    for await (const { x: sample, sigmaNext } of inpaint(euler, denoise, x, sigmas, fresh)) {
      if (sigmaNext > 0)
        noises.push(
          await columns(sample.sub(image), 0, 2)
            .mul(1 / sigmaNext)
            .toArray(),
        );
    }
    for (const values of noises) {
      const variance = values.reduce((sum, v) => sum + v * v, 0) / values.length;
      expect(variance).toBeGreaterThan(0.4);
      expect(variance).toBeLessThan(1.8);
    }
    expect(Math.abs(noises[0]![0]! - noises[1]![0]!)).toBeGreaterThan(1e-3);
  });

  it("for flow models mixes along the straight path", async () => {
    const flow = [1, 0.6, 0.3, 0];
    for await (const { x: sample, sigmaNext } of inpaint(euler, (z) => z.mul(0.5), imageNoise, flow, {
      ...options,
      flow: true,
    })) {
      const want = image.mul(1 - sigmaNext).add(imageNoise.mul(sigmaNext));
      expect(await maxDifference(columns(sample, 0, 2), columns(want, 0, 2))).toBeLessThan(1e-5);
    }
  });

  it("lets the caller intervene as a sampler does, and returns the image without steps", async () => {
    const run = inpaint(euler, denoise, x, [2, 1, 0], options);
    await run.next();
    const second = (await run.next(image)).value as SampleStep;
    const direct = (await euler(denoise, image, [1, 0]).next()).value as SampleStep;
    expect(await maxDifference(columns(second.x, 3, 4), columns(direct.x, 3, 4))).toBeLessThan(1e-6);
    expect(await finalSample(inpaint(euler, denoise, x, [0], options))).toBe(image);
  });

  it("stops when told to, between steps", async () => {
    const controller = new AbortController();
    const run = inpaint(euler, denoise, x, sigmas, { ...options, signal: controller.signal });
    await run.next();
    controller.abort();
    await expect(run.next()).rejects.toThrow(AbortError);
  });

  it("is sample by sample: a batch is each of its samples alone", async () => {
    const both = await finalSample(inpaint(euler, denoise, x, sigmas, options));
    const second = (t: Tensor): Tensor => t.sliceAxis(0, 1);
    const alone = await finalSample(
      inpaint(euler, denoise, await second(x).eval(), sigmas, {
        mask,
        image: second(image),
        imageNoise: second(imageNoise),
      }),
    );
    expect(await maxDifference(second(both), alone)).toBeLessThan(1e-5);
  });

  it("compiles nothing from the second step on", async () => {
    const run = inpaint(euler, denoise, x, geometric(9, 0.2, 8), options);
    await run.next();
    await run.next();
    const graphs = cachedSessions();
    await finalSample(run);
    expect(cachedSessions()).toBe(graphs);
  });

  it("refuses masks that do not fit or are out of range", async () => {
    const run = (bad: Tensor) => inpaint(euler, denoise, x, sigmas, { ...options, mask: bad }).next();
    await expect(run(tensor([0, 1]))).rejects.toThrow(ShapeError);
    await expect(run(tensor([[[[0, 1]]]]))).rejects.toThrow(ShapeError);
    await expect(run(tensor([[[[0, 1, 2, 0]]]]))).rejects.toThrow(/0 to 1, got 2/);
    const fresh = inpaint(euler, denoise, x, sigmas, { ...options, freshNoise: true });
    await expect(fresh.next()).rejects.toThrow(ArgumentError);
  });
});

describe("a denoiser that keeps what is known", () => {
  it("guesses the image where the mask is 0", async () => {
    const guess = await keepKnown(denoise, image, mask)(x, 2);
    expect(await columns(guess, 0, 2).toArray()).toEqual(await columns(image, 0, 2).toArray());
    expect(await maxDifference(columns(guess, 3, 4), columns(await denoise(x, 2), 3, 4))).toBe(0);
  });
});

import { describe, expect, it } from "vitest";
import { img2img, noised, type StrengthRule, strengthSigmas } from "../../src/diffusion/img2img.ts";
import { finalSample } from "../../src/diffusion/sample.ts";
import { euler } from "../../src/diffusion/samplers/euler.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng } from "../../src/nn/index.ts";
import { gaussian, geometric, maxDifference, withMean } from "./gaussian.ts";

const schedule = (steps: number): number[] => geometric(10, 0.1, steps);
const rng = createRng(21);
const image = rng.normal([2, 3, 4, 4]);
const imageNoise = rng.normal([2, 3, 4, 4]);
const denoise = withMean(gaussian(0.5), 1);
const left = (steps: number, strength: number, rule: StrengthRule) =>
  strengthSigmas(schedule, steps, strength, rule).sigmas.length - 1;

describe("strength", () => {
  it("by diffusers' rule leaves floor(n s) steps: none at 0, all at 1", () => {
    expect(left(50, 0, "diffusers")).toBe(0);
    expect(left(50, 0.75, "diffusers")).toBe(37);
    expect(left(50, 0.8, "diffusers")).toBe(40);
    expect(left(50, 0.019, "diffusers")).toBe(0);
    expect(left(50, 1, "diffusers")).toBe(50);
    expect(strengthSigmas(schedule, 20, 0.5)).toEqual({ sigmas: schedule(20).slice(10), firstStep: 10 });
  });

  it("by stable-diffusion-webui's rule leaves one more: one at 0, all at 1", () => {
    expect(left(20, 0, "a1111")).toBe(1);
    expect(left(20, 0.75, "a1111")).toBe(16);
    expect(left(20, 1, "a1111")).toBe(20);
    expect(left(1, 0.5, "a1111")).toBe(1);
  });

  it("by its exact rule leaves all steps, of a finer schedule", () => {
    expect(left(20, 0, "a1111-exact")).toBe(0);
    for (const strength of [0.1, 0.5, 0.75, 1]) expect(left(20, strength, "a1111-exact")).toBe(20);
    expect(strengthSigmas(schedule, 20, 0.5, "a1111-exact")).toEqual({
      sigmas: schedule(40).slice(20),
      firstStep: 20,
    });
    expect(strengthSigmas(schedule, 20, 1, "a1111-exact").firstStep).toBe(0);
  });

  it("refuses what is no strength", () => {
    for (const bad of [-0.1, 1.1, Number.NaN])
      expect(() => strengthSigmas(schedule, 10, bad)).toThrow(ArgumentError);
    expect(() => strengthSigmas(schedule, 0, 0.5)).toThrow(ArgumentError);
    expect(() => strengthSigmas(schedule, 5, 0.5, "sdxl" as StrengthRule)).toThrow(/rule/);
  });
});

describe("image to image", () => {
  it("at strength 0 is the image, at strength 1 the whole schedule from the noised image", async () => {
    const at = (strength: number) => {
      const { sigmas } = strengthSigmas(schedule, 12, strength);
      return finalSample(img2img(euler, denoise, sigmas, { image, imageNoise }));
    };
    expect(await at(0)).toBe(image);
    const start = image.add(imageNoise.mul(10));
    const whole = await finalSample(euler(denoise, await start.eval(), schedule(12)));
    expect(await maxDifference(await at(1), whole)).toBeLessThan(1e-4);
  });

  it("stays nearer to the image the smaller the strength", async () => {
    const distance: number[] = [];
    for (const strength of [0.25, 0.5, 0.75, 1]) {
      const { sigmas } = strengthSigmas(schedule, 12, strength);
      const out = await finalSample(img2img(euler, denoise, sigmas, { image, imageNoise }));
      distance.push(await out.sub(image).square().mean().item());
    }
    expect(distance).toEqual([...distance].sort((a, b) => a - b));
    expect(distance[0]).toBeLessThan(0.5 * distance[3]!);
  });

  it("adds noise as the model has it", async () => {
    expect(await maxDifference(await noised(image, imageNoise, 0), image)).toBe(0);
    expect(
      await maxDifference(await noised(image, imageNoise, 3), image.add(imageNoise.mul(3))),
    ).toBeLessThan(1e-6);
    expect(await maxDifference(await noised(image, imageNoise, 1, true), imageNoise)).toBe(0);
    expect(
      await maxDifference(
        await noised(image, imageNoise, 0.25, true),
        image.mul(0.75).add(imageNoise.mul(0.25)),
      ),
    ).toBeLessThan(1e-6);
    await expect(noised(image, imageNoise, 1.5, true)).rejects.toThrow(ArgumentError);
    const wrong = img2img(euler, denoise, [1, 0], { image, imageNoise: rng.normal([1, 3, 4, 4]) });
    await expect(wrong.next()).rejects.toThrow(ShapeError);
  });
});

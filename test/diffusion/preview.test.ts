import { describe, expect, it } from "vitest";
import {
  fitLatentPreview,
  LATENT_PREVIEWS,
  latentPreview,
  withPreviews,
} from "../../src/diffusion/preview.ts";
import { finalSample, type SampleStep } from "../../src/diffusion/sample.ts";
import { euler } from "../../src/diffusion/samplers/euler.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { createRng } from "../../src/nn/index.ts";
import { type Tensor, tensor, upsample } from "../../src/tensor/index.ts";
import { gaussian, geometric, maxDifference, withMean } from "./gaussian.ts";

const rng = createRng(51);
const latents = rng.normal([2, 4, 6, 5]);

describe("linear previews", () => {
  it("are weighted sums of the channels, clipped", async () => {
    const one = tensor([1, -1, 0.5, 2]).reshape([1, 4, 1, 1]);
    const { factors: f, bias } = LATENT_PREVIEWS.sdxl;
    const want = [0, 1, 2].map((c) => bias[c]! + f[0][c]! - f[1][c]! + 0.5 * f[2][c]! + 2 * f[3][c]!);
    (await latentPreview(one, LATENT_PREVIEWS.sdxl).toArray()).forEach((v, c) => {
      expect(v).toBeCloseTo(want[c]!, 5);
    });
    expect(await latentPreview(one.mul(100), LATENT_PREVIEWS.sd1).abs().max().item()).toBe(1);
    expect(() => latentPreview(one.concat(one, 1), LATENT_PREVIEWS.sd1)).toThrow(ShapeError);
  });

  it("fitted to pairs find the map that made them, from larger images", async () => {
    const truth = {
      factors: [
        [0.1, 0.02, -0.03],
        [0.05, -0.08, 0.01],
        [0, 0.06, 0.07],
        [-0.04, 0.03, 0.02],
      ],
      bias: [0.1, -0.05, 0],
    } as const;
    const small = latentPreview(latents, truth);
    const images = upsample(small, 8);
    expect(images.shape).toEqual([2, 3, 48, 40]);
    const fit = await fitLatentPreview(latents, images);
    fit.factors.flat().forEach((v, i) => {
      expect(v).toBeCloseTo(truth.factors.flat()[i]!, 5);
    });
    fit.bias.forEach((v, i) => {
      expect(v).toBeCloseTo(truth.bias[i]!, 5);
    });
  });

  it("of noisy pairs are the least-squares fit: residuals are orthogonal to the channels", async () => {
    const images = rng.normal([2, 3, 6, 5], 0.1);
    const { factors, bias } = await fitLatentPreview(latents, images);
    const fitted = latentPreview(latents, { factors, bias });
    const residual = images.sub(fitted);
    const dots = await residual.unsqueeze(1).mul(latents.unsqueeze(2)).sum([0, 3, 4]).toArray();
    for (const dot of [...dots, ...(await residual.sum([0, 2, 3]).toArray())])
      expect(Math.abs(dot)).toBeLessThan(1e-4);
  });

  it("say when the pairs do not determine them, or do not fit together", async () => {
    const flat = latents.mul(0).add(1);
    await expect(fitLatentPreview(flat, rng.normal([2, 3, 6, 5]))).rejects.toThrow(/too alike/);
    await expect(fitLatentPreview(latents, rng.normal([2, 3, 48, 48]))).rejects.toThrow(ShapeError);
  });
});

describe("previews of a sampling", () => {
  const denoise = withMean(gaussian(0.5), 1);
  const run = () => euler(denoise, latents.mul(5), geometric(10, 0.1, 7));

  it("come every so often and at the end, from the clean guess, and leave the result alone", async () => {
    const rendered: Tensor[] = [];
    const render = async (denoised: Tensor, step: SampleStep): Promise<number> => {
      rendered.push(denoised);
      return step.step;
    };
    const seen: (number | undefined)[] = [];
    const previews = withPreviews(run(), render, { every: 3 });
    let last: SampleStep | undefined;
    let next = await previews.next();
    while (!next.done) {
      seen.push(next.value.preview);
      last = next.value;
      next = await previews.next();
    }
    expect(seen).toEqual([undefined, undefined, 2, undefined, undefined, 5, 6]);
    expect(rendered.at(-1)).toBe(last!.denoised);
    expect(await maxDifference(next.value, await finalSample(run()))).toBe(0);
  });

  it("pass on what the caller puts in, and end what they wrap", async () => {
    let ended = false;
    async function* watched() {
      try {
        return yield* run();
      } finally {
        ended = true;
      }
    }
    const previews = withPreviews(watched(), () => "look");
    await previews.next();
    const second = (await previews.next(latents)).value as SampleStep;
    const direct = (await euler(denoise, latents, [second.sigma, second.sigmaNext]).next())
      .value as SampleStep;
    expect(await maxDifference(second.x, direct.x)).toBe(0);
    await previews.return(latents);
    expect(ended).toBe(true);
    await expect(withPreviews(run(), () => 0, { every: 0 }).next()).rejects.toThrow(ArgumentError);
  });
});

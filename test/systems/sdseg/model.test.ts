import { describe, expect, it } from "vitest";
import { levelOfAlphaBar } from "../../../src/diffusion/index.ts";
import { ArgumentError } from "../../../src/errors.ts";
import { blankRng, mapParameters, parameterCount, parameters } from "../../../src/nn/index.ts";
import {
  ALPHA_BARS,
  type DenoisingBatch,
  denoisingTerms,
  type Head,
  noiseOverSignal,
} from "../../../src/systems/sdseg/method.ts";
import {
  createSDSeg,
  PRESETS,
  SDSeg,
  type SegmentationNetwork,
  totalStride,
  withClasses,
  withParts,
} from "../../../src/systems/sdseg/model.ts";
import { fillNormal, fromHost, type Tensor } from "../../../src/tensor/index.ts";

const normals = (shape: readonly number[], seed: number): Tensor =>
  fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed }));

/** A network whose last layers are not zero, so that its output is something. */
function busy(head: Head, seed = 3): SegmentationNetwork {
  const { network } = createSDSeg({ ...PRESETS.smoke, head }, seed);
  let k = 0;
  return mapParameters(network, (t) => t.add(normals(t.shape, 100 + k++).mul(0.05)));
}

/** A batch at one timestep. */
function batchAt(t: number): DenoisingBatch {
  const one = fromHost("f32", [2], Float32Array.of(t, t));
  return {
    image: normals([2, 1, 16, 16], 1).mul(0.3),
    latent: normals([2, 4, 4, 4], 2),
    noise: normals([2, 4, 4, 4], 3),
    timestep: one,
    level: levelOfAlphaBar(fromHost("f32", [2], Float32Array.of(ALPHA_BARS[t]!, ALPHA_BARS[t]!))),
  };
}

describe("the published sizes", () => {
  it("have the published numbers of parameters and the published stride", () => {
    const { autoencoder, network } = new SDSeg(PRESETS.paper, blankRng);
    expect(parameterCount(autoencoder)).toBe(83_653_863);
    expect(parameterCount(autoencoder.encoder)).toBeLessThan(parameterCount(network.vision));
    expect(parameterCount(network.vision)).toBe(34_163_628);
    expect(parameterCount(network.unet)).toBe(294_973_828);
    expect(totalStride(PRESETS.paper)).toBe(128);
    expect(totalStride(PRESETS.mini)).toBe(8);
  });
});

describe("the latent loss", () => {
  it.each(["raw", "vskip"] as const)("is k_t times the loss of the noise, head %s", async (head) => {
    const network = busy(head);
    for (const t of [0, 250, 700, 999]) {
      const { noise, latent } = denoisingTerms(network, batchAt(t));
      const [a, b] = [await noise.item(), await latent.item()];
      expect(a).toBeGreaterThan(0);
      expect(b / a / noiseOverSignal(t)).toBeCloseTo(1, head === "raw" && t === 0 ? 2 : 3);
    }
  });

  it("makes the loss of v weigh sqrt(alphaBar) + lambda sqrt(1 - alphaBar)", async () => {
    const network = busy("vskip");
    for (const t of [0, 400, 999]) {
      const batch = batchAt(t);
      const [alpha, sigma] = [Math.sqrt(ALPHA_BARS[t]!), Math.sqrt(1 - ALPHA_BARS[t]!)];
      const z = batch.latent.mul(alpha).add(batch.noise.mul(sigma));
      const output = network.predict(z, batch.timestep, network.vision.call(batch.image));
      const error = await output
        .sub(batch.noise.mul(alpha).sub(batch.latent.mul(sigma)))
        .abs()
        .mean()
        .item();
      const { noise, latent } = denoisingTerms(network, batch);
      for (const lambda of [0, 1])
        expect((await noise.item()) + lambda * (await latent.item())).toBeCloseTo(
          (alpha + lambda * sigma) * error,
          4,
        );
    }
  });

  it("of the control sees neither noise nor time", async () => {
    const network = busy("image-only");
    const condition = normals([1, 4, 4, 4], 5);
    const at = (seed: number, t: number): Promise<unknown> =>
      network
        .predict(normals([1, 4, 4, 4], seed), fromHost("f32", [1], Float32Array.of(t)), condition)
        .toArray();
    expect(await at(6, 10)).toEqual(await at(7, 900));
  });
});

it("a model of several classes begins with all weights and the scale of a binary one", async () => {
  const binary = withParts(createSDSeg(PRESETS.smoke, 1), { scaleFactor: 0.4 });
  const three = withClasses(binary, 3, 2);
  expect([three.config.classes, three.scaleFactor]).toEqual([3, 0.4]);
  const known = parameters(binary);
  const added: string[] = [];
  for (const [key, t] of parameters(three))
    if (known.has(key)) expect(await t.data(), key).toEqual(await known.get(key)!.data());
    else added.push(key);
  expect(added).toEqual(["network.unet.label_emb.weight"]);
  expect(() => withClasses(three, 4, 2)).toThrow(ArgumentError);
});

/** Restoration networks compute what their published modules do; fixtures come from modules written in torch. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { picturesToTensor, readPictureFile } from "../../src/data/index.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { readSafetensors } from "../../src/io/index.ts";
import {
  createRestorer,
  DnCNN,
  NAFNet,
  PReNet,
  RestorationUNet,
  type RestorerConfig,
  restorerConfig,
} from "../../src/networks/index.ts";
import {
  blankRng,
  createRng,
  loadParameters,
  type Module,
  mapParameters,
  parameterCount,
  parameters,
} from "../../src/nn/index.ts";
import { createNoise, grad, jit, sizeOf, type Tensor, tensor } from "../../src/tensor/index.ts";
import { fill, withTinyWeights } from "./tiny-models.ts";

interface Case {
  readonly config: RestorerConfig;
  readonly shape: number[];
  readonly parameters: number;
  readonly keys: number;
  readonly sum: number;
  readonly absolute: number;
  readonly at: number[];
  readonly values: number[];
  readonly gradientNorm: number;
}
const path = new URL("../fixtures/networks/restoration.json", import.meta.url);
const cases = JSON.parse(readFileSync(path, "utf8")) as Record<string, Case>;

/** Variances are positive. */
const filled = <T extends Module>(net: T): T =>
  mapParameters(withTinyWeights(net), (t, key) => (key.endsWith("running_var") ? t.abs().add(0.5) : t));

type Called = Module & { call(x: Tensor): Tensor };

describe("restoration networks", () => {
  it.each(Object.entries(cases))("%s gives the reference's numbers and gradient", async (name, expected) => {
    const { config, shape } = expected;
    const net = filled(createRestorer(config, createRng(0))) as Called;
    expect(parameterCount(net, { trained: true })).toBe(expected.parameters);
    expect(parameters(net).size).toBe(expected.keys);
    const values = Float32Array.from(fill(`input:${name}`, sizeOf(shape)), (v) => v * 0.5 + 0.5);
    const run = jit((m: Called, x: Tensor) => ({
      y: m.call(x),
      gradient: grad((input: Tensor) => m.call(input).square().mean())(x)
        .square()
        .sum()
        .sqrt(),
    }));
    const { y, gradient } = await run(net, tensor(values, { shape }));
    await run.close();
    expect(y.shape).toEqual(shape);
    const got = await y.toArray();
    for (const [i, at] of expected.at.entries())
      expect(Math.abs(got[at]! - expected.values[i]!), `value ${at}`).toBeLessThan(1e-4);
    const absolute = got.reduce((sum, v) => sum + Math.abs(v), 0);
    expect(Math.abs(absolute / expected.absolute - 1)).toBeLessThan(1e-5);
    expect(Math.abs((await gradient.item()) / expected.gradientNorm - 1)).toBeLessThan(1e-4);
  });

  it("have the published sizes and keys", () => {
    const sizes = (net: Module): number[] => [parameterCount(net, { trained: true }), parameters(net).size];
    expect(sizes(new RestorationUNet({}, blankRng))).toEqual([8_559_171, 36]);
    expect(sizes(new NAFNet({}, blankRng))).toEqual([29_159_715, 664]);
    expect(sizes(new DnCNN({ batchNorm: true }, blankRng))[0]).toBe(558_336);
    expect([...parameters(new RestorationUNet({ base: 4, depth: 2 }, blankRng)).keys()]).toEqual(
      ["down_path.0.block.0", "down_path.0.block.2", "down_path.1.block.0", "down_path.1.block.2"]
        .concat(["up_path.0.conv_up", "up_path.0.conv_block.block.0", "up_path.0.conv_block.block.2", "last"])
        .flatMap((key) => [`${key}.weight`, `${key}.bias`]),
    );
  });

  it("restore by adding a residual, or by taking the noise away", async () => {
    const y = tensor([0.25, 0.5, 0.75, 1], { shape: [1, 1, 2, 2] });
    for (const net of [
      new RestorationUNet({ channels: 1, base: 2, depth: 2 }, createRng(1)),
      new NAFNet({ channels: 1, width: 2, encoder: [1], middle: 1, decoder: [1] }, createRng(1)),
    ])
      expect(await net.restore(y).sub(net.call(y)).toArray()).toEqual([
        expect.closeTo(0.25, 5),
        expect.closeTo(0.5, 5),
        expect.closeTo(0.75, 5),
        expect.closeTo(1, 5),
      ]);
    const noise = new DnCNN({ channels: 1, width: 2, depth: 3 }, createRng(1));
    expect((await noise.restore(y).add(noise.call(y)).toArray()).at(3)).toBeCloseTo(1, 5);
  });

  it("are remembered by their configuration", () => {
    const config = {
      network: "nafnet",
      channels: 1,
      width: 4,
      encoder: [1],
      middle: 2,
      decoder: [1],
    } as const;
    expect(restorerConfig(createRestorer(config, blankRng))).toEqual(config);
    expect(restorerConfig(new PReNet({}, blankRng))).toEqual({
      network: "prenet",
      channels: 3,
      width: 32,
      passes: 6,
    });
  });

  it.each([
    [() => createRestorer({ network: "resnet" } as never, blankRng), ArgumentError, /"resnet"/],
    [() => new RestorationUNet({ depth: 0 }, blankRng), ArgumentError, /depth from 1 up, got 0/],
    [() => new DnCNN({ width: 1.5 }, blankRng), ArgumentError, /width from 1 up, got 1.5/],
    [
      () =>
        new RestorationUNet({ base: 2 }, blankRng).call(
          tensor(new Float32Array(300), { shape: [1, 3, 10, 10] }),
        ),
      ShapeError,
      /multiples of 8, got 10 x 10/,
    ],
    [
      () => new DnCNN({ width: 2 }, blankRng).call(tensor(new Float32Array(4), { shape: [1, 1, 2, 2] })),
      ShapeError,
      /\[N, 3, H, W\]/,
    ],
  ] as const)("refuse what they cannot do, %#", (make, error, message) => {
    expect(make).toThrow(error);
    expect(make).toThrow(message);
  });
});

const root = fileURLToPath(new URL("../../../shared/data/", import.meta.url));

/** Values in [0, 1] of a part of a picture. // [1, C, h, w] */
async function crop(
  file: string,
  [top, left, height, width]: number[],
  colour: "gray" | "rgb",
): Promise<Tensor> {
  const picture = await readPictureFile(`${root}${file}`, { colour });
  return picturesToTensor([picture], "unit").slice(
    [0, 0, top!, left!],
    [1, 3, top! + height!, left! + width!],
  );
}

const psnrOf = async (a: Tensor, b: Tensor): Promise<number> =>
  -10 * Math.log10(await a.sub(b).square().mean().item());

describe.skipIf(!existsSync(root))("published weights (skipped: ../shared/data is not there)", () => {
  const weights = async (name: string): Promise<Map<string, Tensor>> => {
    const { tensors } = await readSafetensors(`${root}weights/${name}.safetensors`);
    return new Map(
      [...tensors].map(([key, raw]) => {
        const { data, shape } = raw as unknown as { data: Float32Array; shape: number[] };
        return [key, tensor(data, { shape })];
      }),
    );
  };

  it("DnCNN for sigma 25 gives the reference's values, and 28 to 32 dB on pictures of Set12", async () => {
    const net = loadParameters(new DnCNN({ channels: 1 }, blankRng), await weights("dncnn_25"));
    const clean = await crop("denoise-gray/Set12/01.png", [60, 60, 64, 64], "gray");
    const run = jit((x: Tensor) => net.call(x));
    const out = (await (await run(clean)).data()) as Float32Array;
    for (const [i, v] of [-0.00607, -0.00948, -0.0131, 0.00578].entries()) expect(out[i]).toBeCloseTo(v, 4);
    const expected = [28.77, 31.74, 30.3, 28.4];
    const noise = createNoise("philox", 0);
    for (const [i, dB] of expected.entries()) {
      const truth = await crop(`denoise-gray/Set12/0${i + 1}.png`, [60, 60, 128, 128], "gray");
      const n = tensor(noise.normal([1, 1, 128, 128], { sample: i, purpose: "test", step: 0 }), {
        shape: [1, 1, 128, 128],
      });
      const noisy = truth.add(n.mul(25 / 255));
      const restored = noisy.sub(await run(noisy));
      // The reference drew other noise: its PSNR of a picture of 128 x 128 moves by a tenth of a decibel.
      expect(Math.abs((await psnrOf(restored, truth)) - dB)).toBeLessThan(0.25);
    }
    await run.close();
  });

  it("PReNet for Rain100H restores a rainy picture to 28.88 dB", async () => {
    const net = loadParameters(new PReNet({}, blankRng), await weights("prenet_rain100h"));
    const [rainy, clean] = await Promise.all(
      ["rainy", "clean"].map((side) => crop(`rain100h/${side}/1.png`, [100, 150, 64, 64], "rgb")),
    );
    const run = jit((x: Tensor) => net.restore(x));
    const restored = await run(rainy!);
    await run.close();
    expect(await psnrOf(rainy!, clean!)).toBeCloseTo(15.1493, 3);
    expect(await psnrOf(restored, clean!)).toBeCloseTo(28.8814, 2);
    const values = (await restored.data()) as Float32Array;
    for (const [c, v] of [0.25265, 0.37637, 0.37158].entries()) expect(values[c * 4096]).toBeCloseTo(v, 3);
  });
});

/** Quantising whole networks: choosing layers, calibrating, stages, and loading what was packed. */
import { describe, expect, test } from "vitest";
import { ArgumentError, CalibrationError, FormatError, NonFiniteError } from "../../../src/errors.ts";
import {
  bitOperations,
  calibrate,
  createRng,
  IntegerLinear,
  LayerNorm,
  type LayerScheme,
  Linear,
  linearLayers,
  loadParameters,
  MLP,
  Module,
  matrixBytes,
  parameters,
  type QuantizedLayer,
  quantizationConfig,
  quantizeInStages,
  quantizeLayers,
  replaceLayers,
  signalToNoiseDecibels,
  transposedCodes,
  weightErrors,
  withPackedLayers,
  withQuantized,
} from "../../../src/nn/index.ts";
import { jit, type Tensor, tensor } from "../../../src/tensor/index.ts";
import { correlated, hessianOf } from "./matrices.ts";

/** Two residual blocks of perceptrons. */
class Network extends Module {
  readonly blocks: readonly { readonly norm: LayerNorm; readonly mlp: MLP }[];
  constructor(seed: number) {
    super();
    const rng = createRng(seed);
    this.blocks = [0, 1].map(() => ({ norm: new LayerNorm(32), mlp: new MLP([32, 64, 32], rng) }));
  }
  call(x: Tensor): Tensor {
    return this.blocks.reduce((h, { norm, mlp }) => h.add(mlp.call(norm.call(h))), x);
  }
}

const model = new Network(1);
const KEYS = [
  "blocks.0.mlp.layers.0",
  "blocks.0.mlp.layers.1",
  "blocks.1.mlp.layers.0",
  "blocks.1.mlp.layers.1",
];
const batches = [0, 1, 2, 3].map((seed) => tensor(correlated(64, 32, seed), { shape: [16, 4, 32] }));
/** One of the calibration batches: others have other correlations, for which GPTQ makes nothing up. */
const held = batches[0]!;
const run = (m: Network, x: Tensor): Tensor => m.call(x);
const seen = (m: Network, keys: readonly string[]) =>
  calibrate(m, keys, { batches, run, samples: 64, moments: true });
const scheme = (weight: Partial<LayerScheme["weight"]>, more: Partial<LayerScheme> = {}) => {
  const full: LayerScheme = { weight: { bits: 4, granularity: 32, symmetric: false, ...weight }, ...more };
  return () => full;
};
const numbers = async (t: Tensor): Promise<Float32Array> => (await t.data()) as Float32Array;
const quality = async (layers: ReadonlyMap<string, QuantizedLayer>): Promise<number> =>
  signalToNoiseDecibels(
    await numbers(model.call(held)),
    await numbers(withQuantized(model, layers, "simulated").call(held)),
  );

describe("calibration", () => {
  test("gives ranges, magnitudes and second moments of the inputs", async () => {
    const first = await calibrate(model, ["blocks.0.mlp.layers.0"], {
      batches: batches.slice(0, 1),
      run,
      samples: 16,
      moments: true,
    });
    const { rows, low, high, magnitude, hessian } = first.get("blocks.0.mlp.layers.0")!;
    const x = await numbers(model.blocks[0]!.norm.call(batches[0]!));
    const channel = (c: number): number[] => [...x].filter((_, i) => i % 32 === c);
    expect(rows).toBe(64);
    for (const c of [0, 5, 31]) {
      expect(low[c]).toBeCloseTo(Math.min(...channel(c)), 5);
      expect(high[c]).toBeCloseTo(Math.max(...channel(c)), 5);
      expect(magnitude[c]).toBeCloseTo(Math.max(...channel(c).map(Math.abs)), 5);
    }
    const expected = hessianOf(x, 32);
    for (let i = 0; i < expected.length; i += 41) expect(hessian![i]).toBeCloseTo(expected[i]!, 3);
  });

  test("refuses too few samples, and names the layer whose input is not finite", async () => {
    const few = calibrate(model, KEYS, { batches: batches.slice(0, 1), run, samples: 4 });
    await expect(few).rejects.toThrow(CalibrationError);
    await expect(few).rejects.toThrow(/at least 16 samples, got 4/);
    await expect(calibrate(model, KEYS, { batches: [], run, samples: 64 })).rejects.toThrow(CalibrationError);
    const poisoned = tensor(correlated(64, 32, 0).fill(Number.NaN, 0, 1), { shape: [16, 4, 32] });
    const broken = calibrate(model, KEYS, { batches: [poisoned], run, samples: 16 });
    await expect(broken).rejects.toThrow(NonFiniteError);
    await expect(broken).rejects.toThrow(/input channel \d+ of "blocks\.0\.mlp\.layers\.0" is NaN/);
  });
});

describe("whole networks", () => {
  test("more bits and GPTQ leave less error", async () => {
    const statistics = await seen(model, KEYS);
    const at = async (weight: Partial<LayerScheme["weight"]>, more?: Partial<LayerScheme>): Promise<number> =>
      quality(await quantizeLayers(model, scheme(weight, more), statistics));
    const [w3, w4, w8] = [await at({ bits: 3 }), await at({ bits: 4 }), await at({ bits: 8 })];
    expect(w4).toBeGreaterThan(w3 + 3);
    expect(w8).toBeGreaterThan(w4 + 10);
    expect(await at({}, { rounding: "gptq" })).toBeGreaterThan(w4 + 1);
  });

  test("in stages, every layer is calibrated on what was quantised before it", async () => {
    const asked: [string[], boolean][] = [];
    const layers = await quantizeInStages(
      model,
      scheme({ bits: 3 }, { rounding: "gptq" }),
      [/blocks\.0\./, /blocks\.1\./],
      (m, keys) => {
        asked.push([[...keys], !(m.blocks[0]!.mlp.layers[0] instanceof Linear)]);
        return seen(m, keys);
      },
    );
    expect(asked).toEqual([
      [KEYS.slice(0, 2), false],
      [KEYS.slice(2), true],
    ]);
    expect([...layers.keys()]).toEqual(KEYS);
    const atOnce = await quantizeLayers(
      model,
      scheme({ bits: 3 }, { rounding: "gptq" }),
      await seen(model, KEYS),
    );
    expect(await quality(layers)).toBeGreaterThan((await quality(atOnce)) - 0.5);
  });

  test("static ranges hold for what calibration saw", async () => {
    const statistics = await seen(model, KEYS);
    const activation = { bits: 8, granularity: "tensor", symmetric: false } as const;
    const error = async (range: "static" | "dynamic"): Promise<number> =>
      quality(
        await quantizeLayers(
          model,
          scheme({ bits: 8 }, { activation: { ...activation, granularity: 16, range } }),
          statistics,
        ),
      );
    const [fixed, dynamic] = [await error("static"), await error("dynamic")];
    expect(fixed).toBeGreaterThan(20);
    expect(dynamic).toBeGreaterThan(fixed);
  });

  test("what needs samples says so; a quantised model is not quantised again; nothing chosen is an error", async () => {
    await expect(quantizeLayers(model, scheme({}, { rounding: "gptq" }))).rejects.toThrow(
      /"blocks.0.mlp.layers.0": GPTQ needs calibration samples/,
    );
    const packed = withQuantized(model, await quantizeLayers(model, scheme({})), "packed");
    await expect(quantizeLayers(packed, scheme({}))).rejects.toThrow(ArgumentError);
    await expect(quantizeLayers(packed, scheme({}))).rejects.toThrow(
      /"blocks.0.mlp.layers.0" is quantised already/,
    );
    await expect(quantizeLayers(model, () => undefined)).rejects.toThrow(/no linear layer/);
    await expect(quantizeLayers(model, scheme({ granularity: 24 }))).rejects.toThrow(
      /"blocks.0.mlp.layers.0": groups of 24 do not divide 32/,
    );
  });

  test("bytes and bit operations follow the formulas", async () => {
    const layers = await quantizeLayers(model, scheme({ granularity: 16 }));
    const values = 2 * 2 * 32 * 64;
    const groups = values / 16;
    const { matrix } = layers.get(KEYS[0]!)!;
    expect(matrixBytes(matrix) * 4).toBe(values / 2 + 2 * groups + groups / 2);
    expect(bitOperations({ rows: 8, columns: 256, bits: 4, group: 128 }, 8)).toBe(8 * 256 * 32 * 1.25);
    const errors = await weightErrors(withQuantized(model, layers, "packed"), linearLayers(model));
    expect([...errors.keys()]).toEqual(KEYS);
    for (const decibels of errors.values()) expect(decibels).toBeGreaterThan(15);
  });
});

describe("packed networks as checkpoints", () => {
  test("are rebuilt from their configuration and weights, and compute the same", async () => {
    const activation = { bits: 8, granularity: 32, symmetric: true, range: "dynamic" } as const;
    const mixed = (key: string): LayerScheme =>
      key.endsWith("0")
        ? { weight: { bits: 4, granularity: 32, symmetric: false }, activation }
        : scheme({ bits: 8 })();
    const packed = withQuantized(model, await quantizeLayers(model, mixed), "packed");
    const config = JSON.parse(JSON.stringify(quantizationConfig(packed)));
    const blank = withPackedLayers(new Network(9), config);
    const loaded = loadParameters(blank, parameters(packed));
    const f = jit((x: Tensor) => [packed.call(x), loaded.call(x)]);
    const [a, b] = (await f(held)) as [Tensor, Tensor];
    expect(await numbers(b)).toEqual(await numbers(a));
    await f.close();
  });

  test("integer layers too", async () => {
    const replaced = new Map<string, object>();
    for (const [key, layer] of linearLayers(model)) {
      const codes = transposedCodes(await numbers(layer.weight), layer.weight.shape[0]!);
      replaced.set(key, new IntegerLinear(codes, layer.bias, "tensor"));
    }
    const integer = replaceLayers(model, replaced);
    const loaded = loadParameters(
      withPackedLayers(new Network(9), quantizationConfig(integer)),
      parameters(integer),
    );
    expect(await numbers(loaded.call(held))).toEqual(await numbers(integer.call(held)));
  });

  test("what a file says is checked", async () => {
    const at = (config: unknown) => () => withPackedLayers(model, config);
    const layers = (layer: unknown, key = KEYS[0]!) => ({
      quant_method: "tweedie",
      layers: { [key]: layer },
    });
    const good = { bits: 4, block: 32, zeros: true, activations: 8 };
    expect(at({ quant_method: "bitsandbytes" })).toThrow(FormatError);
    expect(at(layers({ ...good, bits: 5 }))).toThrow(/layer "blocks.0.mlp.layers.0" is \{"bits":5/);
    expect(at(layers({ ...good, block: 64 }))).toThrow(/blocks of 64 do not divide the 32 inputs/);
    expect(at(layers(good, "nowhere"))).toThrow(/"nowhere" is no linear layer/);
    expect(() => quantizationConfig(model)).toThrow(/no packed layers/);
    expect(at(layers(good))()).toBeInstanceOf(Network);
    expect([...parameters(at(layers(good))()).values()].some((t) => (t as Tensor).dtype === "u8")).toBe(true);
  });
});

/** Quantised layers: the integer kernels against the simulation, the simulation against its formulas. */
import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../../src/errors.ts";
import {
  createRng,
  dequantizeMatrix,
  IntegerLinear,
  type LayerScheme,
  Linear,
  type PackedLinear,
  packCodes,
  packedLayer,
  packMatrix,
  quantizeActivations,
  quantizeLayer,
  quantizeMatrix,
  SimulatedLinear,
  simulatedLayer,
  transposedCodes,
  unpackCodes,
} from "../../../src/nn/index.ts";
import { exportOnnx, grad, importOnnx, jit, type Tensor, tensor } from "../../../src/tensor/index.ts";
import { correlated, normals, product, relativeError } from "./matrices.ts";

const [TOKENS, INPUTS, OUTPUTS] = [10, 192, 24];
const x = tensor(correlated(TOKENS, INPUTS, 3), { shape: [2, TOKENS / 2, INPUTS] });
const layer = new Linear(INPUTS, OUTPUTS, createRng(4));
const numbers = async (t: Tensor): Promise<Float32Array> => (await t.data()) as Float32Array;
const distance = async (a: Tensor, b: Tensor): Promise<number> =>
  Math.sqrt(relativeError(await numbers(a), await numbers(b)));

test.each([
  [4, 9],
  [4, 16],
  [8, 5],
] as const)("packing codes of %i bits and unpacking them gives them back (%i)", (bits, count) => {
  const codes = Uint8Array.from({ length: count }, (_, i) => (i * 7 + 3) % 2 ** bits);
  const packed = packCodes(codes, bits);
  expect(packed.length).toBe(Math.ceil((count * bits) / 8));
  expect(unpackCodes(packed, bits, count)).toEqual(codes);
});

/** With the weights as constants of the graph: then the kernel rounds the activations too. */
const compiled = async (layer: { call(x: Tensor): Tensor }, input: Tensor): Promise<Tensor> => {
  const f = jit((t: Tensor) => layer.call(t));
  const y = await f(input);
  await y.data();
  await f.close();
  return y;
};

const real = (bits: number, group: number, symmetric: boolean, block = group): LayerScheme => ({
  weight: { bits, granularity: group, symmetric },
  activation: { bits: 8, granularity: block, symmetric: true, range: "dynamic" },
});

describe("packed layers on the integer kernel", () => {
  test.each([
    [4, 16, false, 16],
    [4, 32, true, 32],
    [4, 64, false, 64],
    [8, 64, false, 64],
    [8, 32, true, 32],
    [6, 64, false, 64],
    [3, 32, false, 32],
    [4, 192, false, 64], // a group that the kernel does not have: its scale is repeated
    [4, 96, false, 32],
  ])(
    "W%iA8, groups of %i (symmetric: %s) agree with the simulation",
    async (bits, group, symmetric, block) => {
      const q = await quantizeLayer("layer", layer, real(bits, group, symmetric, block));
      const packed = packedLayer("layer", q);
      expect(packed.blockSize).toBe(block);
      expect(await distance(simulatedLayer(q).call(x), await compiled(packed, x))).toBeLessThan(1e-5);
      expect(await distance(simulatedLayer(q).call(x), layer.call(x))).toBeGreaterThan(1e-3);
    },
  );

  test.each([4, 8])("W%iA16 agrees with the float layer of the rounded weight", async (bits) => {
    const scheme = { weight: { bits, granularity: 32, symmetric: false } };
    const q = await quantizeLayer("layer", layer, scheme);
    expect(await distance(simulatedLayer(q).call(x), packedLayer("layer", q).call(x))).toBeLessThan(1e-5);
  });

  test("a token is computed alone: another token's outliers do not reach it", async () => {
    const packed = packedLayer("layer", await quantizeLayer("layer", layer, real(4, 32, false)));
    const loud = x.mul(tensor([[[1]], [[50]]]));
    const [a, b] = [await numbers(await compiled(packed, x)), await numbers(await compiled(packed, loud))];
    const half = a.length / 2;
    expect(b.slice(0, half)).toEqual(a.slice(0, half));
  });

  test("exported as plain ONNX the weight is unpacked, and the file has the packed bytes", async () => {
    const q = await quantizeLayer("layer", layer, { weight: { bits: 4, granularity: 32, symmetric: false } });
    const packed = packedLayer("layer", q);
    const bytes = await exportOnnx((input: Tensor) => packed.call(input), [x]);
    const model = await importOnnx(bytes);
    const y = Object.values(await model.run({ [model.inputs[0]!.name]: x }))[0]!;
    expect(await distance(packed.call(x), y)).toBeLessThan(1e-5);
    expect(bytes.length).toBeLessThan(INPUTS * OUTPUTS); // 4 bytes each as floats
    await model.close();
  });

  test("as inputs of the graph, without the integer kernel, the results are the same", async () => {
    const q = await quantizeLayer("layer", layer, real(4, 32, false));
    const packed = packedLayer("layer", q);
    const asInput = jit((model: PackedLinear, input: Tensor) => model.call(input));
    expect(await distance(simulatedLayer(q).call(x), packed.call(x))).toBeLessThan(1e-5);
    expect(await distance(simulatedLayer(q).call(x), await asInput(packed, x))).toBeLessThan(1e-5);
    await asInput.close();
  });

  test("in plain ONNX the activations are rounded as in the kernel, blocks of zeros too", async () => {
    const packed = packedLayer("layer", await quantizeLayer("layer", layer, real(4, 32, false)));
    const firstZero = x.mul(tensor(Float32Array.from({ length: INPUTS }, (_, i) => (i < 32 ? 0 : 1))));
    const model = await importOnnx(await exportOnnx((input: Tensor) => packed.call(input), [x]));
    for (const input of [x, await firstZero.eval()]) {
      const y = Object.values(await model.run({ [model.inputs[0]!.name]: input }))[0]!;
      expect(await distance(await compiled(packed, input), y)).toBeLessThan(1e-5);
    }
    await model.close();
  });

  test("what the kernel cannot do is refused with a reason", async () => {
    const packing = async (scheme: LayerScheme): Promise<PackedLinear> =>
      packedLayer("ff", await quantizeLayer("ff", layer, scheme));
    const base = real(4, 32, false);
    const activation = base.activation!;
    await expect(packing({ ...base, activation: { ...activation, symmetric: false } })).rejects.toThrow(
      /packing "ff": the kernel rounds activations to 8 bits, symmetrically/,
    );
    await expect(packing({ ...base, activation: { ...activation, granularity: 64 } })).rejects.toThrow(
      /groups of at most 32, got 64/,
    );
    await expect(packing({ weight: { bits: 4, granularity: 24, symmetric: false } })).rejects.toThrow(
      ArgumentError,
    );
  });
});

describe("integer layers", () => {
  const setUp = async (activations: "tensor" | "token") => {
    const codes = transposedCodes(await numbers(layer.weight), OUTPUTS);
    return { codes, integer: new IntegerLinear(codes, layer.bias, activations) };
  };

  test.each(["tensor", "token"] as const)(
    "one activation scale for each %s: close to the float layer",
    async (a) => {
      const { integer } = await setUp(a);
      expect(await distance(layer.call(x), integer.call(x))).toBeLessThan(a === "token" ? 0.025 : 0.05);
    },
  );

  test("per token, it is the product of the codes times both scales", async () => {
    const { codes, integer } = await setUp("token");
    const rows = await numbers(x);
    const expected = new Float64Array(TOKENS * OUTPUTS);
    const bias = await numbers(layer.bias!);
    for (let t = 0; t < TOKENS; t++) {
      const row = rows.subarray(t * INPUTS, (t + 1) * INPUTS);
      const scale = Math.max(...row.map(Math.abs)) / 127;
      for (let o = 0; o < OUTPUTS; o++) {
        let sum = 0;
        for (const [i, v] of row.entries()) sum += Math.round(v / scale) * codes.codes[i * OUTPUTS + o]!;
        expected[t * OUTPUTS + o] = sum * scale * codes.scales[o]! + bias[o]!;
      }
    }
    expect(Math.sqrt(relativeError(expected, await numbers(integer.call(x))))).toBeLessThan(1e-3);
  });

  test("as plain ONNX the numbers are the same", async () => {
    const { integer } = await setUp("tensor");
    const bytes = await exportOnnx((input: Tensor) => integer.call(input), [x]);
    const model = await importOnnx(bytes);
    const y = Object.values(await model.run({ [model.inputs[0]!.name]: x }))[0]!;
    expect(await distance(integer.call(x), y)).toBeLessThan(1e-5);
    await model.close();
  });
});

describe("simulated layers", () => {
  test("equal the integer form of the specification, group by group", async () => {
    const group = 32;
    const scheme: LayerScheme = {
      weight: { bits: 4, granularity: group, symmetric: false },
      activation: { bits: 8, granularity: group, symmetric: false, range: "dynamic" },
    };
    const q = await quantizeLayer("layer", layer, scheme);
    const w = q.matrix;
    const a = quantizeMatrix(await numbers(x), TOKENS, INPUTS, {
      bits: 8,
      granularity: group,
      symmetric: false,
    });
    const bias = await numbers(layer.bias!);
    const groups = INPUTS / group;
    const expected = new Float64Array(TOKENS * OUTPUTS);
    for (let t = 0; t < TOKENS; t++)
      for (let o = 0; o < OUTPUTS; o++) {
        let total = bias[o]!;
        for (let u = 0; u < groups; u++) {
          const [za, zw] = [a.zeros[t * groups + u]!, w.zeros[o * groups + u]!];
          let [both, ofA, ofW] = [0, 0, 0];
          for (let v = 0; v < group; v++) {
            const [qa, qw] = [a.codes[t * INPUTS + u * group + v]!, w.codes[o * INPUTS + u * group + v]!];
            both += qa * qw;
            ofA += qa;
            ofW += qw;
          }
          const sum = both - zw * ofA - za * ofW + group * za * zw;
          total += a.scales[t * groups + u]! * w.scales[o * groups + u]! * sum;
        }
        expected[t * OUTPUTS + o] = total;
      }
    const got = await numbers(simulatedLayer(q).call(x));
    expect(Math.sqrt(relativeError(expected, got))).toBeLessThan(1e-3); // a tie may round the other way
  });

  test.each([{ kind: "smooth" }, { kind: "smooth", alpha: 0.8 }, { kind: "repq" }] as const)(
    "the change of variables $kind alone changes nothing",
    async (change) => {
      const values = await numbers(x);
      const channel = (f: (...v: number[]) => number): Float32Array =>
        Float32Array.from({ length: INPUTS }, (_, c) => f(...values.filter((_v, i) => i % INPUTS === c)));
      const [low, high] = [channel(Math.min), channel(Math.max)];
      const magnitude = low.map((l, i) => Math.max(Math.abs(l), Math.abs(high[i]!)));
      const seen = { rows: TOKENS, low, high, magnitude, hessian: undefined };
      const q = await quantizeLayer(
        "layer",
        layer,
        { weight: { bits: 8, granularity: 16, symmetric: false }, change },
        seen,
      );
      const restored = new SimulatedLinear(
        tensor(
          (await numbers(layer.weight)).map((w, i) => w * q.change!.scale[i % INPUTS]!),
          { shape: [OUTPUTS, INPUTS] },
        ),
        q.bias,
        undefined,
        {
          change: {
            scale: tensor(q.change!.scale),
            shift: q.change!.shift && tensor(q.change!.shift),
          },
        },
      );
      expect(await distance(layer.call(x), restored.call(x))).toBeLessThan(2e-6);
      expect(await distance(layer.call(x), simulatedLayer(q).call(x))).toBeLessThan(0.02);
    },
  );

  test("gradients pass straight through the rounding", async () => {
    const f = (input: Tensor): Tensor =>
      quantizeActivations(input, { bits: 4, granularity: 32, symmetric: false }).square().sum();
    const rounded = await numbers(quantizeActivations(x, { bits: 4, granularity: 32, symmetric: false }));
    const g = await numbers(grad(f)(x) as Tensor);
    for (let i = 0; i < g.length; i += 37) expect(g[i]).toBeCloseTo(2 * rounded[i]!, 3);
  });

  test("the packed arrays hold the weight of the simulation", async () => {
    const q = quantizeMatrix(normals(8 * 96, 2), 8, 96, { bits: 4, granularity: 96, symmetric: false });
    const { codes, scales, zeros, layout } = packMatrix(q);
    const w = dequantizeMatrix(q);
    const unpacked = unpackCodes(codes, 4, 8 * 96);
    const zeroBytes = zeros!.length / 8;
    for (let i = 0; i < w.length; i++) {
      const [row, block] = [Math.floor(i / 96), Math.floor((i % 96) / layout.blockSize)];
      const zero = unpackCodes(zeros!.subarray(row * zeroBytes), 4, 3)[block]!;
      expect(scales[row * 3 + block]! * (unpacked[i]! - zero)).toBeCloseTo(w[i]!, 6);
    }
  });

  test("the product of a matrix and its rounding differ by what the bits allow", () => {
    const q = quantizeMatrix(normals(8 * 96, 2), 8, 96, { bits: 8, granularity: 32, symmetric: false });
    const input = normals(5 * 96, 9);
    const exact = product(input, normals(8 * 96, 2), 96);
    expect(Math.sqrt(relativeError(exact, product(input, dequantizeMatrix(q), 96)))).toBeLessThan(0.01);
  });
});

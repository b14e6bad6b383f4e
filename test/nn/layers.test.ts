import { describe, expect, it } from "vitest";
import { ShapeError } from "../../src/errors.ts";
import {
  blankRng,
  Conv1d,
  Conv2d,
  createRng,
  Embedding,
  GaussianFourierFeatures,
  GroupNorm,
  gated,
  LayerNorm,
  LearnedPositions,
  Linear,
  MultiHeadAttention,
  modulate,
  multiHeadAttention,
  parameters,
  sinCosPositions2d,
  timestepEmbedding,
} from "../../src/nn/index.ts";
import { grad, type Tensor, tensor, tril } from "../../src/tensor/index.ts";
import { expectClose, withWeights } from "./layer-kit.ts";

describe("timestepEmbedding", () => {
  it.each([
    [{ flipSinToCos: true, freqShift: 0 }],
    [{ flipSinToCos: true, freqShift: 1 }],
    [{ freqShift: 0, maxPeriod: 50, scale: 0.5 }],
  ])("is the formula in double precision, %j", async (options) => {
    const times = [0, 3, 250, 777];
    const dim = 12;
    const {
      flipSinToCos = false,
      freqShift,
      maxPeriod = 10000,
      scale = 1,
    } = options as {
      flipSinToCos?: boolean;
      freqShift: number;
      maxPeriod?: number;
      scale?: number;
    };
    const expected = times.flatMap((t) => {
      const phases = Array.from({ length: 6 }, (_, i) => scale * t * maxPeriod ** (-i / (6 - freqShift)));
      const [sin, cos] = [phases.map(Math.sin), phases.map(Math.cos)];
      return flipSinToCos ? [...cos, ...sin] : [...sin, ...cos];
    });
    const got = timestepEmbedding(tensor(times, { dtype: "i64" }), dim, options);
    expectClose(await got.toArray(), expected, 1e-4);
  });

  it("refuses other shapes", () => {
    expect(() => timestepEmbedding(tensor([[1]]), 8)).toThrow(ShapeError);
    expect(() => timestepEmbedding(tensor([1]), 1)).toThrow(/1 channels/);
  });
});

/** Attention by loops: rows of q, k, v as [N][T][heads * D]. */
function bruteForce(
  q: number[][][],
  k: number[][][],
  v: number[][][],
  heads: number,
  allowed: (n: number, i: number, j: number) => boolean,
): number[] {
  const depth = q[0]![0]!.length / heads;
  return q.flatMap((rows, n) =>
    rows.flatMap((row, i) =>
      Array.from({ length: heads * depth }, (_, c) => {
        const head = Math.floor(c / depth);
        const scores = k[n]!.map((key, j) => {
          if (!allowed(n, i, j)) return Number.NEGATIVE_INFINITY;
          let dot = 0;
          for (let d = head * depth; d < (head + 1) * depth; d++) dot += row[d]! * key[d]!;
          return dot / Math.sqrt(depth);
        });
        const weights = scores.map((s) => Math.exp(s - Math.max(...scores)));
        const total = weights.reduce((a, b) => a + b, 0);
        return weights.reduce((sum, w, j) => sum + (w / total) * v[n]![j]![c]!, 0);
      }),
    ),
  );
}

async function nested(t: Tensor): Promise<number[][][]> {
  const flat = await t.toArray();
  const [n, rows, columns] = t.shape as [number, number, number];
  return Array.from({ length: n }, (_, a) =>
    Array.from({ length: rows }, (_, b) =>
      flat.slice((a * rows + b) * columns, (a * rows + b + 1) * columns),
    ),
  );
}

describe("attention", () => {
  const rng = createRng(11);
  const [q, k, v] = [rng.normal([2, 4, 6]), rng.normal([2, 4, 6]), rng.normal([2, 4, 6])];

  it.each([
    ["none", undefined, () => true],
    ["causal", tril(4, 4), (_: number, i: number, j: number) => j <= i],
    [
      "per sample",
      tensor([[[true, true, false, true]], [[false, true, true, false]]]),
      (n: number, _: number, j: number) =>
        [
          [1, 1, 0, 1],
          [0, 1, 1, 0],
        ][n]![j] === 1,
    ],
  ] as const)("is what loops compute, mask: %s", async (_, mask, allowed) => {
    const got = multiHeadAttention(q, k, v, { heads: 3, mask });
    const [qa, ka, va] = await Promise.all([nested(q), nested(k), nested(v)]);
    expectClose(await got.toArray(), bruteForce(qa, ka, va, 3, allowed), 2e-6);
  });

  it("takes additive masks", async () => {
    const bias = tensor([0, -0.5, 1, -1e9]).reshape([1, 4]);
    const ones = multiHeadAttention(q, k, v.mul(0).add(1), { heads: 2, mask: bias });
    expectClose(
      await ones.toArray(),
      Array.from({ length: 48 }, () => 1),
      1e-6,
    );
    const last = multiHeadAttention(q, k, v, { heads: 2, mask: tensor([-1e9, -1e9, -1e9, 0]) });
    const rows = await nested(v);
    expectClose(
      await last.toArray(),
      rows.flatMap((sample) => [0, 1, 2, 3].flatMap(() => sample[3]!)),
      1e-6,
    );
  });

  it("has biases and inner widths on request", () => {
    const layer = new MultiHeadAttention(6, blankRng, {
      heads: 2,
      headDim: 5,
      bias: true,
      outBias: false,
      outDim: 3,
    });
    expect([...parameters(layer)].map(([key, t]) => `${key} ${t.shape.join("x")}`)).toEqual([
      "to_q.weight 10x6",
      "to_q.bias 10",
      "to_k.weight 10x6",
      "to_k.bias 10",
      "to_v.weight 10x6",
      "to_v.bias 10",
      "to_out.0.weight 3x10",
    ]);
    expect(layer.call(q).shape).toEqual([2, 4, 3]);
    expect(() => new MultiHeadAttention(6, blankRng, { heads: 4 })).toThrow(/6 channels .* 4 heads/);
  });
});

describe("tables and features", () => {
  it("looks embeddings up and adds up their gradients", async () => {
    const layer = withWeights(
      new Embedding(3, 2, blankRng),
      tensor([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    );
    const ids = tensor(
      [
        [2, 0],
        [2, 2],
      ],
      { dtype: "i64" },
    );
    expect(layer.call(ids).shape).toEqual([2, 2, 2]);
    expect(await layer.call(ids).toArray()).toEqual([5, 6, 1, 2, 5, 6, 5, 6]);
    const gradient = grad((l: Embedding) => l.call(ids).sum())(layer);
    expect(await gradient.weight.toArray()).toEqual([1, 1, 0, 0, 3, 3]);
    expect(() => layer.call(tensor([1]))).toThrow(/integer/);
  });

  it("gives the first learned positions", async () => {
    const layer = withWeights(new LearnedPositions(3, 1, blankRng), tensor([[1], [2], [3]]));
    expect(await layer.call(2).toArray()).toEqual([1, 2]);
    expect(() => layer.call(4)).toThrow(/at most 3 positions, got 4/);
  });

  it("encodes the column first, then the row", async () => {
    const table = sinCosPositions2d(8, 2, 3);
    const expected = [0, 1].flatMap((row) =>
      [0, 1, 2].flatMap((column) =>
        [column, row].flatMap((p) => [Math.sin(p), Math.sin(p / 100), Math.cos(p), Math.cos(p / 100)]),
      ),
    );
    expect(table.shape).toEqual([6, 8]);
    expectClose(await table.toArray(), expected, 6e-8);
  });

  it("turns noise levels into fixed random waves", async () => {
    const layer = withWeights(
      new GaussianFourierFeatures(2, blankRng, { log: true, flipSinToCos: true }),
      tensor([0.5, 2]),
    );
    const x = 2 * Math.PI * Math.log(1.3);
    const expected = [Math.cos(x / 2), Math.cos(2 * x), Math.sin(x / 2), Math.sin(2 * x)];
    expectClose(await layer.call(tensor([1.3])).toArray(), expected, 1e-6);
    const gradient = grad((l: GaussianFourierFeatures) => l.call(tensor([1.3])).sum())(layer);
    expect(await gradient.weight.toArray()).toEqual([0, 0]);
  });

  it("modulates per sample and channel", async () => {
    const x = tensor([
      [
        [1, 2],
        [3, 4],
      ],
    ]); // [1, 2, 2]
    const [shift, scale] = [tensor([[10, 20]]), tensor([[1, 2]])];
    expect(await modulate(x, shift, scale).toArray()).toEqual([12, 26, 16, 32]);
    expect(await modulate(x, shift, scale, 1).toArray()).toEqual([12, 14, 29, 32]);
    expect(await gated(x, scale).toArray()).toEqual([1, 4, 3, 8]);
    expect(() => modulate(x, tensor([[1]]), scale)).toThrow(/expected \[N, 2\]/);
  });
});

describe("errors name what was expected and what came", () => {
  const x = tensor([[1, 2, 3]]);
  it.each([
    ["Linear", () => new Linear(4, 1, blankRng).call(x), /Linear: expected \[\.\.\., 4\], got .*\[1, 3\]/],
    ["Conv", () => new Conv2d(4, 1, 3, blankRng).call(x), /Conv: expected \[N, 4, H, W\], got .*\[1, 3\]/],
    ["Conv1d", () => new Conv1d(4, 1, 3, blankRng).call(x), /Conv: expected \[N, 4, W\]/],
    ["LayerNorm", () => new LayerNorm(4).call(x), /LayerNorm: expected \[\.\.\., 4\], got .*\[1, 3\]/],
    ["GroupNorm", () => new GroupNorm(2, 4).call(x), /GroupNorm: expected \[N, 4, \.\.\.\], got .*\[1, 3\]/],
    ["groups", () => new GroupNorm(3, 4), /4 channels do not split into 3 groups/],
    ["conv groups", () => new Conv2d(4, 6, 3, blankRng, { groups: 4 }), /4 input and 6 output channels/],
    ["kernel", () => new Conv2d(4, 6, [3], blankRng), /kernel with 2 axes, got \[3\]/],
  ] as const)("%s", (_, f, message) => {
    expect(f).toThrow(message);
  });
});

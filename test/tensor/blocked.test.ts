import { describe, expect, it } from "vitest";
import {
  avgPool,
  concat,
  conv,
  exportOnnx,
  fillNormal,
  fillUniform,
  fromHost,
  grad,
  groupNorm,
  importOnnx,
  jit,
  maxPool,
  type Tensor,
  upsample,
} from "../../src/tensor/index.ts";
import { CPU_CAPABILITIES } from "../../src/tensor/onnx/builder.ts";
import { runtime } from "../../src/tensor/runtime/devices.ts";

const random = (shape: readonly number[], sample: number, scale = 1): Tensor => {
  const data = fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 8, sample });
  return fromHost(
    "f32",
    shape,
    data.map((v) => v * scale),
  );
};

type Network = (x: Tensor, weights: readonly Tensor[]) => Tensor;

/** Channels to a block on this machine; undefined where the runtime has no blocked kernels. */
const { channelBlock } = await (await runtime()).capabilities("cpu");
const withBlocks = channelBlock ? it : it.skip;
if (!channelBlock) console.warn("blocked.test: this CPU has no blocked convolutions, so they are not tested");

/** As compiled here, with weights as constants and as arguments, and from an ONNX file, which is never in blocks. */
async function bothWays(
  network: Network,
  x: Tensor,
  weights: readonly Tensor[],
): Promise<{ got: number[][]; want: number[] }> {
  const constant = jit((input: Tensor) => network(input, weights));
  const passed = jit((input: Tensor, w: readonly Tensor[]) => network(input, w));
  const plain = await importOnnx(await exportOnnx((input: Tensor) => network(input, weights), [x]));
  const got = [await (await constant(x)).toArray(), await (await passed(x, weights)).toArray()];
  const { output } = await plain.run({ "input.0": x });
  const want = await output!.toArray();
  await Promise.all([constant.close(), passed.close(), plain.close()]);
  return { got: got as number[][], want: want as number[] };
}

function expectSame({ got, want }: { got: number[][]; want: number[] }): void {
  const size = Math.sqrt(want.reduce((sum, v) => sum + v * v, 0) / want.length);
  for (const values of got) {
    expect(values.length).toBe(want.length);
    for (const [i, v] of want.entries())
      expect(Math.abs(values[i]! - v)).toBeLessThan(1e-4 * Math.max(size, 1));
  }
}

/** Reorderings between the layouts in the graph that the CPU gets, for blocks of 16 channels. */
async function reorders(network: Network, x: Tensor, weights: readonly Tensor[]): Promise<number> {
  const capabilities = { ...CPU_CAPABILITIES, channelBlock: 16 };
  const model = await exportOnnx((input: Tensor) => network(input, weights), [x], { capabilities });
  const text = new TextDecoder("latin1").decode(model);
  return text.split("ReorderInput").length + text.split("ReorderOutput").length - 2;
}

const same = { padding: 1 } as const;

/** Norm, activation, convolution, twice, with scale and shift for each channel, beside a shortcut. */
const block: Network = (x, [w1, b1, w2, b2, s, t, wn, bn]) => {
  const h = conv(groupNorm(x, 4, wn!, bn!).silu(), w1!, b1!, same);
  const modulated = groupNorm(h, 4, wn!, bn!).mul(s!.add(1)).add(t!);
  return x.add(conv(modulated.silu(), w2!, b2!, same));
};
const blockWeights = (c: number, n: number): Tensor[] => [
  random([c, c, 3, 3], 1, 0.1),
  random([c], 2),
  random([c, c, 3, 3], 3, 0.1),
  random([c], 4),
  random([n, c, 1, 1], 5),
  random([n, c, 1, 1], 6),
  random([c], 7),
  random([c], 8),
];
const stem: Network = (x, [w, ...rest]) => block(conv(x, w!, undefined, same), rest);

describe("a chain of convolutions by constant weights", () => {
  withBlocks.each([
    [1, 16, 1],
    [3, 32, 3],
    [2, 48, 1],
    [2, 24, 2],
    [2, 8, 2],
  ])(
    "of %i pictures and %i channels, conditions of %i, gives the same as a plain one",
    async (n, c, each) => {
      const weights = [random([c, 3, 3, 3], 0, 0.3), ...blockWeights(c, each)];
      expectSame(await bothWays(stem, random([n, 3, 7, 10], 9), weights));
    },
  );

  it.each([32, 24])("of %i channels changes its layout for the result alone", async (c) => {
    const weights = [random([c, 3, 3, 3], 0, 0.3), ...blockWeights(c, 1)];
    expect(await reorders(stem, random([1, 3, 8, 8], 9), weights)).toBe(1);
  });

  withBlocks(
    "that do not fill their blocks doubles, pools and joins, whatever the functions between make of zero",
    async () => {
      const network: Network = (x, [w, b, wj, bj, t, wide, pair, few]) => {
        const h = conv(x, w!, b!, same);
        const small = avgPool(h.exp().sub(h.cos()).add(2).reciprocal(), 2);
        const grown = conv(upsample(small.tanh().mul(3), 2), wj!, bj!, same);
        const both = concat(grown, [h.sub(grown).abs()], 1);
        const joined = conv(concat(both, [h.add(t!).mul(t!)], 1), wide!).sub(conv(both, pair!));
        return conv(joined.add(1).div(h.square().add(1)), few!);
      };
      const weights = [
        random([24, 5, 3, 3], 0, 0.1),
        random([24], 1),
        random([24, 24, 3, 3], 2, 0.1),
        random([24], 3),
        random([1, 24, 1, 1], 5),
        random([24, 72, 1, 1], 4, 0.1),
        random([24, 48, 1, 1], 6, 0.1),
        random([8, 24, 1, 1], 7, 0.3),
      ];
      for (const n of [1, 2]) expectSame(await bothWays(network, random([n, 5, 12, 6], 7), weights));
    },
  );

  withBlocks.each([
    [8, 12],
    [8, 10],
    [8, 7],
    [8, 14],
    [4, 12],
  ])(
    "of %i channels of width %i, two columns to a block: strides, kernels of all widths, other widths around",
    async (c, width) => {
      const [before, after] = [
        [1, 0],
        [0, 1],
      ] as const;
      const network: Network = (x, [w, b, k1, k2, k5, wide, narrow, one, t, k3]) => {
        const h = conv(x, w!, b!, same);
        const all = conv(h, k2!, b!, { padding: [before, after] })
          .add(conv(h.exp(), k1!))
          .sub(conv(h, k5!, undefined, { padding: [0, [3, 1]] }))
          .mul(t!)
          .add(t!);
        const down = conv(all, k2!, b!, { padding: [after, after], stride: 2 });
        const wider = conv(all.silu(), wide!, undefined, same);
        const halved = conv(all, wide!, undefined, { padding: 1, stride: 2 });
        const back = conv(wider.add(1), narrow!, b!, { padding: 1 });
        const pooled = conv(upsample(avgPool(back, [2, 1]), [2, 1]), one!, undefined, same);
        const third = conv(all, k3!, b!, { stride: 3, dilation: [2, 1] });
        const spread = conv(all, k3!, b!, { padding: 2, dilation: 2 });
        return concat(
          back.reshape([-1]),
          [down, halved, pooled, third, spread].map((y) => y.reshape([-1])),
          0,
        );
      };
      const weights = [
        random([c, 3, 3, 3], 0, 0.2),
        random([c], 1),
        random([c, c, 1, 1], 2, 0.2),
        random([c, c, 2, 2], 3, 0.2),
        random([c, c, 1, 5], 4, 0.2),
        random([16, c, 3, 3], 5, 0.2),
        random([c, 16, 3, 3], 6, 0.1),
        random([1, c, 3, 3], 7, 0.2),
        random([1, c, 1, 1], 8),
        random([c, c, 3, 3], 9, 0.1),
      ];
      for (const n of [1, 2]) expectSame(await bothWays(network, random([n, 3, 6, width], 9), weights));
    },
  );

  withBlocks("doubles, pools, joins and ends in few channels", async () => {
    const network: Network = (x, [w, b, ws, bs, wj, bj, we]) => {
      const h = conv(x, w!, b!, same);
      const small = conv(h, ws!, bs!, { padding: 1, stride: 2 }).relu();
      const grown = conv(upsample(small, 2), ws!, bs!, same);
      const joined = conv(concat(grown, [h, upsample(avgPool(h, 2), 2)], 1), wj!, bj!, same);
      return conv(maxPool(joined.sigmoid(), 2).div(2).sub(0.25), we!);
    };
    const weights = [
      random([16, 5, 3, 3], 0, 0.2),
      random([16], 1),
      random([16, 16, 3, 3], 2, 0.1),
      random([16], 3),
      random([32, 48, 3, 3], 4, 0.1),
      random([32], 5),
      random([3, 32, 1, 1], 6, 0.3),
    ];
    for (const n of [1, 2]) expectSame(await bothWays(network, random([n, 5, 12, 6], 7), weights));
  });

  withBlocks(
    "keeps plain values that something else reads too, and convolutions whose sum is read twice",
    async () => {
      const network: Network = (x, [w, b]) => {
        const h = conv(x, w!, b!, same);
        const g = conv(h, w!, b!, same);
        return h
          .add(g)
          .mul(g)
          .add(g.transpose([0, 1, 3, 2]))
          .add(h.mean([2, 3], true))
          .add(h.exp().sum(1, true));
      };
      const weights = [random([16, 16, 3, 3], 0, 0.05), random([16], 1, 0.1)];
      expectSame(await bothWays(network, random([2, 16, 6, 6], 2), weights));
    },
  );

  withBlocks(
    "takes up scales and shifts that follow a sum, and sums that follow scales and shifts",
    async () => {
      for (const n of [1, 2]) {
        const network: Network = (x, [w, b, s, t, wn, bn]) => {
          const h = conv(x, w!, b!, same);
          return groupNorm(h, 4, wn!, bn!)
            .mul(s!)
            .add(h.silu())
            .mul(t!)
            .add(s!)
            .add(conv(h.add(t!), w!, b!, same))
            .mul(s!);
        };
        const weights = [
          random([16, 16, 3, 3], 0, 0.1),
          random([16], 1),
          random([n, 16, 1, 1], 2),
          random([1, 16, 1, 1], 3),
          random([16], 5),
          random([16], 6),
        ];
        expectSame(await bothWays(network, random([n, 16, 5, 7], 4), weights));
      }
    },
  );

  withBlocks("has the same gradient for its input", async () => {
    const weights = [random([16, 3, 3, 3], 0, 0.3), ...blockWeights(16, 1)];
    const slope: Network = (x, w) => grad((input: Tensor) => stem(input, w).square().mean())(x);
    expectSame(await bothWays(slope, random([2, 3, 8, 8], 9), weights));
  });

  withBlocks("of no pictures gives no pictures", async () => {
    const network: Network = (x, [w, b]) => conv(conv(x, w!, b!, same).silu(), w!, b!, same);
    const weights = [random([16, 16, 3, 3], 0), random([16], 1)];
    const empty = fromHost("f32", [0, 16, 8, 8], new Float32Array(0));
    expect(await bothWays(network, empty, weights)).toEqual({ got: [[], []], want: [] });
  });
});

withBlocks("group norm of a map far from zero is as exact in blocks as in plain layout", async () => {
  const far: Network = (x, [w, b]) => groupNorm(conv(x, w!, b!), 2, b!.mul(0).add(1), b!.mul(0));
  const one = Float32Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? 1 : 0));
  const weights = [
    fromHost("f32", [16, 16, 1, 1], one),
    fromHost("f32", [16], new Float32Array(16).fill(30)),
  ];
  const x = fromHost("f32", [1, 16, 64, 64], fillUniform(new Float32Array(16 * 4096), { seed: 1 }));
  const { got, want } = await bothWays(far, x, weights);
  for (const values of got)
    for (const [i, v] of want.entries()) expect(Math.abs(values[i]! - v)).toBeLessThan(2e-3);
});

/** The cotangent that a convolution's weight gradient is tried with, of the shape of the result. */
const slopeOf =
  (options: Parameters<typeof conv>[3]): Network =>
  (x, [w, dy]) =>
    grad((weight: Tensor) => conv(x, weight, undefined, options).mul(dy!).sum())(w!);

describe("the weight gradient of a convolution", () => {
  withBlocks.each([
    ["of 3 x 3", [2, 16, 16, 16], [32, 3, 3], { padding: 1 }, [16, 16]],
    [
      "of columns in several blocks, channels in four parts",
      [3, 32, 7, 32],
      [16, 3, 3],
      { padding: 1 },
      [7, 32],
    ],
    ["of narrow maps, several pictures to a block", [8, 16, 5, 4], [48, 3, 3], { padding: 1 }, [5, 4]],
    ["of pictures that share no block", [3, 16, 8, 8], [16, 3, 3], { padding: 1 }, [8, 8]],
    ["of 5 x 5", [2, 16, 9, 16], [16, 5, 5], { padding: 2 }, [9, 16]],
    ["of few channels", [2, 3, 6, 16], [16, 3, 3], { padding: 1 }, [6, 16]],
    ["of one row", [2, 16, 6, 16], [16, 1, 3], { padding: [0, 1] }, [6, 16]],
    ["of one column", [2, 16, 6, 16], [16, 3, 1], { padding: [1, 0] }, [6, 16]],
    ["without padding", [2, 16, 9, 16], [16, 3, 3], {}, [7, 14]],
    ["with more padding than it reaches", [2, 16, 5, 16], [16, 3, 3], { padding: 3 }, [9, 20]],
    [
      "with another padding on each side",
      [2, 16, 6, 16],
      [16, 3, 3],
      {
        padding: [
          [0, 2],
          [2, 1],
        ],
      },
      [6, 17],
    ],
    ["with a stride", [2, 16, 12, 32], [16, 3, 3], { padding: 1, stride: 2 }, [6, 16]],
    [
      "with a stride that passes over the end",
      [2, 16, 14, 32],
      [16, 3, 3],
      { padding: 0, stride: 2 },
      [6, 15],
    ],
    [
      "with a stride of 3 and a dilation of 2",
      [2, 16, 15, 48],
      [16, 3, 3],
      { padding: 2, stride: 3, dilation: 2 },
      [5, 16],
    ],
    ["with a dilation", [2, 16, 9, 16], [16, 3, 3], { padding: 2, dilation: 2 }, [9, 16]],
  ] as const)("%s is the same in blocks", async (_, shape, [k, ...taps], options, size) => {
    const weights = [random([k, shape[1], ...taps], 1), random([shape[0], k, ...size], 2)];
    expectSame(await bothWays(slopeOf(options as Parameters<typeof conv>[3]), random(shape, 3), weights));
  });
});

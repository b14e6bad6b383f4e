/** Cases of quantised arithmetic and of random numbers inside graphs. */
import * as tw from "../../src/tensor/index.ts";
import { at, type Draw, type Input, type Nd, nd, type OpCase, sumOver } from "./op-check.ts";

type ByteType = "i8" | "u8";
const RANGE = { i8: [-128, 127], u8: [0, 255] } as const;

const bytes = (d: Draw, shape: readonly number[], dtype: ByteType): Input =>
  d.ints(shape, RANGE[dtype][0], RANGE[dtype][1], dtype);

function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** The scale that belongs to an index: one for all, per index of the axis, or per block along it. */
function scaleAt(scale: Nd, index: readonly number[], axis: number, blockSize: number): number {
  if (scale.shape.length === 0) return scale.data[0]!;
  if (blockSize === 0) return scale.data[index[axis]!]!;
  return at(scale, index.with(axis, Math.floor(index[axis]! / blockSize)));
}

interface LinearProblem {
  readonly shape: number[];
  readonly axis: number;
  readonly blockSize: number;
  readonly dtype: ByteType;
  readonly scale: Input;
  readonly zero: Input[];
}

function drawLinear(d: Draw, kind: "tensor" | "axis" | "block"): LinearProblem {
  const shape = [d.int(1, 3), d.int(1, 7), d.int(1, 3)];
  const axis = d.int(0, 2);
  const blockSize = kind === "block" ? d.int(1, 4) : 0;
  const scales =
    kind === "tensor"
      ? []
      : kind === "axis"
        ? [shape[axis]!]
        : shape.with(axis, Math.ceil(shape[axis]! / blockSize));
  const dtype = d.pick<ByteType>("i8", "u8");
  const zero = dtype === "u8" || d.int(0, 1) ? [bytes(d, scales, dtype)] : [];
  return { shape, axis, blockSize, dtype, scale: d.real(scales, 0.01, 0.02), zero };
}

const KINDS = ["tensor", "axis", "block"] as const;

const quantizeCases = KINDS.map(
  (kind): OpCase => ({
    name: kind,
    order: 0,
    draw: (d) => {
      const { shape, axis, blockSize, dtype, scale, zero } = drawLinear(d, kind);
      const [low, high] = RANGE[dtype];
      return {
        inputs: [d.real(shape, -2.5, 2.5), scale, ...zero],
        f: (x, s, z) => tw.quantizeLinear(x!, s!, z, { axis, blockSize, dtype }),
        reference: (x, s, z) =>
          nd(shape, (...i) => {
            const q = roundHalfEven(Math.fround(at(x!, i) / scaleAt(s!, i, axis, blockSize)));
            return Math.min(high, Math.max(low, q + (z ? scaleAt(z, i, axis, blockSize) : 0)));
          }),
      };
    },
  }),
);

const dequantizeCases = KINDS.map(
  (kind): OpCase => ({
    name: kind,
    f64: false,
    draw: (d) => {
      const { shape, axis, blockSize, dtype, scale, zero } = drawLinear(d, kind);
      return {
        inputs: [bytes(d, shape, dtype), scale, ...zero],
        f: (q, s, z) => tw.dequantizeLinear(q!, s!, z, { axis, blockSize }),
        reference: (q, s, z) =>
          nd(
            shape,
            (...i) =>
              (at(q!, i) - (z ? scaleAt(z, i, axis, blockSize) : 0)) * scaleAt(s!, i, axis, blockSize),
          ),
      };
    },
  }),
);

const dynamicCase: OpCase = {
  order: 0,
  draw: (d) => ({
    inputs: [d.real(d.shape(1, 3), d.pick(-2, 0.5), 3)],
    f: (x) => tw.dynamicQuantize(x!),
    reference: (x) => {
      const [low, high] = [Math.min(0, ...x!.data), Math.max(0, ...x!.data)];
      const scale = Math.fround((high - low) / 255);
      const zero = Math.min(255, Math.max(0, roundHalfEven(Math.fround(-low / scale))));
      const q = (v: number): number =>
        Math.min(255, Math.max(0, roundHalfEven(Math.fround(v / scale)) + zero));
      return [nd(x!.shape, (...i) => q(at(x!, i))), nd([], () => scale), nd([], () => zero)];
    },
  }),
};

const matmulIntegerCase: OpCase = {
  order: 0,
  draw: (d) => {
    const [m, k, n] = [d.int(1, 4), d.int(1, 6), d.int(1, 4)];
    const [ta, tb] = [d.pick<ByteType>("i8", "u8"), d.pick<ByteType>("i8", "u8")];
    const batch = d.shape(0, 1);
    const zeros = d.int(0, 1) ? [bytes(d, [], ta), bytes(d, d.pick([], [n]), tb)] : [];
    return {
      inputs: [bytes(d, [...batch, m, k], ta), bytes(d, [k, n], tb), ...zeros],
      f: (a, b, za, zb) => tw.matmulInteger(a!, b!, za, zb),
      reference: (a, b, za, zb) =>
        nd([...batch, m, n], (...i) =>
          sumOver([k], (j) => {
            const left = at(a!, [...i.slice(0, -1), j!]) - (za?.data[0] ?? 0);
            return left * (at(b!, [j!, i.at(-1)!]) - (zb ? at(zb, [i.at(-1)!]) : 0));
          }),
        ),
    };
  },
};

const nBitsCase = (bits: 4 | 8): OpCase => ({
  name: `${bits} bits`,
  f64: false,
  tolerance: 1e-5,
  draw: (d) => {
    const [n, k, blockSize] = [d.int(1, 5), d.pick(16, 32, 40, 64), d.pick(16, 32)];
    const blocks = Math.ceil(k / blockSize);
    const layout = { k, n, bits, blockSize };
    const scales = d.real([n, blocks], 0.05, 0.2);
    const zero = d.int(0, 1) ? [d.ints([n, Math.ceil((blocks * bits) / 8)], 0, 255, "u8")] : [];
    const entry = (bytes: Nd, row: number[], i: number): number => {
      const byte = at(bytes, [...row, Math.floor((i * bits) / 8)]);
      return bits === 8 ? byte : i % 2 ? byte >> 4 : byte & 15;
    };
    return {
      // The scales are not an input: the weight is frozen.
      inputs: [
        d.real([...d.shape(0, 1), d.int(1, 3), k]),
        d.ints([n, blocks, (blockSize * bits) / 8], 0, 255, "u8"),
        ...zero,
      ],
      f: (x, packed, z) => {
        const s = tw.tensor(Float32Array.from(scales.data), { shape: scales.shape });
        return tw.matmulNBits(x!.cast("f32"), packed!, s, z, layout);
      },
      reference: (x, packed, z) =>
        nd([...x!.shape.slice(0, -1), n], (...i) => {
          const row = i.at(-1)!;
          return sumOver([k], (j) => {
            const block = Math.floor(j! / blockSize);
            const middle = z ? entry(z, [row], block) : 2 ** (bits - 1);
            const q = entry(packed!, [row, block], j! % blockSize);
            return at(x!, [...i.slice(0, -1), j!]) * (q - middle) * at(scales, [row, block]);
          });
        }),
    };
  },
});

/** Rounding as `dynamicQuantize` does it, then products of integers. */
const dynamicMatmulCase: OpCase = {
  order: 0,
  f64: false,
  tolerance: 1e-5,
  draw: (d) => {
    const [m, k, n] = [d.int(1, 4), d.int(1, 6), d.int(1, 4)];
    const scales = d.real([n], 0.05, 0.2);
    const bias = d.int(0, 1) ? [d.real([n])] : [];
    return {
      inputs: [d.real([m, k]), bytes(d, [k, n], "i8"), ...bias],
      f: (a, b, c) => {
        const s = tw.tensor(Float32Array.from(scales.data), { shape: scales.shape });
        return tw.dynamicQuantizeMatmul(a!.cast("f32"), b!, s, c?.cast("f32"));
      },
      reference: (a, b, c) => {
        const [low, high] = [Math.min(0, ...a!.data), Math.max(0, ...a!.data)];
        const scale = Math.fround((Math.fround(high) - Math.fround(low)) / 255) || 1;
        const zero = Math.min(255, Math.max(0, roundHalfEven(-Math.fround(low) / scale)));
        const code = (v: number): number =>
          Math.min(255, Math.max(0, roundHalfEven(Math.fround(v) / scale) + zero)) - zero;
        return nd([m, n], (i, j) => {
          const sum = sumOver([k], (l) => code(at(a!, [i!, l!])) * at(b!, [l!, j!]));
          return sum * scale * scales.data[j!]! + (c ? c.data[j!]! : 0);
        });
      },
    };
  },
};

const philoxCases = (["uniform", "normal"] as const).map(
  (distribution): OpCase => ({
    name: distribution,
    order: 0,
    tolerance: distribution === "uniform" ? 0 : 3e-7,
    draw: (d) => {
      const at = { seed: d.int(0, 2 ** 31 - 1) * 4194303, sample: d.int(0, 9), step: d.int(0, 2 ** 31 - 1) };
      const shape = d.shape(0, 3, 7);
      const [f, fill] =
        distribution === "uniform" ? [tw.randomUniform, tw.fillUniform] : [tw.randomNormal, tw.fillNormal];
      return {
        inputs: [
          {
            shape: [4],
            data: [at.seed % 2 ** 32, Math.floor(at.seed / 2 ** 32), at.sample, at.step],
            dtype: "i64",
          },
        ],
        f: (key) => f(key!, shape, { purpose: "noise" }),
        reference: () => {
          const size = shape.reduce((a, b) => a * b, 1);
          return { shape, data: [...fill(new Float32Array(size), { ...at, purpose: "noise" })] };
        },
      };
    },
  }),
);

export const quantCases = {
  quantizeLinear: quantizeCases,
  dequantizeLinear: dequantizeCases,
  dynamicQuantize: dynamicCase,
  matmulInteger: matmulIntegerCase,
  dynamicQuantizeMatmul: dynamicMatmulCase,
  matmulNBits: [nBitsCase(4), nBitsCase(8)],
  philox: philoxCases,
};

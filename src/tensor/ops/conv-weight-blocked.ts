/**
 * The weight gradient of a two-dimensional convolution as blocked convolutions (block-form.ts) with the cotangent as
 * their kernel: 1.2 to 1.8 times as fast as matrix products, whose operands are larger and copied on one thread.
 *
 *     dw[k, c, r, s] = sum over n, p, q of dy[n, k, p, q] x[n, c, p + r, q + s]
 *
 * Summed are the kernel's rows p, its columns and input channels. A block of input channels is a run of columns q of one
 * picture (of several, where they are narrow), so that the cotangent in blocks [N, K / b, p, q, b] is the kernel [K, (n, q), p, 1]
 * with two axes exchanged, in runs of whole pictures. The map is x as [(n, q), p, c]: its rows give r, by the padding,
 * and its columns c. A shift s of the columns is one of the cotangent, which a depthwise convolution makes. Where K is small,
 * the pictures are convolved in groups, for all threads to be busy, and the results added.
 */
import { sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { blockedMap, kernel } from "./block-form.ts";
import { convolve } from "./blocked.ts";
import type { WeightGrad } from "./conv-geometry.ts";

/** Units of work that are enough for all threads to be busy: rows of the result by sets of 4 blocks of K. */
const UNITS = 12;

/**
 * Points of the result up to which four blocks of the cotangent, the part of the kernel that is gone through for every six
 * points, stay in the cache of a core (512 KiB). At 64 x 64 it takes up to twice as long as matrix products.
 */
const POINTS = 2048;

/** How operands are cut: the same on all machines with one size of blocks, whatever the number of threads. */
interface Plan {
  readonly block: number;
  /** Columns of the input that meet one column of the kernel, at the stride. */
  readonly width: number;
  /** Pictures that share a block of columns. */
  readonly pack: number;
  readonly groups: number;
  readonly pads: readonly [above: number, below: number];
}

/** The plan, or undefined where matrix products are the right thing. */
function planOf(g: GraphBuilder, { attrs, xa, da }: WeightGrad): Plan | undefined {
  const block = g.capabilities.channelBlock;
  const { kernel: taps, stride, dilation, padding } = attrs;
  if (block === undefined || attrs.groups !== 1 || xa.dtype !== "f32" || taps.length !== 2) return undefined;
  const [n, , height, columns] = xa.shape as [number, number, number, number];
  const [, k, outHeight, outWidth] = da.shape as [number, number, number, number];
  const width = columns / stride[1]!;
  const pack = Math.max(1, block / width);
  if (sizeOf(taps) === 1 || sizeOf(da.shape) === 0 || k % block !== 0) return undefined;
  if (outHeight * outWidth > POINTS) return undefined;
  if (!Number.isInteger(width) || !Number.isInteger(pack) || n % pack !== 0) return undefined;
  if ((width * pack) % block !== 0) return undefined;
  const reach = stride[0]! * (outHeight - 1) + 1 + dilation[0]! * (taps[0]! - 1);
  const above = padding[0]![0];
  const below = reach - height - above;
  if (below <= -dilation[0]!) return undefined; // rows that no tap meets at the end would give more of the result
  const units = Math.ceil(k / block / 4) * taps[0]!;
  const groups = [1, 2, 4].find((d) => d * units >= UNITS && (n / pack) % d === 0) ?? 1;
  return { block, width, pack, groups, pads: [above, Math.max(0, below)] };
}

/** The gradient [K, C, R, S] in the order [R S, K C], or undefined where matrix products are the right thing. */
export function blockedWeightGrad(g: GraphBuilder, of: WeightGrad): string | undefined {
  const plan = planOf(g, of);
  if (!plan) return undefined;
  const { attrs, xa, da } = of;
  const { kernel: taps, stride, dilation, padding } = attrs;
  const [rows, columns] = taps as [number, number];
  const [c, k] = [xa.shape[1]!, da.shape[1]!];
  const { block, width, groups, pads } = plan;
  const cotangent = cotangentBlocks(g, of, plan);
  const results = Array.from({ length: columns }, (_, column) => {
    const offset = column * dilation[1]! - padding[1]![0];
    const shift = Math.floor(offset / stride[1]!);
    const inputs = [mapOf(g, of, plan, offset - shift * stride[1]!), cotangent(shift)];
    const y = convolve(g, inputs, {
      kernel_shape: [da.shape[2]!, Math.max(1, width / block)],
      strides: [dilation[0]!, Math.max(1, width / block)],
      dilations: [stride[0]!, 1],
      pads: [pads[0], 0, pads[1], 0],
      group: groups,
    });
    return g.reshape(y, [1, groups, k * rows * c]);
  });
  const all = results.length === 1 ? results[0]! : g.op("Concat", results, { axis: 0 });
  const sums = g.reshape(groups === 1 ? all : g.sum(all, [1], true), [columns, k, rows, c]);
  const plain = kernel(g, "ReorderOutput", [sums], { channels: k, channels_last: 0 }); // [S, K, R, C]
  return g.reshape(g.transpose(plain, [2, 0, 1, 3]), [rows * columns, k * c]);
}

/**
 * The map [(n, q), p, c] of every stride-th column of x from one of them on: its rows are gathered, which takes half of the
 * time of Transpose. Columns are picked by a product with a matrix of zeros and ones, which is exact.
 */
function mapOf(g: GraphBuilder, { x, attrs, xa }: WeightGrad, plan: Plan, first: number): string {
  const [n, c, height, columns] = xa.shape as [number, number, number, number];
  const { block, width, pack } = plan;
  const step = attrs.stride[1]!;
  const rows = pack * c * height;
  const order = g.once(`rows of ${pack} pictures [${c}, ${height}], channels last`, () => {
    const from = new Int32Array(rows);
    for (let i = 0; i < rows; i++) {
      const [picture, channel] = [i % pack, Math.floor(i / pack) % c];
      from[i] = (picture * c + channel) * height + Math.floor(i / pack / c);
    }
    return g.constant("i32", [rows], from);
  });
  const flat = g.reshape(x, [n * c * height, columns]);
  const picked = step === 1 ? flat : g.op("MatMul", [flat, everyColumn(g, columns, step, first)]);
  const turned = g.op("Gather", [g.reshape(picked, [n / pack, rows, width]), order], { axis: 1 });
  return g.reshape(turned, [1, (n / pack) * block, height, c * Math.max(1, width / block)]);
}

/** Matrix that picks every step-th column from `first` on. */
function everyColumn(g: GraphBuilder, columns: number, step: number, first: number): string {
  const shape = [columns, columns / step];
  const values = new Float32Array(sizeOf(shape));
  for (let to = 0; to < shape[1]!; to++) values[(to * step + first) * shape[1]! + to] = 1;
  return g.constant("f32", shape, values);
}

/** The cotangent as a kernel, shifted by columns to the right, with zeros for what comes in, in the width of the map. */
function cotangentBlocks(g: GraphBuilder, { dy, da }: WeightGrad, plan: Plan): (shift: number) => string {
  const [n, k, height, columns] = da.shape as [number, number, number, number];
  const { block, width, pack, groups } = plan;
  const blocks = blockedMap(g, dy, da.shape) ?? kernel(g, "ReorderInput", [dy], { channels_last: 0 });
  const pictures = n / pack / groups;
  const turned =
    pack === 1
      ? g.transpose(g.reshape(blocks, [groups, pictures, k / block, height * columns * block]), [0, 2, 1, 3])
      : g.transpose(
          g.reshape(blocks, [groups, pictures, pack, k / block, height, columns * block]),
          [0, 3, 1, 4, 2, 5],
        );
  const lanes = pictures * block;
  const rows = g.reshape(turned, [(groups * k) / block, lanes, height * pack, columns]);
  const shape = [groups * k, lanes, height, Math.max(1, width / block)];
  return (shift) => g.reshape(shiftedColumns(g, rows, lanes, [columns, width], shift), shape);
}

/** A blocked map with its columns moved to the right, in another width: a depthwise convolution with one tap that is not 0. */
function shiftedColumns(
  g: GraphBuilder,
  blocks: string,
  lanes: number,
  [columns, width]: readonly [number, number],
  shift: number,
): string {
  const left = Math.max(0, shift);
  const right = width - columns - shift; // negative: columns that go out
  const taps = 1 + left - shift + Math.max(0, -right);
  if (taps === 1 && left === 0 && right === 0) return blocks;
  const block = g.capabilities.channelBlock!;
  const weight = g.once(`shift ${shift} of ${lanes} lanes, ${taps} taps`, () => {
    const values = new Float32Array(lanes * taps);
    for (let i = 0; i < lanes; i++)
      values[(Math.floor(i / block) * taps + left - shift) * block + (i % block)] = 1;
    return g.constant("f32", [lanes, 1, 1, taps], values);
  });
  return convolve(g, [blocks, weight], {
    kernel_shape: [1, taps],
    strides: [1, 1],
    dilations: [1, 1],
    pads: [0, left, 0, Math.max(0, right)],
    group: lanes,
  });
}

/**
 * Convolution in 1, 2 and 3 dimensions. The convolution, its input gradient (the transposed convolution) and its
 * weight gradient are one trilinear form seen from three sides, so each one's derivative is made of the other two.
 */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import { sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Op, Tensor } from "../tensor.ts";
import { blockAdjointWeight, blockedConv, blockFor, blockWeight, constantConv } from "./conv-blocked.ts";
import {
  type ConvGeometry,
  type ConvOptions,
  convSize,
  geometry,
  onnxPads,
  type WeightGradAttrs,
} from "./conv-geometry.ts";
import { doubledTaps, keepsSize, lowerUpsampledConv } from "./conv-upsampled.ts";
import { lowerWeightGrad, permutation } from "./conv-weight-grad.ts";
import { constant } from "./create.ts";
import { apply1, needFloat, needSameDType } from "./op.ts";
import { type BorderMode, pad } from "./pad.ts";

function checkConv(x: Aval, w: Aval, { groups }: ConvGeometry): void {
  needSameDType([x, w]);
  needFloat(x);
  if (x.shape.length < 3 || w.shape.length !== x.shape.length) {
    throw new ShapeError(
      "expected an input [N, C, ...] and a kernel [K, C / groups, ...] with the same number of axes",
    );
  }
  if (w.shape[1]! * groups !== x.shape[1]) {
    throw new ShapeError(
      `the input has ${x.shape[1]} channels, the kernel expects ${w.shape[1]! * groups} (${groups} groups)`,
    );
  }
  if (w.shape[0]! % groups !== 0)
    throw new ShapeError(`${w.shape[0]} output channels do not split into ${groups} groups`);
}

const convOp: Op<ConvGeometry> = {
  name: "conv",
  infer: ([x, w, b], geometry) => {
    checkConv(x!, w!, geometry);
    if (b && (b.shape.length !== 1 || b.shape[0] !== w!.shape[0]))
      throw new ShapeError(`the bias needs shape [${w!.shape[0]}]`);
    const spatial = x!.shape.slice(2).map((d, i) => convSize(d, w!.shape[i + 2]!, i, geometry));
    if (spatial.some((d) => d < 1))
      throw new ShapeError(`the kernel is larger than the padded input: result [${spatial.join(", ")}]`);
    return [{ shape: [x!.shape[0]!, w!.shape[0]!, ...spatial], dtype: x!.dtype }];
  },
  lower: (g, [x, w, b], geometry, { inputs: [xa, wa], outputs: [ya] }) => {
    const [outChannels, inChannels, ...kernel] = wa!.shape as [number, number, ...number[]];
    const { stride: strides, dilation: dilations, groups } = geometry;
    const upsampled = lowerUpsampledConv(g, [x!, w!, b], [xa!, wa!], geometry);
    if (upsampled) return [upsampled];
    const attributes = { kernel_shape: kernel, strides, dilations, pads: onnxPads(geometry), group: groups };
    const block = blockFor(g, xa!, w!, inChannels, outChannels, groups);
    if (block) {
      const weight = blockWeight(g, w!, wa!.shape, block);
      return [blockedConv(g, x!, weight, b, ya!.shape, attributes)];
    }
    const blocked = constantConv(g, [x!, w!, b], [xa!, wa!, ya!], attributes);
    if (blocked !== undefined) return [blocked];
    return [g.op("Conv", b ? [x!, w!, b] : [x!, w!], attributes)];
  },
  vjp: ([ct], [x, w, b], _, geometry) => {
    if (!ct) return [];
    return [
      apply1(convTransposeOp, [ct, w!], { ...geometry, spatial: x!.shape.slice(2) }),
      apply1(convWeightGradOp, [x!, ct], { ...geometry, kernel: w!.shape.slice(2) }),
      b && biasGrad(ct),
    ];
  },
};

/** Sums over each map first: in one go over pictures and maps it takes 1.5 times as long. */
const biasGrad = (ct: Tensor): Tensor => ct.sum(ct.shape.map((_, i) => i).slice(2)).sum(0);

/** What a transposed convolution is recorded with. */
export interface TransposeAttrs extends ConvGeometry {
  /** Spatial shape of the result: the input of the convolution that this is the adjoint of. */
  readonly spatial: readonly number[];
}

const convTransposeOp: Op<TransposeAttrs> = {
  name: "convTranspose",
  infer: ([y, w], attrs) => {
    needSameDType([y!, w!]);
    if (y!.shape[1] !== w!.shape[0])
      throw new ShapeError(
        `the input has ${y!.shape[1]} channels, the kernel [K, C / groups, ...] expects ${w!.shape[0]}`,
      );
    attrs.spatial.forEach((d, i) => {
      const back = convSize(d, w!.shape[i + 2]!, i, attrs);
      if (back !== y!.shape[i + 2])
        throw new ShapeError(
          `a result of size ${d} on spatial axis ${i} would come from ${back}, not ${y!.shape[i + 2]}`,
        );
    });
    return [{ shape: [y!.shape[0]!, w!.shape[1]! * attrs.groups, ...attrs.spatial], dtype: y!.dtype }];
  },
  lower: (g, [y, w], attrs, { inputs: [ya, wa] }) => [lowerTransposed(g, y!, w!, attrs, ya!, wa!)],
  vjp: ([ct], [y, w], _, attrs) => {
    if (!ct) return [];
    return [
      apply1(convOp, [ct, w!], attrs),
      apply1(convWeightGradOp, [ct, y!], { ...attrs, kernel: w!.shape.slice(2) }),
    ];
  },
};

/** With stride 1 a plain convolution by the flipped kernel with its channels exchanged runs faster than ConvTranspose. */
function lowerTransposed(
  g: GraphBuilder,
  y: string,
  w: string,
  attrs: TransposeAttrs,
  ya: Aval,
  wa: Aval,
): string {
  const kernel = wa.shape.slice(2);
  const { stride, dilation, groups } = attrs;
  const reach = kernel.map((k, i) => dilation[i]! * (k - 1));
  const pads = attrs.padding.map(([before, after], i) => [reach[i]! - before, reach[i]! - after] as const);
  if (groups === 1 && stride.every((s) => s === 1) && pads.flat().every((p) => p >= 0)) {
    const [k, c] = wa.shape as [number, number];
    const block = blockFor(g, ya, w, k, c, groups);
    if (block) {
      const weight = blockAdjointWeight(g, w, wa.shape, block, wa.dtype);
      const around = onnxPads({ ...attrs, padding: pads });
      return blockedConv(g, y, weight, undefined, [ya.shape[0]!, c, ...attrs.spatial], {
        kernel_shape: kernel,
        strides: stride,
        dilations: dilation,
        pads: around,
        group: groups,
      });
    }
    const flipped = kernel.some((size) => size > 1) ? flipSpatial(g, w, wa) : w;
    const exchanged = g.transpose(flipped, [1, 0, ...kernel.map((_, i) => i + 2)]);
    return g.op("Conv", [y, exchanged], {
      kernel_shape: kernel,
      strides: stride,
      dilations: dilation,
      pads: onnxPads({ ...attrs, padding: pads }),
      group: 1,
    });
  }
  // What the convolution's floor left over at the far end is added back.
  const rest = attrs.spatial.map(
    (d, i) =>
      d - ((ya.shape[i + 2]! - 1) * stride[i]! + reach[i]! + 1 - attrs.padding[i]![0] - attrs.padding[i]![1]),
  );
  return g.op("ConvTranspose", [y, w], {
    kernel_shape: kernel,
    strides: stride,
    dilations: dilation,
    pads: onnxPads(attrs),
    output_padding: rest,
    group: groups,
  });
}

/** The kernel turned around: a product with the reversal matrix, three times as fast as a Slice with negative steps. */
function flipSpatial(g: GraphBuilder, w: string, { shape, dtype }: Aval): string {
  const size = sizeOf(shape.slice(2));
  const rows = g.reshape(w, [shape[0]! * shape[1]!, size]);
  return g.reshape(g.op("MatMul", [rows, permutation(g, size, (j) => size - 1 - j, dtype)]), shape);
}

const convWeightGradOp: Op<WeightGradAttrs> = {
  name: "convWeightGrad",
  infer: ([x, dy], { kernel, groups }) => {
    needSameDType([x!, dy!]);
    return [{ shape: [dy!.shape[1]!, x!.shape[1]! / groups, ...kernel], dtype: x!.dtype }];
  },
  lower: (g, [x, dy], attrs, { inputs: [xa, da] }) => [
    lowerWeightGrad(g, { x: x!, dy: dy!, attrs, xa: xa!, da: da! }),
  ],
  vjp: ([ct], [x, dy], _, attrs) => {
    if (!ct) return [];
    return [
      apply1(convTransposeOp, [dy!, ct], { ...attrs, spatial: x!.shape.slice(2) }),
      apply1(convOp, [x!, ct], attrs),
    ];
  },
};

/**
 * A 3 x 3 convolution of `u`, which is `x` doubled: [u, x, weight, bias]. Its gradients skip the doubled map: in x it is the
 * transposed convolution with stride 2 by a 4 x 4 kernel, whose adjoints take 4/9 of the arithmetic.
 */
const convDoubledOp: Op<ConvGeometry> = {
  name: "convDoubled",
  infer: ([u, , w, b], geometry) => convOp.infer(b ? [u!, w!, b] : [u!, w!], geometry),
  lower: (g, [u, , w, b], geometry, { inputs: [ua, , wa, ba], outputs }) =>
    convOp.lower(g, b ? [u!, w!, b] : [u!, w!], geometry, {
      inputs: ba ? [ua!, wa!, ba] : [ua!, wa!],
      outputs,
    }),
  vjp: ([ct], [, x, w, b]) => {
    if (!ct) return [];
    const [k, c] = w!.shape as [number, number];
    const taps = constant(w!.dtype, [9, 16], doubledTaps());
    const wide = w!
      .reshape([k * c, 9])
      .matmul(taps)
      .reshape([k, c, 4, 4])
      .transpose([1, 0, 2, 3]);
    const slope = apply1(convWeightGradOp, [ct, x!], { ...HALVING, kernel: [4, 4] }); // [C, K, 4, 4]
    const rows = slope.transpose([1, 0, 2, 3]).reshape([k * c, 16]);
    const dw = rows.matmul(taps, { transB: true }).reshape(w!.shape);
    return [undefined, apply1(convOp, [ct, wide], HALVING), dw, b && biasGrad(ct)];
  },
};

/** The geometry of a convolution by 4 x 4 that halves a map. */
const HALVING: ConvGeometry = {
  stride: [2, 2],
  dilation: [1, 1],
  padding: [
    [1, 1],
    [1, 1],
  ],
  groups: 1,
};

/** What the input of a convolution is the doubling of, where `convDoubledOp` applies. */
function doubledFrom({ node }: Tensor, weight: Tensor, geometry: ConvGeometry): Tensor | undefined {
  const factors = node.op?.name === "upsample" && (node.attrs as { factors: readonly number[] }).factors;
  return String(factors) === "2,2" && keepsSize(weight, geometry) ? node.inputs[0] : undefined;
}

/** Options of `conv`. */
export interface BorderedConvOptions extends ConvOptions {
  /** What the padding consists of: zeros (default), or the tensor's own elements as `pad` takes them. */
  readonly paddingMode?: "zeros" | BorderMode;
  /**
   * The first spatial axis is time: all of its padding lies before, as much as the kernel reaches back, so that nothing
   * depends on what comes later. Its `padding` must be 0. Default false.
   */
  readonly causal?: boolean;
}

/**
 * Cross-correlation: x [N, C, ...], weight [K, C / groups, ...], bias [K] gives [N, K, ...]; 1 to 3 spatial axes. Throws
 * `ArgumentError` for options that make no convolution, `ShapeError` when the shapes do not fit.
 */
export function conv(x: Tensor, weight: Tensor, bias?: Tensor, options: BorderedConvOptions = {}): Tensor {
  const { paddingMode = "zeros", causal = false } = options;
  let attrs = geometry(x, options);
  if (causal) {
    if (attrs.padding[0]?.some((p) => p !== 0))
      throw new ArgumentError(`conv: a causal axis takes no padding of its own, got [${attrs.padding[0]}]`);
    const reach = attrs.dilation[0]! * (weight.shape[2]! - 1);
    attrs = { ...attrs, padding: [[reach, 0], ...attrs.padding.slice(1)] };
  }
  const bordered = paddingMode !== "zeros";
  const input = bordered ? pad(x, [[0, 0], [0, 0], ...attrs.padding], paddingMode) : x;
  const inner = bordered ? { ...attrs, padding: attrs.padding.map(() => [0, 0] as const) } : attrs;
  const last = bias ? [weight, bias] : [weight];
  const small = doubledFrom(input, weight, inner);
  return small
    ? apply1(convDoubledOp, [input, small, ...last], inner)
    : apply1(convOp, [input, ...last], inner);
}

/** Options of `convTranspose`. */
export interface ConvTransposeOptions extends ConvOptions {
  /** Extra size on the far side, to undo the rounding of a strided convolution. */
  readonly outputPadding?: number | readonly number[];
}

/** Transposed convolution: x [N, K, ...], weight [K, C / groups, ...], bias [C] gives [N, C, ...]. */
export function convTranspose(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: ConvTransposeOptions = {},
): Tensor {
  const attrs = geometry(x, options);
  const extra = options.outputPadding ?? 0;
  const spatial = x.shape.slice(2).map((d, i) => {
    const [before, after] = attrs.padding[i]!;
    const more = typeof extra === "number" ? extra : extra[i]!;
    return (
      (d - 1) * attrs.stride[i]! - before - after + attrs.dilation[i]! * (weight.shape[i + 2]! - 1) + more + 1
    );
  });
  const out = apply1(convTransposeOp, [x, weight], { ...attrs, spatial });
  return bias ? out.add(bias.reshape([-1, ...spatial.map(() => 1)])) : out;
}

/** Convolutions, by name. */
export const convOps = {
  conv: convOp,
  convDoubled: convDoubledOp,
  convTranspose: convTransposeOp,
  convWeightGrad: convWeightGradOp,
};

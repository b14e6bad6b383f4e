/** Normalisation by the statistics of the data itself. */
import { ShapeError } from "../../errors.ts";
import type { Aval } from "../aval.ts";
import { DTYPES, type DType, sizeOf } from "../dtype.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import type { Cotangent, Op, Tensor } from "../tensor.ts";
import {
  type BlockForm,
  blockedShape,
  blockForm,
  laneChannels,
  laneValues,
  unblocked,
} from "./block-form.ts";
import { channelAffine, channelMeans } from "./blocked.ts";
import { ones, zeros } from "./create.ts";
import { apply, needFloat, needSameDType } from "./op.ts";
import { reshape } from "./shape.ts";

/**
 * (x - mean) / sqrt(variance + eps) over the last axis, with the mean and the reciprocal deviation as further outputs.
 * Layer, group and instance norm are this operation between two reshapes.
 */
const standardizeOp: Op<{ eps: number }> = {
  name: "standardize",
  infer: ([x]) => {
    needFloat(x!);
    const rows: Aval = { shape: [...x!.shape.slice(0, -1), 1], dtype: x!.dtype };
    return [x!, rows, rows];
  },
  lower: (g, [x], { eps }, { inputs: [a] }) => normalizeRows(g, x!, a!.dtype, a!.shape.at(-1)!, eps),
  vjp: ([ct, ctMean, ctInv], [x], [y, , inv]) => {
    const n = x!.shape.at(-1)!;
    let dx: Tensor | undefined;
    if (ct) {
      const centred = ct.sub(ct.mean(-1, true)).sub(y!.mul(ct.mul(y!).mean(-1, true)));
      dx = inv!.mul(centred);
    }
    if (ctMean) dx = dx ? dx.add(ctMean.mul(1 / n)) : ctMean.mul(1 / n).broadcastTo(x!.shape);
    if (ctInv) {
      const term = y!.mul(
        inv!
          .square()
          .mul(ctInv)
          .mul(-1 / n),
      ); // d inv / dx = -inv^2 y / n
      dx = dx ? dx.add(term) : term;
    }
    return [dx];
  },
};

/**
 * Normalised rows, their means and reciprocal deviations. LayerNormalization keeps its statistics in f32 whatever the
 * input is, so they are cast, and double precision needs the formula written out.
 */
function normalizeRows(g: GraphBuilder, x: string, dtype: DType, size: number, eps: number): string[] {
  if (dtype === "f64") {
    const mean = g.op("ReduceMean", [x, g.ints([-1])], { keepdims: 1 });
    const centred = g.op("Sub", [x, mean]);
    const variance = g.op("ReduceMean", [g.op("Mul", [centred, centred]), g.ints([-1])], { keepdims: 1 });
    const inv = g.op("Reciprocal", [g.op("Sqrt", [g.op("Add", [variance, g.scalar(dtype, eps)])])]);
    return [g.op("Mul", [centred, inv]), mean, inv];
  }
  const ones = g.full(dtype, [size], 1);
  const [y, ...rows] = g.node("LayerNormalization", [x, ones], { axis: -1, epsilon: { float: eps } }, 3);
  return [y!, ...rows.map((r) => (dtype === "f32" ? r : g.op("Cast", [r], { to: DTYPES[dtype].onnx })))];
}

/** [lanes, G]: 1 where the channel of a lane is of a group. */
const membership = (g: GraphBuilder, form: BlockForm, channels: number, groups: number): string =>
  g.once(`${channels} channels in ${groups} groups`, () => {
    const values = new Float32Array(form.lanes * groups);
    laneChannels(form, channels).forEach((c, lane) => {
      if (c >= 0) values[lane * groups + Math.floor((c * groups) / channels)] = 1;
    });
    return g.constant("f32", [form.lanes, groups], values);
  });

/** Group norm of a blocked map by its channels' means and mean squares: [plain result, means, reciprocal deviations]. */
function normalizeBlocked(
  g: GraphBuilder,
  x: string,
  [weight, bias]: readonly [string, string],
  shape: readonly number[],
  { groups, eps }: GroupNormAttrs,
): string[] {
  const [n, c] = shape as [number, number];
  const form = blockForm(g, shape)!;
  const inBlocks = blockedShape(shape, form);
  const ofLanes = (v: string): string => laneValues(g, g.reshape(v, [1, c]), [1, c], form);
  const member = membership(g, form, c, groups);
  const average = g.op("Mul", [member, g.scalar("f32", groups / c / form.columns)]);
  const [mean, squares] = [x, g.op("Mul", [x, x])].map((map) =>
    g.op("MatMul", [channelMeans(g, map, inBlocks), average]),
  ) as [string, string]; // [N, G]
  const variance = g.op("Relu", [g.op("Sub", [squares, g.op("Mul", [mean, mean])])]);
  const inv = g.op("Pow", [g.op("Add", [variance, g.scalar("f32", eps)]), g.scalar("f32", -0.5)]);
  const weights = g.op("Mul", [g.transpose(member, [1, 0]), ofLanes(weight)]); // [G, lanes]
  const scale = g.op("MatMul", [inv, weights]); // [N, lanes]
  const centre = g.op("MatMul", [g.op("Mul", [mean, inv]), weights]);
  const y = channelAffine(g, x, inBlocks, scale, g.op("Sub", [ofLanes(bias), centre]));
  return [unblocked(g, y, shape), g.reshape(mean, [n, groups, 1]), g.reshape(inv, [n, groups, 1])];
}

/** What a group norm is recorded with. */
export interface GroupNormAttrs {
  readonly groups: number;
  readonly eps: number;
}

/**
 * Group norm with its affine part: x [N, C, ...], weight [C], bias [C] give y, and mean and reciprocal deviation
 * [N, G, 1]. The gradient is written in x itself (no normalised copy is kept) as dx = a dy + b x + c, where a is per
 * channel and b and c are per group: half the passes of differentiating the formula step by step.
 */
const groupNormOp: Op<GroupNormAttrs> = {
  name: "groupNorm",
  infer: ([x, weight, bias], { groups }) => {
    needSameDType([x!, weight!, bias!]);
    needFloat(x!);
    const [n, c] = x!.shape as [number, number];
    if (x!.shape.length < 2 || !Number.isInteger(groups) || groups < 1 || c % groups !== 0) {
      throw new ShapeError(`${c} channels do not split into ${groups} groups`);
    }
    for (const p of [weight!, bias!]) {
      if (p.shape.length !== 1 || p.shape[0] !== c)
        throw new ShapeError(`weight and bias need shape [${c}], got [${p.shape.join(", ")}]`);
    }
    const statistics: Aval = { shape: [n, groups, 1], dtype: x!.dtype };
    return [x!, statistics, statistics];
  },
  lower: (g, [x, weight, bias], { groups, eps }, { inputs: [xa] }) => {
    const [n, c, ...spatial] = xa!.shape as [number, number, ...number[]];
    const size = sizeOf(xa!.shape.slice(1)) / groups;
    const blocked = g.blocked.get(x!);
    if (blocked !== undefined && g.isConstant(weight!) && g.isConstant(bias!))
      return normalizeBlocked(g, blocked, [weight!, bias!], xa!.shape, { groups, eps });
    const rows = g.reshape(x!, [n, groups, size]);
    const [normal, mean, inv] = normalizeRows(g, rows, xa!.dtype, size, eps);
    // One channel per group and constant weights (no training): one kernel writes once where the steps below write thrice.
    if (
      groups === c &&
      spatial.length > 0 &&
      xa!.dtype === "f32" &&
      g.isConstant(weight!) &&
      g.isConstant(bias!)
    ) {
      const attributes = { epsilon: { float: eps } };
      return [g.op("InstanceNormalization", [x!, weight!, bias!], attributes), mean!, inv!];
    }
    const channels = [c, ...spatial.map(() => 1)];
    const scaled = g.op("Mul", [g.reshape(normal!, xa!.shape), g.reshape(weight!, channels)]);
    return [g.op("Add", [scaled, g.reshape(bias!, channels)]), mean!, inv!];
  },
  vjp: ([ct, ctMean, ctInv], [x, weight], [, mean, inv], { groups }) => {
    const [n, c] = x!.shape as [number, number];
    const perGroup = c / groups;
    const size = x!.size / n / groups;
    const group = (t: Tensor): Tensor => reshape(t, [n, groups, perGroup]); // [N, C] to [N, G, C/G]
    const overMap = (t: Tensor): Tensor => reshape(t, [...t.shape, ...x!.shape.slice(2).map(() => 1)]);
    const channels = (t: Tensor): Tensor => overMap(reshape(t.broadcastTo([n, groups, perGroup]), [n, c]));
    let b: Tensor | undefined; // coefficient of x, [N, G, 1]
    let shift: Tensor | undefined; // the constant, [N, G, 1]
    const grads: Cotangent[] = [undefined, undefined, undefined];
    const plus = (a: Tensor | undefined, t: Tensor): Tensor => (a ? a.add(t) : t);
    if (ct) {
      const dy = reshape(ct, [n, c, -1]);
      const sum = group(dy.sum(2)); // of dy per channel
      const dot = group(dy.mul(reshape(x!, [n, c, -1])).sum(2)); // of dy x per channel
      const centred = dot.sub(sum.mul(mean!)).mul(inv!); // of dy times normalised x
      const w = reshape(weight!, [1, groups, perGroup]);
      b = centred
        .mul(w)
        .sum(2, true)
        .mul(inv!.square())
        .mul(-1 / size);
      shift = b
        .mul(mean!)
        .neg()
        .sub(
          sum
            .mul(w)
            .sum(2, true)
            .mul(inv!)
            .mul(1 / size),
        );
      grads[0] = ct.mul(channels(inv!.mul(w)));
      grads[1] = reshape(centred.sum(0), [c]);
      grads[2] = reshape(sum.sum(0), [c]);
    }
    if (ctInv) {
      const k = ctInv.mul(inv!.square().mul(inv!)).mul(-1 / size); // d inv / dx = -inv^3 (x - mean) / size
      b = plus(b, k);
      shift = plus(shift, k.mul(mean!).neg());
    }
    if (ctMean) shift = plus(shift, ctMean.mul(1 / size));
    if (b) grads[0] = plus(grads[0], x!.mul(channels(b)));
    if (shift) grads[0] = grads[0] ? grads[0].add(channels(shift)) : channels(shift).broadcastTo(x!.shape);
    return grads;
  },
};

/** Zero mean and unit variance over the last axis. */
export function standardize(x: Tensor, eps = 1e-5): Tensor {
  return apply(standardizeOp, [x], { eps })[0]!;
}

/** Layer norm over the last axis: x [..., D], weight and bias [D]. */
export function layerNorm(x: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  const scaled = weight ? standardize(x, eps).mul(weight) : standardize(x, eps);
  return bias ? scaled.add(bias) : scaled;
}

/** Root-mean-square norm over the last axis (Zhang and Sennrich 2019). */
export function rmsNorm(x: Tensor, weight?: Tensor, eps = 1e-6): Tensor {
  const scaled = x.mul(x.square().mean(-1, true).add(eps).sqrt().reciprocal());
  return weight ? scaled.mul(weight) : scaled;
}

const perChannel = (v: Tensor, x: Tensor): Tensor => reshape(v, [v.size, ...x.shape.slice(2).map(() => 1)]);

/** Group norm (Wu and He 2018): x [N, C, ...], weight and bias [C]; statistics over each of `groups` groups of channels. */
export function groupNorm(x: Tensor, groups: number, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  const c = [x.shape[1] ?? 0];
  return apply(groupNormOp, [x, weight ?? ones(c, x.dtype), bias ?? zeros(c, x.dtype)], { groups, eps })[0]!;
}

/** Instance norm: group norm with one channel per group. */
export function instanceNorm(x: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  return groupNorm(x, x.shape[1]!, weight, bias, eps);
}

/** Batch norm of x [N, C, ...] by given statistics [C] (inference), or by the batch's own. */
export function batchNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  statistics?: { mean: Tensor; variance: Tensor },
  eps = 1e-5,
): Tensor {
  const axes = x.shape.map((_, i) => i).filter((i) => i !== 1);
  const mean = statistics ? perChannel(statistics.mean, x) : x.mean(axes, true);
  const variance = statistics ? perChannel(statistics.variance, x) : x.variance(axes, true);
  return x
    .sub(mean)
    .mul(variance.add(eps).sqrt().reciprocal().mul(perChannel(weight, x)))
    .add(perChannel(bias, x));
}

/** Normalisations, by name. */
export const normalizeOps = { standardize: standardizeOp, groupNorm: groupNormOp };

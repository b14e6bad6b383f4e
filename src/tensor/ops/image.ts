/** Resampling of images and volumes [N, C, ...], with the conventions of torch's `interpolate` and `grid_sample`. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { hostArray, sizeOf } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";
import { logicalAnd, mod, where } from "./arithmetic.ts";
import { cast } from "./cast.ts";
import { arange, constant, fromHost } from "./create.ts";
import { abs, clip, floor, round } from "./elementwise.ts";
import { gather } from "./indexing.ts";
import { matmul } from "./matmul.ts";
import { avgPool, upsample } from "./pool.ts";
import { reshape, transpose } from "./shape.ts";
import { select } from "./slice.ts";

/** How a picture is resized; `area` averages, for making it smaller. */
export type ResizeMode = "nearest" | "bilinear" | "bicubic" | "area";

/** Options of `resize`. */
export interface ResizeOptions {
  /** `bilinear` and `bicubic` work along each spatial axis, however many there are. Default `bilinear`. */
  readonly mode?: ResizeMode;
  /** Widens the filter when shrinking, so that no input is skipped (bilinear and bicubic). Default false. */
  readonly antialias?: boolean;
  /** The outermost elements keep their places (bilinear and bicubic). Default false. */
  readonly alignCorners?: boolean;
}

/** Convolution kernel of cubic interpolation (Keys 1981). */
function cubic(x: number, a: number): number {
  const t = Math.abs(x);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

type Weights = readonly (readonly [index: number, weight: number])[];

/** Inputs and their weights for one output position. */
function weightsAt(i: number, size: number, out: number, options: Required<ResizeOptions>): Weights {
  const { mode, antialias, alignCorners } = options;
  if (mode === "area") {
    const start = Math.floor((i * size) / out);
    const end = Math.ceil(((i + 1) * size) / out);
    return Array.from({ length: end - start }, (_, k) => [start + k, 1 / (end - start)] as const);
  }
  const scale = alignCorners ? (out > 1 ? (size - 1) / (out - 1) : 0) : size / out;
  if (antialias) return antialiased(i, size, scale, mode);
  const centre = alignCorners ? i * scale : (i + 0.5) * scale - 0.5;
  const at = mode === "bilinear" ? Math.max(0, centre) : centre;
  const first = Math.floor(at);
  const inside = (k: number): number => Math.min(size - 1, Math.max(0, k));
  if (mode === "bilinear") {
    return [
      [inside(first), 1 - (at - first)],
      [inside(first + 1), at - first],
    ];
  }
  return [-1, 0, 1, 2].map((k) => [inside(first + k), cubic(at - first - k, -0.75)] as const);
}

function antialiased(i: number, size: number, scale: number, mode: ResizeMode): Weights {
  const reach = (mode === "bilinear" ? 1 : 2) * Math.max(1, scale);
  const centre = scale * (i + 0.5);
  const start = Math.max(0, Math.trunc(centre - reach + 0.5));
  const end = Math.min(size, Math.trunc(centre + reach + 0.5));
  const weights = Array.from({ length: end - start }, (_, k) => {
    const x = (start + k - centre + 0.5) / Math.max(1, scale);
    return mode === "bilinear" ? Math.max(0, 1 - Math.abs(x)) : cubic(x, -0.5);
  });
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w, k) => [start + k, w / total] as const);
}

/** Resamples one axis by a matrix product; gradients of any order come with it. */
function resizeAxis(x: Tensor, axis: number, out: number, options: Required<ResizeOptions>): Tensor {
  const size = x.shape[axis]!;
  if (size === out) return x;
  if (options.mode === "nearest") {
    // In f32, as torch does it: floor(i scale) may differ from exact arithmetic at whole numbers.
    const scale = Math.fround(size / out);
    const from = Array.from({ length: out }, (_, i) =>
      Math.min(size - 1, Math.floor(Math.fround(i * scale))),
    );
    return gather(x, from, axis);
  }
  const matrix = new Float64Array(out * size);
  for (let i = 0; i < out; i++) {
    for (const [k, w] of weightsAt(i, size, out, options)) matrix[i * size + k]! += w;
  }
  const m = fromHost(x.dtype, [out, size], hostArray(x.dtype, matrix));
  const [before, after] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)];
  const inner = sizeOf(after);
  const product =
    inner === 1
      ? matmul(reshape(x, [-1, size]), m, { transB: true })
      : matmul(m, reshape(x, [sizeOf(before), size, inner]));
  return reshape(product, [...before, out, ...after]);
}

/**
 * x [N, C, ...] resampled to the spatial size, with the conventions of torch's `interpolate`. Nearest takes
 * floor(i in / out); area averages (adaptive average pooling); bicubic has a = -0.75, or -0.5 with `antialias`.
 */
export function resize(x: Tensor, size: number | readonly number[], options: ResizeOptions = {}): Tensor {
  const spatial = x.shape.slice(2);
  const to = typeof size === "number" ? spatial.map(() => size) : size;
  if (x.rank < 3 || to.length !== spatial.length || to.some((d) => !Number.isInteger(d) || d < 1))
    throw new ShapeError(`resize: ${x} has ${Math.max(0, x.rank - 2)} spatial axes, got a size of [${to}]`);
  const { mode = "bilinear", antialias = false, alignCorners = false } = options;
  if ((antialias || alignCorners) && mode !== "bilinear" && mode !== "bicubic")
    throw new ArgumentError(`resize: antialias and alignCorners do not apply to "${mode}"`);
  if (mode === "nearest" && to.every((d, i) => d % spatial[i]! === 0))
    return to.join() === spatial.join()
      ? x
      : upsample(
          x,
          to.map((d, i) => d / spatial[i]!),
        );
  if (mode === "area" && to.every((d, i) => spatial[i]! % d === 0))
    return avgPool(
      x,
      to.map((d, i) => spatial[i]! / d),
    );
  // Shrinking axes first leaves less to do for the others.
  const axes = spatial.map((_, i) => i).sort((a, b) => to[a]! / spatial[a]! - to[b]! / spatial[b]!);
  return axes.reduce((y, i) => resizeAxis(y, i + 2, to[i]!, { mode, antialias, alignCorners }), x);
}

/** Channels to space (Shi et al. 2016): [N, C rᵏ, ...] to [N, C, ... r] with k spatial axes. */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  const [n, c, ...spatial] = x.shape as [number, number, ...number[]];
  const k = spatial.length;
  if (!Number.isInteger(factor) || factor < 1 || c % factor ** k !== 0)
    throw new ShapeError(`pixelShuffle: the channels of ${x} do not divide by ${factor}^${k}`);
  const apart = reshape(x, [n, c / factor ** k, ...spatial.map(() => factor), ...spatial]);
  const order = [0, 1, ...spatial.flatMap((_, i) => [2 + k + i, 2 + i])];
  return reshape(transpose(apart, order), [n, c / factor ** k, ...spatial.map((d) => d * factor)]);
}

/** Space to channels, the inverse of `pixelShuffle`. */
export function pixelUnshuffle(x: Tensor, factor: number): Tensor {
  const [n, c, ...spatial] = x.shape as [number, number, ...number[]];
  const k = spatial.length;
  if (!Number.isInteger(factor) || factor < 1 || spatial.some((d) => d % factor !== 0))
    throw new ShapeError(`pixelUnshuffle: the spatial axes of ${x} do not divide by ${factor}`);
  const apart = reshape(x, [n, c, ...spatial.flatMap((d) => [d / factor, factor])]);
  const order = [0, 1, ...spatial.map((_, i) => 3 + 2 * i), ...spatial.map((_, i) => 2 + 2 * i)];
  return reshape(transpose(apart, order), [n, c * factor ** k, ...spatial.map((d) => d / factor)]);
}

/** Options of `gridSample`. */
export interface GridSampleOptions {
  /** Default `bilinear`. */
  readonly mode?: "bilinear" | "nearest";
  /** What lies outside. Default `zeros`. */
  readonly padding?: "zeros" | "border" | "reflection";
  /** -1 and 1 are the centres of the outermost elements instead of their outer edges. Default false. */
  readonly alignCorners?: boolean;
}

/** Mirrors a coordinate at both ends until it lies between them. */
function reflect(x: Tensor, low: number, high: number): Tensor {
  const span = high - low;
  if (span === 0) return x.mul(0);
  const from = abs(x.sub(low));
  const rest = mod(from, span);
  const odd = mod(floor(from.div(span)), 2).greater(0.5);
  return where(odd, rest.neg().add(span), rest).add(low);
}

/** One axis of the grid, in elements. */
function coordinate(g: Tensor, size: number, { padding, alignCorners }: GridSampleOptions): Tensor {
  const at = alignCorners
    ? g.add(1).mul((size - 1) / 2)
    : g
        .add(1)
        .mul(size / 2)
        .sub(0.5);
  if (padding === "border") return clip(at, 0, size - 1);
  if (padding === "reflection") {
    const mirrored = alignCorners ? reflect(at, 0, size - 1) : reflect(at, -0.5, size - 0.5);
    return clip(mirrored, 0, size - 1);
  }
  return at;
}

interface Corner {
  /** Whole index along the axis, as a float inside the axis. */
  readonly index: Tensor;
  /** Its weight; 0 outside. Absent: 1 everywhere. */
  readonly weight: Tensor | undefined;
}

/** The neighbours of a coordinate along one axis. */
function corners(at: Tensor, size: number, { mode, padding }: GridSampleOptions): Corner[] {
  const inside = (index: Tensor, weight: Tensor | undefined): Corner => {
    const clipped = clip(index, 0, size - 1);
    if (padding !== "zeros") return { index: clipped, weight };
    const valid = cast(logicalAnd(index.greaterEqual(0), index.lessEqual(size - 1)), at.dtype);
    return { index: clipped, weight: weight ? weight.mul(valid) : valid };
  };
  if (mode === "nearest") return [inside(round(at), undefined)];
  const first = floor(at);
  const far = at.sub(first);
  return [inside(first, far.neg().add(1)), inside(first.add(1), far)];
}

/**
 * x [N, C, ...] at the points of grid [N, ..., k] in [-1, 1], k = number of spatial axes, last axis first (x, y, z), as
 * torch's `grid_sample`: gives [N, C, ...]. Differentiable in both.
 */
export function gridSample(x: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
  const { mode = "bilinear", padding = "zeros", alignCorners = false } = options;
  for (const [name, value, known] of [
    ["mode", mode, ["bilinear", "nearest"]],
    ["padding", padding, ["zeros", "border", "reflection"]],
  ] as const)
    if (!(known as readonly string[]).includes(value))
      throw new ArgumentError(`gridSample: ${name} is one of ${known.join(", ")}, got "${value}"`);
  const [n, c, ...spatial] = x.shape as [number, number, ...number[]];
  const k = spatial.length;
  if (k < 1 || grid.rank < 2 || grid.shape[0] !== n || grid.shape.at(-1) !== k) {
    throw new ShapeError(`gridSample: ${x} needs a grid [${n}, ..., ${k}], got ${grid}`);
  }
  const full = { mode, padding, alignCorners };
  const points = reshape(grid, [n, -1, k]);
  const perAxis = spatial.map((size, axis) =>
    corners(coordinate(select(points, 2, k - 1 - axis), size, full), size, full),
  );
  const stride = spatial.map((_, i) => sizeOf(spatial.slice(i + 1)));
  const volume = sizeOf(spatial);
  const rows = reshape(transpose(x, [0, ...spatial.map((_, i) => i + 2), 1]), [n * volume, c]);
  const first = n === 1 ? constant("i64", [], [0]) : reshape(arange(0, n * volume, volume), [n, 1]);
  let total: Tensor | undefined;
  for (const choice of combinations(perAxis)) {
    const flat = choice.reduce((sum, corner, i) => sum.add(cast(corner.index, "i64").mul(stride[i]!)), first);
    const weights = choice.flatMap(({ weight }) => (weight ? [weight] : []));
    const values = gather(rows, flat, 0); // [N, P, C]
    const term = weights.length ? values.mul(weights.reduce((a, b) => a.mul(b)).unsqueeze(2)) : values;
    total = total ? total.add(term) : term;
  }
  return reshape(transpose(total!, [0, 2, 1]), [n, c, ...grid.shape.slice(1, -1)]);
}

/** One entry of every list, in all ways. */
function combinations<T>(lists: readonly (readonly T[])[]): T[][] {
  return lists.reduce<T[][]>((all, list) => all.flatMap((head) => list.map((v) => [...head, v])), [[]]);
}

/** Small linear algebra, composed functions, scatter and segments, padded convolutions against torch's. */
import * as tw from "../../src/tensor/index.ts";
import { torchCases } from "./torch-cases.ts";

torchCases(
  "torch-math.json",
  {
    inverse: (_, a) => tw.inverse(a!),
    determinant: (_, a) => tw.determinant(a!),
    solve: (_, a, b) => tw.solve(a!, b!),
    cholesky: (_, a) => tw.cholesky(a!),
    triangularSolve: (options: tw.TriangularOptions, a, b) => tw.triangularSolve(a!, b!, options),
    cross: ({ axis }: { axis?: number }, a, b) => tw.cross(a!, b!, axis),
    atan2: (_, y, x) => tw.atan2(y!, x!),
    std: ({ axes, correction }: { axes?: number[]; correction?: number }, x) =>
      x!.std(axes, false, correction),
    log1p: (_, x) => x!.log1p(),
    expm1: (_, x) => x!.expm1(),
    leakyRelu: ({ slope }: { slope: number }, x) => x!.leakyRelu(slope),
    elu: ({ alpha }: { alpha: number }, x) => x!.elu(alpha),
    outer: (_, a, b) => tw.outer(a!, b!),
    diag: (_, x) => tw.diag(x!),
    diagonal: (_, x) => tw.diagonal(x!),
    meshgrid: ({ index, indexing }: { index: number; indexing: "ij" | "xy" }, ...vectors) =>
      tw.meshgrid(vectors, indexing)[index]!,
    argsort: ({ axis, descending }: { axis: number; descending: boolean }, x) => x!.argsort(axis, descending),
    scatterElements: ({ axis, reduction }: { axis: number; reduction: tw.Reduction }, x, i, u) =>
      x!.scatterElements(i!, u!, axis, reduction),
    segmentSum: ({ segments }: { segments: number }, x, ids) => tw.segmentSum(x!, ids!, segments),
    segmentMax: ({ segments, empty }: { segments: number; empty: number }, x, ids) =>
      tw.segmentMax(x!, ids!, segments, empty),
    searchsorted: ({ side }: { side: "left" | "right" }, sorted, values) =>
      tw.searchsorted(sorted!, values!, side),
    conv: (options: tw.BorderedConvOptions, x, w) => tw.conv(x!, w!, undefined, options),
  },
  [2e-5, 1e-4],
);

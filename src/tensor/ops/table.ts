/** The table of all operations. Tests iterate over it, so that none goes without a proof of its gradient. */

import type { AnyOp } from "../tensor.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { attentionOps } from "./attention.ts";
import { castOps } from "./cast.ts";
import { convOps } from "./conv.ts";
import { cumulativeOps } from "./cumulative.ts";
import { elementwiseOps } from "./elementwise.ts";
import { gradientControlOps } from "./gradient-control.ts";
import { indexingOps } from "./indexing.ts";
import { matmulOps } from "./matmul.ts";
import { normalizeOps } from "./normalize.ts";
import { poolOps } from "./pool.ts";
import { quantOps } from "./quant.ts";
import { randomOps } from "./random.ts";
import { reduceOps } from "./reduce.ts";
import { shapeOps } from "./shape.ts";
import { sliceOps } from "./slice.ts";
import { weightedSumOps } from "./weighted-sum.ts";

/** All operations by name. */
export const OPS = {
  ...elementwiseOps,
  ...arithmeticOps,
  ...reduceOps,
  ...cumulativeOps,
  ...matmulOps,
  ...convOps,
  ...attentionOps,
  ...poolOps,
  ...normalizeOps,
  ...indexingOps,
  ...shapeOps,
  ...sliceOps,
  ...gradientControlOps,
  ...castOps,
  ...randomOps,
  ...quantOps,
  ...weightedSumOps,
} satisfies Record<string, AnyOp>;

export type OpName = keyof typeof OPS;

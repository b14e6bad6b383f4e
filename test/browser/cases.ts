/** What runs in the browser: the cases of every operation, and whole little networks. */
import * as t from "../../src/tensor/index.ts";
import { CASES } from "../tensor/op-cases.ts";
import type { OpCase } from "../tensor/op-check.ts";

const NETWORKS: Record<string, OpCase> = {
  resnetBlock: {
    draw: (d) => ({
      inputs: [d.real([2, 8, 6, 6]), d.real([8, 8, 3, 3], -0.3, 0.3), d.real([8]), d.real([8])],
      f: (x, w, gamma, beta) =>
        t.conv(t.silu(t.groupNorm(x!, 4, gamma, beta)), w!, undefined, { padding: 1 }).add(x!),
    }),
  },
  attention: {
    draw: (d) => ({
      inputs: [d.real([2, 2, 5, 4]), d.real([2, 2, 7, 4]), d.real([2, 2, 7, 4])],
      f: (q, k, v) => t.attention(q!, k!, v!),
    }),
  },
  mlp: {
    draw: (d) => ({
      inputs: [d.real([4, 6]), d.real([8, 6]), d.real([8]), d.real([3, 8])],
      f: (x, w1, b1, w2) => t.logSoftmax(t.linear(t.quickGelu(t.linear(x!, w1!, b1!)), w2!)),
    }),
  },
  upsampled: {
    draw: (d) => ({
      inputs: [d.real([1, 4, 3, 3]), d.real([4, 2, 4, 4])],
      f: (x, w) => t.convTranspose(x!, w!, undefined, { stride: 2, padding: 1 }).tanh(),
    }),
  },
};

export const ALL_CASES: Record<string, OpCase | readonly OpCase[]> = { ...CASES, ...NETWORKS };

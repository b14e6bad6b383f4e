/** Values and gradients of resampling, attention and norms against torch's (test/fixtures/torch-ops.json). */
import { readFileSync } from "node:fs";
import { describe, it } from "vitest";
import * as tw from "../../src/tensor/index.ts";
import { assertClose, type Nd } from "./op-check.ts";

interface Case {
  readonly op: string;
  readonly inputs: Nd[];
  readonly options: Record<string, unknown>;
  readonly output: Nd;
  readonly cotangent?: Nd;
  readonly gradients?: Nd[];
}

const { cases } = JSON.parse(
  readFileSync(new URL("../fixtures/torch-ops.json", import.meta.url), "utf8"),
) as { cases: Case[] };

const load = (x: Nd): tw.Tensor => tw.tensor(Float32Array.from(x.data), { shape: x.shape });

const RUN: Record<string, (options: never, ...xs: tw.Tensor[]) => tw.Tensor> = {
  resize: ({ size, ...options }: tw.ResizeOptions & { size: number[] }, x) => x!.resize(size, options),
  pixelShuffle: ({ factor }: { factor: number }, x) => x!.pixelShuffle(factor),
  pixelUnshuffle: ({ factor }: { factor: number }, x) => x!.pixelUnshuffle(factor),
  gridSample: (options: tw.GridSampleOptions, x, grid) => tw.gridSample(x!, grid!, options),
  gelu: (_, x) => x!.gelu(),
  geluTanh: (_, x) => x!.gelu("tanh"),
  silu: (_, x) => x!.silu(),
  softplus: (_, x) => x!.softplus(),
  attention: (_, q, k, v) => tw.attention(q!, k!, v!),
  attentionCausal: (_, q, k, v) => tw.attention(q!, k!, v!, { mask: tw.tril(4, 4) }),
  attentionFloatMask: (_, q, k, v, mask) => tw.attention(q!, k!, v!, { mask }),
  groupNorm: ({ groups }: { groups: number }, x, w, b) => tw.groupNorm(x!, groups, w, b),
  layerNorm: (_, x, w, b) => tw.layerNorm(x!, w, b),
  rmsNorm: (_, x, w) => tw.rmsNorm(x!, w),
  instanceNorm: (_, x, w, b) => tw.instanceNorm(x!, w, b),
  batchNorm: (_, x, w, b) => tw.batchNorm(x!, w!, b!),
};

for (const op of Object.keys(RUN)) {
  describe(op, () => {
    cases.forEach((c, i) => {
      if (c.op !== op) return;
      const shapes = c.inputs.map((x) => `[${x.shape}]`).join(" ");
      it(`is torch's: ${i} ${shapes} ${JSON.stringify(c.options)}`, async () => {
        const [y, pullback] = tw.vjp(
          (...xs: tw.Tensor[]) => RUN[op]!(c.options as never, ...xs),
          ...c.inputs.map(load),
        );
        if (y.shape.join() !== c.output.shape.join()) throw new Error(`shape [${y.shape}]`);
        assertClose(await y.toArray(), c.output.data, 3e-6, "values");
        if (!c.gradients || !c.cotangent) return;
        for (const [k, g] of pullback(load(c.cotangent)).entries()) {
          assertClose(await g.toArray(), c.gradients[k]!.data, 1e-5, `gradient ${k}`);
        }
      });
    });
  });
}

/** Values and gradients against those that torch computed, kept in files under test/fixtures. */
import { readFileSync } from "node:fs";
import { describe, it } from "vitest";
import * as tw from "../../src/tensor/index.ts";
import { assertClose, type Nd } from "./op-check.ts";

interface Recorded extends Nd {
  /** Absent: f32. */
  readonly dtype?: "f32" | "i64";
}

interface Case {
  readonly op: string;
  readonly inputs: Recorded[];
  readonly options: Record<string, unknown>;
  readonly output: Recorded;
  readonly cotangent?: Nd;
  readonly gradients?: (Nd | null)[];
}

const load = ({ shape, data, dtype = "f32" }: Recorded): tw.Tensor =>
  tw.fromHost(dtype, shape, dtype === "i64" ? BigInt64Array.from(data, BigInt) : Float32Array.from(data));

/** A function of the tensors of a case, by its options. */
export type Run = (options: never, ...xs: tw.Tensor[]) => tw.Tensor;

/** One test for each case in the file; every operation of the file must be among `runs`, and the other way round. */
export function torchCases(
  file: string,
  runs: Record<string, Run>,
  [values, gradients] = [3e-6, 1e-5],
): void {
  const url = new URL(`../fixtures/${file}`, import.meta.url);
  const { cases } = JSON.parse(readFileSync(url, "utf8")) as { cases: Case[] };
  const names = new Set([...Object.keys(runs), ...cases.map((c) => c.op)]);
  for (const op of names) {
    const own = cases.filter((c) => c.op === op);
    if (own.length === 0 || !runs[op]) throw new Error(`${file}: ${op} has ${own.length} cases`);
    describe(op, () => {
      own.forEach((c, i) => {
        const shapes = c.inputs.map((x) => `[${x.shape}]`).join(" ");
        it(`is torch's: ${i} ${shapes} ${JSON.stringify(c.options)}`, async () => {
          const f = (...xs: tw.Tensor[]): tw.Tensor => runs[op]!(c.options as never, ...xs);
          const inputs = c.inputs.map(load);
          const y = f(...inputs);
          if (y.shape.join() !== c.output.shape.join()) throw new Error(`shape [${y.shape}]`);
          assertClose(await y.toArray(), c.output.data, values, "values");
          if (!c.gradients || !c.cotangent) return;
          const [, pullback] = tw.vjp(f, ...inputs);
          for (const [k, g] of pullback(load(c.cotangent)).entries()) {
            const expected = c.gradients[k];
            if (expected) assertClose(await g.toArray(), expected.data, gradients, `gradient ${k}`);
          }
        });
      });
    });
  }
}

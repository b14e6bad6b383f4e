/** The same problems, drawn and computed alike in Node and in the page, so that their numbers can be compared. */
import fc from "fast-check";
import {
  evaluate,
  fromHost,
  hostArray,
  isFloat,
  jit,
  Tensor,
  tensor,
  valueAndGrad,
  vjp,
} from "../../src/tensor/index.ts";
import { Draw, type OpCase, type Problem } from "../tensor/op-check.ts";

export interface Trial {
  readonly name: string;
  readonly problem: Problem;
  readonly differentiable: boolean;
}

/** What a trial gives: every output, then the gradient of every float input. */
export interface Result {
  readonly name: string;
  readonly values?: number[][];
  readonly gradients?: number[][];
  readonly error?: string;
}

const DRAWS = { numRuns: 2, seed: 2026 } as const;

/** Two problems of every case. */
export function drawTrials(cases: Record<string, OpCase | readonly OpCase[]>): Trial[] {
  return Object.entries(cases).flatMap(([key, given]) =>
    [given].flat().flatMap((c, k) =>
      fc.sample(fc.gen(), DRAWS).map((g, run) => ({
        name: `${key}${c.name ? ` ${c.name}` : k > 0 ? ` ${k}` : ""} #${run}`,
        problem: c.draw(new Draw(g)),
        differentiable: c.order !== 0,
      })),
    ),
  );
}

async function read(tensors: readonly Tensor[]): Promise<number[][]> {
  await evaluate(tensors);
  return Promise.all(tensors.map((t) => t.toArray()));
}

/** Cotangents by formula: something of every size and sign. */
const cotangent = (t: Tensor): Tensor =>
  fromHost(
    t.dtype,
    t.shape,
    hostArray(
      t.dtype,
      Array.from({ length: t.size }, (_, i) => Math.sin(1.7 * i + 0.4)),
    ),
  );

export async function runTrial({ name, problem, differentiable }: Trial): Promise<Result> {
  try {
    const inputs = problem.inputs.map((x) => fromHost(x.dtype, x.shape, hostArray(x.dtype, x.data)));
    const call = (floats: readonly Tensor[]): Tensor[] => {
      let next = 0;
      const all = inputs.map((t) => (isFloat(t.dtype) ? floats[next++]! : t));
      const out = problem.f(...all);
      return out instanceof Tensor ? [out] : [...out];
    };
    const floats = inputs.filter((t) => isFloat(t.dtype));
    const values = await read(call(floats));
    if (!differentiable || floats.length === 0) return { name, values };
    const [outputs, pullback] = vjp((...xs: Tensor[]) => call(xs).filter((t) => isFloat(t.dtype)), ...floats);
    return { name, values, gradients: await read(pullback(outputs.map(cotangent))) };
  } catch (error) {
    return { name, error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
  }
}

/** Losses of ten compiled training steps of a small regression: one session run per step, its state donated. */
export async function trainTiny(): Promise<number[]> {
  const wave = (shape: number[], scale: number, phase: number): Tensor =>
    tensor(
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) =>
        Math.fround(scale * Math.sin(2.3 * i + phase)),
      ),
      { shape },
    );
  const [x, y] = [wave([16, 4], 1, 0), wave([16, 2], 0.5, 1)];
  let model = { w1: wave([4, 8], 0.5, 2), b1: wave([8], 0.1, 3), w2: wave([8, 2], 0.5, 4) };
  type Model = typeof model;
  const loss = (m: Model, x: Tensor, y: Tensor): Tensor =>
    x.matmul(m.w1).add(m.b1).tanh().matmul(m.w2).sub(y).square().mean();
  const step = jit(
    (m: Model, x: Tensor, y: Tensor) => {
      const [value, g] = valueAndGrad(loss)(m, x, y);
      const next = {
        w1: m.w1.sub(g.w1.mul(0.3)),
        b1: m.b1.sub(g.b1.mul(0.3)),
        w2: m.w2.sub(g.w2.mul(0.3)),
      };
      return { model: next, value };
    },
    { donate: [0] },
  );
  const losses: number[] = [];
  for (let i = 0; i < 10; i++) {
    const out = await step(model, x, y);
    model = out.model;
    losses.push(await out.value.item());
  }
  await step.close();
  return losses;
}

/** f16 in and out: of an operation, of one on its result, and of a donated state. */
export async function runHalf(): Promise<number[][]> {
  const half = (values: number[]): Tensor => tensor(values, { dtype: "f16" });
  const sum = half([1, 2]).add(half([3, 4.5]));
  const first = await sum.toArray();
  const step = jit((state: Tensor, x: Tensor) => state.add(x), { donate: [0] });
  let state = half([1, 2, 3]);
  for (let i = 0; i < 3; i++) state = await step(state, half([1, 1, 0.5]));
  const last = await state.toArray();
  await step.close();
  return [first, await sum.mul(2).toArray(), last];
}

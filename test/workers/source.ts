/** What the worker tests run in threads. */
import { ShapeError } from "../../src/errors.ts";
import { jit, ones, type Tensor } from "../../src/tensor/index.ts";

export const scaled = (options: { x: Tensor; by: Float32Array }) => ({
  y: options.x.mul(options.by[0]!),
  raw: Float64Array.of(1, 2),
});

export const wrong = (): never => {
  throw new ShapeError("expected another shape");
};

export const made = async (start: number) => {
  let calls = start;
  return () => calls++;
};

/** Products of matrices, one run after the other: there is always one under way. */
export async function computes(rounds: number): Promise<number> {
  const step = jit((x: Tensor) => x.matmul(x).mul(1 / 256));
  let x = ones([256, 256]);
  for (let i = 0; i < rounds; i++) x = await step(x);
  await step.close();
  return (await x.toArray())[0]!;
}

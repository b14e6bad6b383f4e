import { expect, it } from "vitest";
import { jit, type Tensor, zeros } from "../../src/tensor/index.ts";

it("a graph may split a tensor into hundreds of parts, beside weights that are kept outside of it", async () => {
  const parts = 700;
  const large = zeros([64, 64]).add(1);
  await large.eval();
  const run = jit((x: Tensor) => {
    const pieces = x.split(parts, 0);
    return pieces[parts - 1]!.add(pieces[1]!).add(large.mean());
  });
  try {
    const x = zeros([2 * parts]).add(1);
    expect(Array.from((await (await run(x)).data()) as Float32Array)).toEqual([3, 3]);
  } finally {
    await run.close();
  }
});

/** The example of docs/home.md, as it stands there. */
import { readFileSync } from "node:fs";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import * as tweedie from "../../src/tensor/index.ts";

const { exportOnnx, grad, importOnnx, jit, tensor } = tweedie;
type Tensor = tweedie.Tensor;

function example(): (x: Tensor) => Tensor {
  const page = readFileSync("docs/home.md", "utf8");
  const chapter = page.slice(page.indexOf("## An operation of your own"));
  const source = /```ts\n([\s\S]*?)```/.exec(chapter)![1]!;
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  const run = new Function("require", "exports", `${outputText}; return hardSwish;`);
  return run(() => tweedie, {});
}

describe("an operation of one's own", () => {
  const hardSwish = example();
  const values = [-4, -2, -0.5, 0.7, 2.5, 5];
  const reference = (v: number): number => v * Math.min(1, Math.max(0, v / 6 + 0.5));

  it("computes, is differentiated twice, compiled and exported", async () => {
    const x = tensor(values);
    const close = async (t: Tensor, expected: readonly number[]): Promise<void> =>
      (await t.toArray()).forEach((v, i) => {
        expect(v).toBeCloseTo(expected[i]!, 5);
      });
    await close(hardSwish(x), values.map(reference));
    const slope = grad((t: Tensor) => hardSwish(t).sum());
    await close(
      slope(x),
      values.map((v) => (reference(v + 1e-4) - reference(v - 1e-4)) / 2e-4),
    );
    await close(
      grad((t: Tensor) => slope(t).sum())(x),
      values.map((v) => (Math.abs(v) < 3 ? 1 / 3 : 0)),
    );
    const compiled = jit(hardSwish);
    await close(await compiled(x), values.map(reference));
    await compiled.close();
    const model = await importOnnx(
      await exportOnnx(hardSwish, [x], { inputNames: ["x"], outputNames: ["y"] }),
    );
    await close((await model.run({ x })).y!, values.map(reference));
    await model.close();
  });

  it("says where it was called with what it cannot take", () => {
    expect(() => hardSwish(tensor([1], { dtype: "i32" }))).toThrow(/hardSwish\(i32\[1\]\): expected a float/);
  });
});

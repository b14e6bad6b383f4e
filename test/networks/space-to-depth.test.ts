import { describe, expect, it } from "vitest";
import { spaceToDepth } from "../../src/networks/index.ts";
import { createRng } from "../../src/nn/index.ts";

describe("SpaceToDepth", () => {
  const code = spaceToDepth({ factor: 2, scaling_factor: 0.5 });

  it("gives back exactly what it was given", async () => {
    const x = createRng(1).normal([2, 3, 8, 4]);
    const z = code.scaled(code.encode(x));
    expect(z.shape).toEqual([2, 12, 4, 2]);
    expect(await code.decode(code.unscaled(z)).data()).toEqual(await x.data());
  });

  it("refuses other shapes and settings by name", () => {
    expect(() => code.encode(createRng(1).normal([1, 1, 8, 8]))).toThrow(/\[N, 3, H, W\]/);
    expect(() => code.decode(createRng(1).normal([1, 4, 8, 8]))).toThrow(/\[N, 12, h, w\]/);
    expect(() => spaceToDepth({ factor: 0 })).toThrow(/factor/);
  });
});

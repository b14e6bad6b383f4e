import { expect, it } from "vitest";
import { blankRng, Linear, Module } from "../../src/nn/index.ts";
import { type Tensor, tensor } from "../../src/tensor/index.ts";
import { fill, firstBadLayer, recorded, type TraceEntry, withTinyWeights } from "./tiny-models.ts";

class Pair extends Module {
  readonly first = new Linear(2, 3, blankRng);
  readonly second = new Linear(3, 1, blankRng);
  call(x: Tensor): Tensor {
    return this.second.call(this.first.call(x).relu());
  }
}

it("weights are those of the published hash", () => {
  const expected = [-0.030918747, 0.631385616, 0.723613535];
  for (const [i, v] of fill("a", 3).entries()) expect(v).toBeCloseTo(expected[i]!, 8);
});

it("a recorded network names its first wrong layer, and a layer that never ran", async () => {
  const { network, recording } = recorded(withTinyWeights(new Pair()));
  const out = network.call(tensor([[1, 2]]));
  const hidden = await recording.get("first")![0]!.toArray();
  const mean = hidden.reduce((sum, v) => sum + Math.abs(v), 0) / 3;
  const right: TraceEntry = ["first", [1, 3], mean, hidden];
  const wrong: TraceEntry = ["second", [1, 1], Math.abs(await out.item()) + 0.1, [0]];
  const options = { tolerance: 1e-6, skip: /relu/ };
  expect(await firstBadLayer([right, ["relu", [1], 0, []]], recording, options)).toBeUndefined();
  expect(await firstBadLayer([right, wrong], recording, options)).toMatch(/^second: mean/);
  expect(await firstBadLayer([["third", [1], 0, []]], recording, options)).toMatch(/third: no such module/);
  expect(await firstBadLayer([right, right], recording, options)).toMatch(/first: no such module/);
});

import { describe, expect, it } from "vitest";
import { addLora, Conv2d, Conv3d, createRng, Module, mapParameters } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";

const frames = createRng(2).normal([1, 2, 5, 4, 4]);

describe("a causal Conv3d", () => {
  const layer = new Conv3d(2, 3, 3, createRng(1), { padding: [0, 1, 1], dilation: [2, 1, 1], causal: true });

  it("keeps the number of frames, and none depends on later ones", async () => {
    const y = layer.call(frames);
    expect(y.shape).toEqual([1, 3, 5, 4, 4]);
    for (let t = 0; t < 5; t++) {
      const later = frames.setSlice([0, 0, t], createRng(t).normal([1, 2, 5 - t, 4, 4]));
      const upTo = (x: Tensor): Promise<number[]> => x.sliceAxis(2, 0, t).toArray();
      expect(await upTo(layer.call(later))).toEqual(await upTo(y));
    }
  });

  it("is the plain one where the past is zero", async () => {
    const plain = new Conv3d(2, 3, 3, createRng(1), { padding: [[4, 0], 1, 1], dilation: [2, 1, 1] });
    expect(await layer.call(frames).toArray()).toEqual(await plain.call(frames).toArray());
  });
});

it("a circular Conv2d turns with the picture", async () => {
  const layer = new Conv2d(2, 3, 3, createRng(1), { padding: 1, paddingMode: "circular" });
  const x = createRng(3).normal([1, 2, 5, 4]);
  const turned = await layer.call(x.roll(2, 3)).roll(-2, 3).toArray();
  (await layer.call(x).toArray()).forEach((v, i) => {
    expect(turned[i]).toBeCloseTo(v, 5);
  });
});

it("LoRA on a causal layer is causal, and looks at the same borders", async () => {
  class Video extends Module {
    readonly conv = new Conv3d(2, 3, 3, createRng(1), {
      padding: [0, 1, 1],
      causal: true,
      paddingMode: "replicate",
    });
    call(x: Tensor): Tensor {
      return this.conv.call(x);
    }
  }
  const adapted = addLora(new Video(), { rank: 1, alpha: 1, match: /conv/, rng: createRng(4) });
  const rng = createRng(5);
  const moved = mapParameters(adapted, (t) => t.add(rng.normal(t.shape)));
  const y = await moved.call(frames).sliceAxis(2, 0, 2).toArray();
  const later = frames.setSlice([0, 0, 2], rng.normal([1, 2, 3, 4, 4]));
  expect(await moved.call(later).sliceAxis(2, 0, 2).toArray()).toEqual(y);
});

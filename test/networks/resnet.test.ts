import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { Downsample2D, ResnetBlock2D, Upsample2D } from "../../src/networks/blocks/index.ts";
import { createRng, parameters } from "../../src/nn/index.ts";
import { conv, makeKey, pad, type Tensor } from "../../src/tensor/index.ts";
import { expectClose } from "../nn/layer-kit.ts";

const rng = createRng(1);
const random = (...shape: number[]): Tensor => rng.normal(shape);
const shapes = (module: object): Record<string, readonly number[]> =>
  Object.fromEntries([...parameters(module)].map(([key, t]) => [key, t.shape]));

describe("ResnetBlock2D", () => {
  it("has the reference's keys, with a time projection and a shortcut only where needed", () => {
    expect(shapes(new ResnetBlock2D(8, rng, { outChannels: 12, groups: 4, timeDim: 6 }))).toEqual({
      "norm1.weight": [8],
      "norm1.bias": [8],
      "conv1.weight": [12, 8, 3, 3],
      "conv1.bias": [12],
      "time_emb_proj.weight": [12, 6],
      "time_emb_proj.bias": [12],
      "norm2.weight": [12],
      "norm2.bias": [12],
      "conv2.weight": [12, 12, 3, 3],
      "conv2.bias": [12],
      "conv_shortcut.weight": [12, 8, 1, 1],
      "conv_shortcut.bias": [12],
    });
    const plain = Object.keys(shapes(new ResnetBlock2D(8, rng, { groups: 4 })));
    expect(plain.filter((key) => /time|shortcut/.test(key))).toEqual([]);
  });

  it("takes time as scale and shift of the second norm", async () => {
    const options = { groups: 2, timeDim: 3, timeScaleShift: "scale_shift" } as const;
    const block = new ResnetBlock2D(4, rng, options);
    const [x, time] = [random(2, 4, 5, 5), random(2, 3)];
    const [scale, shift] = block.timeEmbProj!.call(time.silu()).split(2, 1) as [Tensor, Tensor];
    const normal = block.norm2.call(block.conv1.call(block.norm1.call(x).silu()));
    const h = normal.mul(scale.reshape([2, 4, 1, 1]).add(1)).add(shift.reshape([2, 4, 1, 1]));
    const expected = x.add(block.conv2.call(h.silu()));
    expectClose(await block.call(x, time).toArray(), await expected.toArray(), 1e-5);
  });

  it("adds an activated time embedding as it is, and divides by the output scale", async () => {
    const block = new ResnetBlock2D(4, rng, {
      groups: 2,
      timeDim: 3,
      skipTimeActivation: true,
      outputScaleFactor: 2,
    });
    const [x, time] = [random(1, 4, 3, 3), random(1, 3)];
    const added = block.timeEmbProj!.call(time).reshape([1, 4, 1, 1]);
    const h = block.norm2.call(block.conv1.call(block.norm1.call(x).silu()).add(added));
    const expected = x.add(block.conv2.call(h.silu())).mul(0.5);
    expectClose(await block.call(x, time).toArray(), await expected.toArray(), 1e-5);
  });

  it("resamples both branches", () => {
    const size = (resample: "up" | "down") =>
      new ResnetBlock2D(4, rng, { groups: 2, outChannels: 6, resample }).call(random(1, 4, 6, 8)).shape;
    expect(size("up")).toEqual([1, 6, 12, 16]);
    expect(size("down")).toEqual([1, 6, 3, 4]);
  });

  it("drops values by a key, none without one", async () => {
    const block = new ResnetBlock2D(4, rng, { groups: 2, dropout: 0.5 });
    const x = random(1, 4, 4, 4);
    const [dry, same, dropped] = [block.call(x), block.call(x), block.call(x, undefined, makeKey(3))];
    expect(await same.toArray()).toEqual(await dry.toArray());
    expect(await dropped.toArray()).not.toEqual(await dry.toArray());
  });

  it("says when time is missing and when channels do not split", () => {
    const block = new ResnetBlock2D(4, rng, { groups: 2, timeDim: 3 });
    expect(() => block.call(random(1, 4, 4, 4))).toThrow(ShapeError);
    expect(() => new ResnetBlock2D(6, rng, { groups: 4 })).toThrow(ArgumentError);
  });
});

describe("samplers", () => {
  it("downsampling without padding adds zeros below and to the right, as the VAE does", async () => {
    const sampler = new Downsample2D(3, rng, { padding: 0 });
    const x = random(1, 3, 6, 6);
    const padded = pad(x, [
      [0, 0],
      [0, 0],
      [0, 1],
      [0, 1],
    ]);
    const expected = conv(padded, sampler.conv!.weight, sampler.conv!.bias, { stride: 2 });
    expect(sampler.call(x).shape).toEqual([1, 3, 3, 3]);
    expectClose(await sampler.call(x).toArray(), await expected.toArray(), 1e-6);
  });

  it("upsampling repeats points, to the size of an odd skip connection if given", async () => {
    const sampler = new Upsample2D(1, rng, { kind: "nearest" });
    const x = random(1, 1, 2, 2);
    const [a, b, c, d] = (await x.toArray()) as [number, number, number, number];
    expect(await sampler.call(x).toArray()).toEqual([a, a, b, b, a, a, b, b, c, c, d, d, c, c, d, d]);
    expect(await sampler.call(x, [3, 3]).toArray()).toEqual([a, a, b, a, a, b, c, c, d]);
  });

  it("upsampling by a transposed convolution doubles the size", () => {
    const sampler = new Upsample2D(4, rng, { kind: "transpose", outChannels: 2 });
    expect(sampler.call(random(1, 4, 3, 5)).shape).toEqual([1, 2, 6, 10]);
  });
});

import { expect, it } from "vitest";
import { Encoder } from "../../src/networks/autoencoder/coder.ts";
import { guidedDiffusionUNet, mapTiles } from "../../src/networks/index.ts";
import { blankRng, createRng, GroupNorm, modules, parameters } from "../../src/nn/index.ts";
import { fillNormal, fromHost, makeKey, type Tensor } from "../../src/tensor/index.ts";

const SMALL = {
  in_channels: 2,
  out_channels: 2,
  model_channels: 8,
  channel_mult: [1, 2],
  num_res_blocks: 1,
  attention_resolutions: [],
  norm_groups: 4,
  middle_attention: false,
};

const normals = (...shape: number[]): Tensor =>
  fromHost("f32", shape, fillNormal(new Float32Array(shape.reduce((a, b) => a * b)), { seed: 1 }));

it("a guided-diffusion U-Net may have fewer groups and no attention, and then no key of either", async () => {
  const unet = guidedDiffusionUNet(SMALL, createRng(0));
  const keys = [...parameters(unet).keys()];
  expect(keys.filter((key) => /qkv|proj_out/.test(key))).toEqual([]);
  expect(keys.filter((key) => key.startsWith("middle_block."))).toContain(
    "middle_block.1.in_layers.0.weight",
  );
  for (const norm of modules(unet).values()) if (norm instanceof GroupNorm) expect(norm.groups).toBe(4);
  expect(
    (await unet.call(normals(1, 2, 8, 4), fromHost("f32", [1], Float32Array.of(3))).eval()).shape,
  ).toEqual([1, 2, 8, 4]);
});

it("the published layout keeps its middle attention and groups of 32", () => {
  const { norm_groups, middle_attention, ...rest } = SMALL;
  const unet = guidedDiffusionUNet({ ...rest, model_channels: 32 }, blankRng);
  expect([...parameters(unet).keys()]).toContain("middle_block.1.qkv.weight");
  expect(() => guidedDiffusionUNet({ ...rest }, blankRng)).toThrow(/8 channels/);
});

it("an encoder with dropout drops with a key alone, and differently in each block", async () => {
  const config = {
    channels: 1,
    latentChannels: 2,
    levels: [8, 8].map((channels) => ({ channels, attention: false })),
    layers: 1,
    groups: 4,
    activation: "silu",
    midAttention: false,
  } as const;
  const x = normals(1, 1, 8, 8);
  const [plain, dropping] = [config, { ...config, dropout: 0.5 }].map((c) => new Encoder(c, createRng(0)));
  const still = await plain!.call(x).toArray();
  expect(await dropping!.call(x).toArray()).toEqual(still);
  expect(await dropping!.call(x, makeKey(1)).toArray()).not.toEqual(still);
  const purposes = [...modules(dropping!).values()].flatMap((m) => ("purpose" in m ? [m.purpose] : []));
  expect(new Set(purposes).size).toBe(purposes.length);
});

it("tiles of any map blend to the whole, whatever is done to each point", async () => {
  const x = normals(2, 1, 24, 40);
  const values = (await x.data()) as Float32Array;
  const twice = async (tile: Tensor): Promise<Tensor> => tile.mul(2).eval();
  const run = mapTiles(twice, x, { input: 4, output: 4 }, { tile: 3, overlap: 1 });
  let tiles = 0;
  for (;;) {
    const { done, value } = await run.next();
    if (done) {
      const blended = (await value.data()) as Float32Array;
      blended.forEach((v, i) => {
        expect(v).toBeCloseTo(2 * values[i]!, 4);
      });
      break;
    }
    tiles++;
  }
  expect(tiles).toBeGreaterThan(8);
});

import { describe, expect, it } from "vitest";
import { ShapeError } from "../../src/errors.ts";
import {
  type ControlNetOptions,
  controlNet,
  controlNetFromUNet,
  sumControls,
} from "../../src/networks/unet/controlnet.ts";
import { unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import { blankRng, createRng, parameters } from "../../src/nn/index.ts";
import { flip, type Tensor, tensor } from "../../src/tensor/index.ts";
import { expectClose } from "../nn/layer-kit.ts";
import {
  expectTinyLayout,
  expectTinyOutput,
  firstBadLayer,
  recorded,
  tinyCase,
  tinyInput,
  withTinyWeights,
} from "./tiny-models.ts";

const SKIP = /\.(nonlinearity|act|to_out\.1|net\.1)$|\.dropout$/;

describe("ControlNetModel computes what the reference computes, layer by layer", () => {
  it.each(["controlnet_tiny", "controlnet_tiny_guess_mode"])("%s", async (name) => {
    const tiny = tinyCase(name);
    const { network, recording } = recorded(withTinyWeights(controlNet(tiny.config, blankRng)));
    await expectTinyLayout(network, tiny);
    const input = (key: string): Tensor => tinyInput(tiny, key);
    const { down, mid } = network.call(
      input("sample"),
      input("timestep"),
      input("encoder_hidden_states"),
      input("controlnet_cond"),
      { guessMode: tiny.inputs.guess_mode === 1 },
    );
    const options = { tolerance: 2e-4, skip: SKIP };
    expect(await firstBadLayer(tiny.trace ?? [], recording, options)).toBeUndefined();
    for (const [i, residual] of down.entries()) await expectTinyOutput(residual, tiny, `down_${i}`, 2e-4);
    await expectTinyOutput(mid, tiny, "mid", 2e-4);
  });
});

const SMALL = {
  block_out_channels: [8, 16],
  norm_num_groups: 4,
  layers_per_block: 1,
  attention_head_dim: 2,
  cross_attention_dim: 6,
  down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
};
const UNET = { ...SMALL, up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"] };
const HINT = { conditioning_embedding_out_channels: [4, 8] };
const rng = createRng(3);
const random = (...shape: number[]): Tensor => rng.normal(shape);
const [x, t, context, hint] = [random(1, 4, 6, 6), tensor([30]), random(1, 3, 6), random(1, 3, 12, 12)];

/** A ControlNet whose zero convolutions have been trained. */
const trained = (config: object = {}) =>
  withTinyWeights(controlNet({ ...SMALL, ...HINT, ...config }, createRng(4)));
const call = (config: object, options: ControlNetOptions = {}, picture = hint) =>
  trained(config).call(x, t, context, picture, options);

describe("ControlNetModel", () => {
  it("steers the U-Net, and before training leaves it as it is", async () => {
    const unet = unet2DCondition(UNET, createRng(1));
    const fresh = controlNetFromUNet(controlNet({ ...SMALL, ...HINT }, createRng(2)), unet);
    expect(parameters(fresh).get("conv_in.weight")).toBe(parameters(unet).get("conv_in.weight"));
    const plain = await unet.call(x, t, context).toArray();
    const controls = fresh.call(x, t, context, hint);
    expectClose(await unet.call(x, t, context, { controls }).toArray(), plain, 1e-6);
    const steered = await unet.call(x, t, context, { controls: call({}) }).toArray();
    expect(steered.some((v, i) => Math.abs(v - plain[i]!) > 1e-2)).toBe(true);
    const other = controlNet({ ...SMALL, ...HINT, block_out_channels: [8, 8] }, blankRng);
    expect(() => controlNetFromUNet(other, unet)).toThrow(ShapeError);
  });

  it("scales, sums, pools over the map, and reads a hint in the order bgr", async () => {
    const one = call({});
    const half = call({}, { conditioningScale: 0.5 });
    const byTensor = call({}, { conditioningScale: tensor(0.5) });
    const mid = await one.mid.toArray();
    const halved = mid.map((v) => v / 2);
    expectClose(await half.mid.toArray(), halved, 1e-6);
    expectClose(await byTensor.mid.toArray(), halved, 1e-6);
    expectClose(await sumControls([half, half]).mid.toArray(), mid, 1e-5);
    expectClose(await sumControls([half, half]).down[2]!.toArray(), await one.down[2]!.toArray(), 1e-5);

    const pooled = call({ global_pool_conditions: true }, { guessMode: true });
    expect(pooled.down[0]!.shape).toEqual([1, 8, 1, 1]);
    expectClose(await pooled.mid.toArray(), await one.mid.mean([2, 3]).toArray(), 1e-5);
    const unet = unet2DCondition(UNET, createRng(1));
    expect(unet.call(x, t, context, { controls: pooled }).shape).toEqual([1, 4, 6, 6]);

    const bgr = call({ controlnet_conditioning_channel_order: "bgr" }, {}, flip(hint, 1));
    expectClose(await bgr.mid.toArray(), mid, 1e-6);
  });

  it("says when the hint is not of the sample's size", () => {
    expect(() => call({}, {}, random(1, 3, 8, 8))).toThrow(/the hint .* becomes .* the sample is/);
  });
});

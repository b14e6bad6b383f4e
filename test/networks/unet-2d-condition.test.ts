import { describe, expect, it } from "vitest";
import { unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import { blankRng, parameterCount } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";
import {
  expectTinyLayout,
  expectTinyOutput,
  firstBadLayer,
  layoutOf,
  officialLayout,
  recorded,
  type TinyCase,
  tinyCase,
  tinyInput,
  withTinyWeights,
} from "./tiny-models.ts";

/** Modules of the reference that are functions here. */
const SKIP = /\.(nonlinearity|act|to_out\.1|net\.1)$|^conv_act$|\.dropout$/;

const tinyUNet = (tiny: TinyCase) => withTinyWeights(unet2DCondition(tiny.config, blankRng));

function callOf(tiny: TinyCase, network: ReturnType<typeof tinyUNet>): Tensor {
  const input = (name: string): Tensor => tinyInput(tiny, name);
  const down = Object.keys(tiny.inputs).filter((name) => name.startsWith("down_residual"));
  const controls = down.length > 0 ? { down: down.map(input), mid: input("mid_residual") } : undefined;
  return network.call(input("sample"), input("timestep"), input("encoder_hidden_states"), { controls });
}

describe("UNet2DConditionModel computes what the reference computes, layer by layer", () => {
  it.each([
    "unet_tinyA_unit_test",
    "unet_tinyA_linear_projection",
    "unet_tinyB_sd_pipeline",
    "unet_tinyC_sd15_topology",
    "unet_tinyC_with_controlnet_residuals",
    "unet_tinyC_odd_12x20",
  ])("%s", async (name) => {
    const tiny = tinyCase(name);
    const { network, recording } = recorded(tinyUNet(tiny));
    await expectTinyLayout(network, tiny);
    const out = callOf(tiny, network);
    // At late times the reference's own single-precision embedding is uncertain.
    const tolerance = Math.max(...(tiny.inputs.timestep as number[])) > 100 ? 2e-4 : 5e-5;
    expect(await firstBadLayer(tiny.trace ?? [], recording, { tolerance, skip: SKIP })).toBeUndefined();
    await expectTinyOutput(out, tiny, "sample", tolerance);
  });
});

it("Stable Diffusion 1.5 has its official layout and takes no memory before its weights come", () => {
  const before = process.memoryUsage().arrayBuffers;
  const unet = unet2DCondition({ cross_attention_dim: 768 }, blankRng);
  const bytes = process.memoryUsage().arrayBuffers - before;
  expect(layoutOf(unet)).toEqual(officialLayout("unet_sd15"));
  expect(parameterCount(unet)).toBe(859_520_964);
  expect(bytes).toBeLessThan(1e7); // its weights have 3.4e9
});

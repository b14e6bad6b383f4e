import { describe, it } from "vitest";
import { controlNet } from "../../src/networks/unet/controlnet.ts";
import { unet2D } from "../../src/networks/unet/unet-2d.ts";
import { unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import { blankRng } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";
import { expectConformance } from "./conformance.ts";

type Inputs = Record<string, Tensor>;

describe("outputs and gradients are those of the reference", () => {
  it.each(["unet2d-condition", "unet2d-condition-sd2", "unet2d-condition-heads"])("%s", (folder) =>
    expectConformance(
      folder,
      (config) => unet2DCondition(config, blankRng),
      (unet, { sample, timestep, encoder_hidden_states }: Inputs) => ({
        sample: unet.call(sample!, timestep!, encoder_hidden_states),
      }),
    ),
  );

  // The second is of a noise level, and its heads do not fill the channels.
  it.each(["unet2d", "unet2d-fourier"])("%s", (folder) =>
    expectConformance(
      folder,
      (config) => unet2D(config, blankRng),
      (unet, { sample, timestep }: Inputs) => ({ sample: unet.call(sample!, timestep!) }),
    ),
  );

  it("controlnet", () =>
    expectConformance(
      "controlnet",
      (config) => controlNet(config, blankRng),
      (network, { sample, timestep, encoder_hidden_states, controlnet_cond }: Inputs) => {
        const options = { conditioningScale: 0.7 };
        const out = network.call(sample!, timestep!, encoder_hidden_states, controlnet_cond!, options);
        const down = out.down.map((t, i): [string, Tensor] => [`down.${i}`, t]);
        return { ...Object.fromEntries(down), mid: out.mid };
      },
    ));
});

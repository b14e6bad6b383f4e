/** The denoiser of latent diffusion: Stable Diffusion 1 and 2, SDXL and their relatives. */
import { ShapeError } from "../../errors.ts";
import { type Activation, activate, Conv2d, GroupNorm, type Rng } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { sizeOfMap, UpBlock2D } from "../blocks/index.ts";
import { type UNetConfig, unetConfig } from "./config.ts";
import { diffusersFields, optionFields } from "./diffusers-keys.ts";
import { ConditionalEncoder, type UNetConditions } from "./encoder.ts";
import type { UNet2DConditionOptions } from "./options.ts";

/** What a ControlNet adds to the skip connections and to the middle. */
export interface Controls {
  /** One for each skip connection, from the top: [N, C, H, W], or [N, C, 1, 1] for all points. */
  readonly down: readonly Tensor[];
  readonly mid: Tensor;
}

export interface UNetCallOptions extends UNetConditions {
  readonly controls?: Controls;
}

/** A U-Net whose blocks look at context tokens (Rombach et al. 2022), in the layout of diffusers. */
export class UNet2DConditionModel extends ConditionalEncoder {
  readonly upBlocks: readonly UpBlock2D[];
  readonly convNormOut: GroupNorm;
  readonly convOut: Conv2d;
  readonly activation: Activation;

  constructor(config: UNetConfig, rng: Rng) {
    super(config, rng);
    const { network, ups, kernelOut, outChannels } = config;
    const top = config.levels[0]!.outChannels;
    this.upBlocks = ups.map((level) => new UpBlock2D(level, network, rng));
    this.convNormOut = new GroupNorm(network.groups, top, { eps: network.eps });
    this.convOut = new Conv2d(top, outChannels, kernelOut, rng, { padding: (kernelOut - 1) / 2 });
    this.activation = network.activation;
  }

  /**
   * x [N, C, H, W] of any size, timestep [N] or [1], context [N or 1, L, D] (undefined for networks without cross
   * attention) give [N, K, H, W]: noise, velocity or whatever the network was trained for.
   */
  call(x: Tensor, timestep: Tensor, context?: Tensor, options: UNetCallOptions = {}): Tensor {
    const { controls, ...conditions } = options;
    const inputs = this.blockInputs(x, timestep, context, conditions);
    const plain = this.descend(this.enter(x), inputs);
    const controlled = controls ? addControls(plain, controls) : plain;
    const skips = [...controlled.skips];
    let h = controlled.x;
    for (const block of this.upBlocks) {
      const own = skips.splice(-block.resnets.length).toReversed();
      const next = skips.at(-1);
      h = block.call(h, own, inputs, next && sizeOfMap(next));
    }
    return this.convOut.call(activate(this.activation, this.convNormOut.call(h)));
  }
}

function addControls(
  { x, skips }: { x: Tensor; skips: Tensor[] },
  { down, mid }: Controls,
): { x: Tensor; skips: Tensor[] } {
  if (down.length !== skips.length)
    throw new ShapeError(
      `controls: expected ${skips.length} tensors, one for each skip connection, got ${down.length}`,
    );
  return { x: x.add(mid), skips: skips.map((skip, i) => skip.add(down[i]!)) };
}

/**
 * A `UNet2DConditionModel` from its `config.json`. With `blankRng` it takes no memory until weights are loaded. Throws
 * `FormatError` naming the key, for values that are wrong or of variants that are not built here.
 */
export function unet2DCondition(config: unknown, rng: Rng): UNet2DConditionModel {
  const fields = diffusersFields("UNet2DConditionModel", config, { headDimIsHeads: true });
  return new UNet2DConditionModel(unetConfig(fields), rng);
}

/** A `UNet2DConditionModel` from typed options. Throws `ArgumentError` naming the option whose value does not fit. */
export function createUNet2DCondition(rng: Rng, options: UNet2DConditionOptions = {}): UNet2DConditionModel {
  return new UNet2DConditionModel(unetConfig(optionFields("UNet2DConditionModel", options)), rng);
}

/** A trainable copy of a U-Net's way down that maps of a condition steer (Zhao et al. 2023; Sun et al. 2024). */
import { ArgumentError } from "../../errors.ts";
import {
  activate,
  Conv2d,
  Linear,
  Module,
  mapParameters,
  parameters,
  type Rng,
  zeroed,
} from "../../nn/index.ts";
import { resize, type Tensor } from "../../tensor/index.ts";
import { mapToTokens, tokensToMap } from "../blocks/index.ts";
import { type EncoderConfig, encoderConfig, skipChannels } from "../unet/config.ts";
import { diffusersFields } from "../unet/diffusers-keys.ts";
import { ConditionalEncoder, type UNetConditions } from "../unet/encoder.ts";
import type { Controls, UNet2DConditionModel } from "../unet/unet-2d-condition.ts";

/** What an adapter has beside its U-Net's way down. */
export interface LocalAdapterConfig {
  /** Channels that modulate each level, from the top. */
  readonly features: readonly number[];
  /** Width of the maps that are projected to those; absent: they come as they are. */
  readonly dim?: number;
  /** By how much each map grows: powers of 2, such as 4, 2, 1 and 0.5. Default: not at all. */
  readonly scales?: readonly number[];
}

/** Gives what its U-Net takes as `controls`; adds nothing before training. */
export class LocalAdapter extends ConditionalEncoder {
  readonly visualProjs: readonly Linear[] | undefined;
  readonly zeroConvs: readonly (readonly [Conv2d])[];
  readonly middleBlockOut: readonly [Conv2d];
  readonly scales: readonly number[] | undefined;

  /** @throws ArgumentError unless there are channels for each level */
  constructor(encoder: EncoderConfig, { features, dim, scales }: LocalAdapterConfig, rng: Rng) {
    const levels = encoder.levels.map((level, i) => ({ ...level, featureChannels: features[i]! }));
    if (features.length !== levels.length || (scales && scales.length !== levels.length))
      throw new ArgumentError(
        `LocalAdapter: expected channels for each of ${levels.length} levels, got ${features}`,
      );
    super({ ...encoder, levels }, rng);
    const pointwise = (channels: number): readonly [Conv2d] => [
      zeroed(new Conv2d(channels, channels, 1, rng)),
    ];
    this.visualProjs = dim === undefined ? undefined : features.map((width) => new Linear(dim, width, rng));
    this.zeroConvs = skipChannels(levels).map(pointwise);
    this.middleBlockOut = pointwise(levels.at(-1)!.outChannels);
    this.scales = scales;
  }

  /**
   * Maps [N, D, g, g] as features of each level [N, F, h, w]: the same at every step of a picture. A projection of points and
   * a bilinear change of size may be done in either order; this one is the cheaper.
   */
  project(maps: readonly Tensor[]): Tensor[] {
    return maps.map((map, i) => {
      const own = this.visualProjs ? tokensToMap(this.visualProjs[i]!.call(mapToTokens(map)), map) : map;
      const scale = this.scales?.[i] ?? 1;
      const [h, w] = own.shape.slice(2) as [number, number];
      return scale === 1 ? own : resize(own, [h * scale, w * scale]);
    });
  }

  /** x, timestep and context as for the U-Net, and the features of each level. */
  call(
    x: Tensor,
    timestep: Tensor,
    context: Tensor | undefined,
    features: readonly Tensor[],
    conditions: UNetConditions = {},
  ): Controls {
    const inputs = this.blockInputs(x, timestep, context, conditions);
    const out = this.descend(this.enter(x), inputs, features);
    return {
      down: this.zeroConvs.map(([conv], i) => conv.call(out.skips[i]!)),
      mid: this.middleBlockOut[0].call(out.x),
    };
  }
}

/** A `LocalAdapter` for the U-Net of a `config.json`. */
export const localAdapter = (unet: unknown, config: LocalAdapterConfig, rng: Rng): LocalAdapter =>
  new LocalAdapter(
    encoderConfig(diffusersFields("UNet2DConditionModel", unet, { headDimIsHeads: true })),
    config,
    rng,
  );

/** An adapter to be trained: the weights of its U-Net where both have them, its own elsewhere. */
export function adapterFromUNet(adapter: LocalAdapter, unet: UNet2DConditionModel): LocalAdapter {
  const weights = parameters(unet);
  return mapParameters(adapter, (own, key) => weights.get(key) ?? own);
}

/** Residuals times a strength, and where given times that of each: those of the skips from the top, then the middle's. */
export function scaledControls({ down, mid }: Controls, strength: Tensor): Controls {
  const at = (i: number): Tensor => (strength.rank === 0 ? strength : strength.select(0, i));
  return { down: down.map((t, i) => t.mul(at(i))), mid: mid.mul(at(down.length)) };
}

/** Convolutions from stacked conditions to the features of each level, as Uni-ControlNet reads them. */
export class SlotExtractor extends Module {
  readonly convIn: Conv2d;
  readonly levels: readonly { readonly down: Conv2d; readonly out: Conv2d }[];

  /** `widths`: channels of each level, the first of which has half the pictures' size. */
  constructor(inChannels: number, widths: readonly number[], rng: Rng) {
    super();
    this.convIn = new Conv2d(inChannels, widths[0]!, 3, rng, { padding: 1 });
    this.levels = widths.map((width, i) => ({
      down: new Conv2d(widths[Math.max(0, i - 1)]!, width, 3, rng, { padding: 1, stride: 2 }),
      out: new Conv2d(width, width, 3, rng, { padding: 1 }),
    }));
  }

  /** x [N, C, H, W] gives [N, F, H / 2, W / 2], and so on down. */
  call(x: Tensor): Tensor[] {
    let h = activate("silu", this.convIn.call(x));
    return this.levels.map(({ down, out }) => {
      h = activate("silu", down.call(h));
      return out.call(h);
    });
  }
}

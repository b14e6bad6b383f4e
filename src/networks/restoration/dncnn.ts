/** DnCNN (Zhang et al. 2017): a stack of convolutions that guesses the noise of a picture. */
import { BatchNorm, Conv2d, Module, type Rng } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { checkMap } from "../check-map.ts";
import { countsOf } from "./counts.ts";

/** Sizes of a DnCNN. */
export interface DnCNNConfig {
  /** Channels of pictures. Default 3. */
  readonly channels?: number;
  /** Default 64. */
  readonly width?: number;
  /** Number of convolutions. Default 17. */
  readonly depth?: number;
  /**
   * Convolutions without bias and a batch norm in between, as it was trained (558,336 values for colour at the defaults); or,
   * the default, merged into convolutions with bias, as its released weights are.
   */
  readonly batchNorm?: boolean;
}

/** Keys `model.N` as in a sequential module that counts its activations and norms too. */
export class DnCNN extends Module {
  readonly model: Readonly<Record<number, Conv2d | BatchNorm>>;
  readonly config: Required<DnCNNConfig>;
  readonly channels: number;
  readonly sizeFactor: number;

  constructor(config: DnCNNConfig, rng: Rng) {
    super();
    const { channels = 3, width = 64, depth = 17, batchNorm = false } = config;
    countsOf("DnCNN", { channels, width, depth });
    const conv = (from: number, to: number): Conv2d =>
      new Conv2d(from, to, 3, rng, { padding: 1, bias: !batchNorm });
    const model: Record<number, Conv2d | BatchNorm> = { 0: conv(channels, width) };
    let at = 2; // after the first activation
    for (let layer = 1; layer < depth - 1; layer++) {
      model[at++] = conv(width, width);
      if (batchNorm) model[at++] = new BatchNorm(width);
      at++;
    }
    model[at] = conv(width, channels);
    this.model = model;
    this.config = { channels, width, depth, batchNorm };
    this.channels = channels;
    this.sizeFactor = 1;
  }

  /** y [N, C, H, W] gives its noise, [N, C, H, W]: the restored picture is y less that. `statistics` of the norms. */
  call(y: Tensor, statistics: "frozen" | "batch" = "frozen"): Tensor {
    checkMap("DnCNN", y, this.channels, this.sizeFactor);
    const layers = Object.values(this.model);
    return layers.reduce<Tensor>((h, layer, i) => {
      if (layer instanceof BatchNorm) return layer.call(h, statistics).relu();
      const out = layer.call(h);
      const ends = i === layers.length - 1 || layers[i + 1] instanceof BatchNorm;
      return ends ? out : out.relu();
    }, y);
  }

  /** Pixels to each side that a pixel depends on. */
  get reach(): number {
    return this.config.depth;
  }

  /** The restored picture. */
  restore(y: Tensor, statistics?: "frozen" | "batch"): Tensor {
    return y.sub(this.call(y, statistics));
  }
}

/** PReNet (Ren et al. 2019): rain is taken away in several passes of one recurrent network. */
import { Conv2d, Module, type Rng } from "../../nn/index.ts";
import { concat, type Tensor, zeros } from "../../tensor/index.ts";
import { checkMap } from "../check-map.ts";
import { countsOf } from "./counts.ts";

/** A convolution that a sequential module begins with, `0`. */
export class LeadingConv extends Module {
  static override readonly keyNames = { conv: "0" };
  readonly conv: Conv2d;

  constructor(from: number, to: number, rng: Rng) {
    super();
    this.conv = new Conv2d(from, to, 3, rng, { padding: 1 });
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return this.conv.call(x);
  }
}

/** Two convolutions, each with a ReLU. */
export class ConvPair extends Module {
  static override readonly keyNames = { first: "0", second: "2" };
  readonly first: Conv2d;
  readonly second: Conv2d;

  constructor(width: number, rng: Rng) {
    super();
    this.first = new Conv2d(width, width, 3, rng, { padding: 1 });
    this.second = new Conv2d(width, width, 3, rng, { padding: 1 });
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return this.second.call(this.first.call(x).relu()).relu();
  }
}

/** Sizes of a PReNet. */
export interface PReNetConfig {
  /** Channels of pictures. Default 3. */
  readonly channels?: number;
  /** Default 32. */
  readonly width?: number;
  /** Passes. Default 6. */
  readonly passes?: number;
}

/** Keys as published: `conv0`, `res_conv1` to `res_conv5`, `conv_i`, `conv_f`, `conv_g`, `conv_o`, `conv`. */
export class PReNet extends Module {
  static override readonly keyNames = {
    resConv1: "res_conv1",
    resConv2: "res_conv2",
    resConv3: "res_conv3",
    resConv4: "res_conv4",
    resConv5: "res_conv5",
  };
  readonly conv0: LeadingConv;
  readonly resConv1: ConvPair;
  readonly resConv2: ConvPair;
  readonly resConv3: ConvPair;
  readonly resConv4: ConvPair;
  readonly resConv5: ConvPair;
  readonly convI: LeadingConv;
  readonly convF: LeadingConv;
  readonly convG: LeadingConv;
  readonly convO: LeadingConv;
  readonly conv: LeadingConv;
  readonly config: Required<PReNetConfig>;
  readonly channels: number;
  readonly sizeFactor: number;

  constructor(config: PReNetConfig, rng: Rng) {
    super();
    const { channels = 3, width = 32, passes = 6 } = config;
    countsOf("PReNet", { channels, width, passes });
    this.conv0 = new LeadingConv(2 * channels, width, rng);
    this.resConv1 = new ConvPair(width, rng);
    this.resConv2 = new ConvPair(width, rng);
    this.resConv3 = new ConvPair(width, rng);
    this.resConv4 = new ConvPair(width, rng);
    this.resConv5 = new ConvPair(width, rng);
    this.convI = new LeadingConv(2 * width, width, rng);
    this.convF = new LeadingConv(2 * width, width, rng);
    this.convG = new LeadingConv(2 * width, width, rng);
    this.convO = new LeadingConv(2 * width, width, rng);
    this.conv = new LeadingConv(width, channels, rng);
    this.config = { channels, width, passes };
    this.channels = channels;
    this.sizeFactor = 1;
  }

  /** y [N, C, H, W] gives the restored picture, [N, C, H, W]. */
  call(y: Tensor): Tensor {
    checkMap("PReNet", y, this.channels, this.sizeFactor);
    const [n, , height, width] = y.shape as [number, number, number, number];
    const nothing = zeros([n, this.config.width, height, width]);
    let [x, h, c] = [y, nothing, nothing];
    for (let pass = 0; pass < this.config.passes; pass++) {
      const seen = concat(this.conv0.call(concat(y, x, 1)).relu(), h, 1);
      const [input, forget, output] = [this.convI, this.convF, this.convO].map((gate) =>
        gate.call(seen).sigmoid(),
      ) as [Tensor, Tensor, Tensor];
      c = forget.mul(c).add(input.mul(this.convG.call(seen).tanh()));
      h = output.mul(c.tanh());
      const blocks = [this.resConv1, this.resConv2, this.resConv3, this.resConv4, this.resConv5];
      const rain = blocks.reduce((r, block) => block.call(r).add(r).relu(), h);
      x = this.conv.call(rain).add(y);
    }
    return x;
  }

  /** Pixels to each side that a pixel depends on. */
  get reach(): number {
    return 13 * this.config.passes;
  }

  /** The restored picture. */
  restore(y: Tensor): Tensor {
    return this.call(y);
  }
}

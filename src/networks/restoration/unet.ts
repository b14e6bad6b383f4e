/** The plain U-Net of restoration papers (Noise-DA, DiffLoss): no norms, convolutions and leaky ReLUs, its output a residual. */
import { Conv2d, kaimingNormal, Module, type Rng } from "../../nn/index.ts";
import { avgPool, concat, resize, type Tensor } from "../../tensor/index.ts";
import { checkMap } from "../check-map.ts";
import { countsOf } from "./counts.ts";

const SLOPE = 0.2;

const leaky = (x: Tensor): Tensor => x.leakyRelu(SLOPE);

const init = (rng: Rng, shape: readonly number[]): Tensor => kaimingNormal(rng, shape);

/** Two convolutions of 3 x 3, each with a leaky ReLU: `block.0`, `block.2`. */
export class UNetBlock extends Module {
  readonly block: { readonly 0: Conv2d; readonly 2: Conv2d };

  constructor(inChannels: number, outChannels: number, rng: Rng) {
    super();
    this.block = {
      0: new Conv2d(inChannels, outChannels, 3, rng, { padding: 1, init }),
      2: new Conv2d(outChannels, outChannels, 3, rng, { padding: 1, init }),
    };
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return leaky(this.block[2].call(leaky(this.block[0].call(x))));
  }
}

/** Twice the size, a convolution, the skip beside it, a block: `conv_up`, `conv_block`. */
export class UNetUp extends Module {
  readonly convUp: Conv2d;
  readonly convBlock: UNetBlock;
  readonly alignCorners: boolean;

  constructor(inChannels: number, outChannels: number, alignCorners: boolean, rng: Rng) {
    super();
    this.convUp = new Conv2d(inChannels, outChannels, 3, rng, { padding: 1, init });
    this.convBlock = new UNetBlock(2 * outChannels, outChannels, rng);
    this.alignCorners = alignCorners;
  }

  /** x [N, C, H, W]. */
  call(x: Tensor, skip: Tensor): Tensor {
    const { alignCorners } = this;
    const large = resize(x, skip.shape.slice(2), { mode: "bilinear", alignCorners });
    return this.convBlock.call(concat(this.convUp.call(large), skip, 1));
  }
}

/** Sizes of the papers' U-Net. */
export interface RestorationUNetConfig {
  /** Channels of pictures. Default 3. */
  readonly channels?: number;
  /** Channels of the first level; every level has twice as many as the one before. Default 64. */
  readonly base?: number;
  /** Number of levels, one more than poolings. Default 4. */
  readonly depth?: number;
  /**
   * Upsampling as in the official code, true, keeps the outermost pixels in place; what a pixel becomes then depends on
   * the size of the picture, so tiles differ from the whole. With false, the default, they do not.
   */
  readonly alignCorners?: boolean;
  /** Values that the weights have learned from: "unit" [0, 1], the default, or "signed" [-1, 1], as published for rain and blur. */
  readonly range?: "unit" | "signed";
}

/** Keys `down_path`, `up_path`, `last`, as published: 36 tensors and 8,559,171 values at the defaults. */
export class RestorationUNet extends Module {
  readonly downPath: readonly UNetBlock[];
  readonly upPath: readonly UNetUp[];
  readonly last: Conv2d;
  readonly config: Required<RestorationUNetConfig>;
  readonly channels: number;
  /** Height and width are multiples of this. */
  readonly sizeFactor: number;

  constructor(config: RestorationUNetConfig, rng: Rng) {
    super();
    const { channels = 3, base = 64, depth = 4, alignCorners = false, range = "unit" } = config;
    countsOf("RestorationUNet", { channels, base, depth });
    const widths = Array.from({ length: depth }, (_, level) => base * 2 ** level);
    this.downPath = widths.map((width, level) => new UNetBlock(widths[level - 1] ?? channels, width, rng));
    this.upPath = widths
      .slice(0, -1)
      .map((width) => new UNetUp(2 * width, width, alignCorners, rng))
      .reverse();
    this.last = new Conv2d(base, channels, 3, rng, { padding: 1, init });
    this.config = { channels, base, depth, alignCorners, range };
    this.channels = channels;
    this.sizeFactor = 2 ** (depth - 1);
  }

  /** y [N, C, H, W] in the range of the weights gives the residual that is added to it, [N, C, H, W]. @throws ShapeError for other maps */
  call(y: Tensor): Tensor {
    checkMap("RestorationUNet", y, this.channels, this.sizeFactor);
    const skips: Tensor[] = [];
    let h = y;
    for (const [level, block] of this.downPath.entries()) {
      if (level > 0) h = avgPool(h, 2);
      h = block.call(h);
      skips.push(h);
    }
    skips.pop();
    for (const up of this.upPath) h = up.call(h, skips.pop()!);
    return this.last.call(h);
  }

  /** Pixels to each side that a pixel depends on. */
  get reach(): number {
    // Two convolutions at every level down, one and two on the way up, pooling and interpolation between, and the last.
    const { depth } = this.config;
    return 2 * (2 ** depth - 1) + 6 * (2 ** (depth - 1) - 1) + 1;
  }

  /** The restored picture, of one in [0, 1] in any case. */
  restore(y: Tensor): Tensor {
    return this.config.range === "signed" ? y.add(this.call(y.mul(2).sub(1)).mul(0.5)) : y.add(this.call(y));
  }
}

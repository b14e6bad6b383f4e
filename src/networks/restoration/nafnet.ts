/** NAFNet (Chen et al. 2022): restoration without nonlinear activations; halves of channels multiply each other instead. */
import { Conv2d, Module, type Rng } from "../../nn/index.ts";
import { ones, pixelShuffle, type Tensor, zeros } from "../../tensor/index.ts";
import { checkMap } from "../check-map.ts";
import { countsOf } from "./counts.ts";

/** Zero mean and unit variance over the channels of every pixel. */
export class ChannelNorm extends Module {
  readonly weight: Tensor; // [C]
  readonly bias: Tensor; // [C]

  constructor(channels: number) {
    super();
    this.weight = ones([channels]);
    this.bias = zeros([channels]);
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    const centred = x.sub(x.mean(1, true));
    const variance = centred.square().mean(1, true);
    const scale = (t: Tensor): Tensor => t.reshape([1, -1, 1, 1]);
    return centred.mul(variance.add(1e-6).rsqrt()).mul(scale(this.weight)).add(scale(this.bias));
  }
}

/** First half of the channels times the second. */
function gate(x: Tensor): Tensor {
  const [a, b] = x.split(2, 1) as [Tensor, Tensor];
  return a.mul(b);
}

/** Both halves begin as the identity: `beta` and `gamma` are 0. */
export class NAFBlock extends Module {
  readonly conv1: Conv2d;
  readonly conv2: Conv2d;
  readonly conv3: Conv2d;
  /** Attention over channels from their means, `sca.1`. */
  readonly sca: { readonly 1: Conv2d };
  readonly conv4: Conv2d;
  readonly conv5: Conv2d;
  readonly norm1: ChannelNorm;
  readonly norm2: ChannelNorm;
  readonly beta: Tensor; // [1, C, 1, 1]
  readonly gamma: Tensor; // [1, C, 1, 1]

  constructor(c: number, rng: Rng) {
    super();
    this.conv1 = new Conv2d(c, 2 * c, 1, rng);
    this.conv2 = new Conv2d(2 * c, 2 * c, 3, rng, { padding: 1, groups: 2 * c });
    this.conv3 = new Conv2d(c, c, 1, rng);
    this.sca = { 1: new Conv2d(c, c, 1, rng) };
    this.conv4 = new Conv2d(c, 2 * c, 1, rng);
    this.conv5 = new Conv2d(c, c, 1, rng);
    this.norm1 = new ChannelNorm(c);
    this.norm2 = new ChannelNorm(c);
    this.beta = zeros([1, c, 1, 1]);
    this.gamma = zeros([1, c, 1, 1]);
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    const g = gate(this.conv2.call(this.conv1.call(this.norm1.call(x))));
    const attended = g.mul(this.sca[1].call(g.mean([2, 3], true)));
    const y = x.add(this.conv3.call(attended).mul(this.beta));
    const f = this.conv5.call(gate(this.conv4.call(this.norm2.call(y))));
    return y.add(f.mul(this.gamma));
  }
}

/** Without bias, then channels to space. */
export class PixelUp extends Module {
  static override readonly keyNames = { conv: "0" };
  readonly conv: Conv2d;

  constructor(c: number, rng: Rng) {
    super();
    this.conv = new Conv2d(c, 2 * c, 1, rng, { bias: false });
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return pixelShuffle(this.conv.call(x), 2);
  }
}

/** Sizes of a NAFNet. */
export interface NAFNetConfig {
  /** Channels of pictures. Default 3. */
  readonly channels?: number;
  /** Default 32. */
  readonly width?: number;
  /** Blocks of each level on the way down, in the middle, and on the way up. Default [2, 2, 4, 8], 12, [2, 2, 2, 2] (SIDD). */
  readonly encoder?: readonly number[];
  readonly middle?: number;
  readonly decoder?: readonly number[];
}

const blocks = (count: number, c: number, rng: Rng): NAFBlock[] =>
  Array.from({ length: count }, () => new NAFBlock(c, rng));
const through = (layers: readonly NAFBlock[], x: Tensor): Tensor =>
  layers.reduce((h, block) => block.call(h), x);

/** Keys as published: `intro`, `encoders`, `downs`, `middle_blks`, `ups`, `decoders`, `ending`. */
export class NAFNet extends Module {
  readonly intro: Conv2d;
  readonly encoders: readonly (readonly NAFBlock[])[];
  readonly downs: readonly Conv2d[];
  readonly middleBlks: readonly NAFBlock[];
  readonly ups: readonly PixelUp[];
  readonly decoders: readonly (readonly NAFBlock[])[];
  readonly ending: Conv2d;
  readonly config: Required<NAFNetConfig>;
  readonly channels: number;
  /** Height and width are multiples of this. */
  readonly sizeFactor: number;

  constructor(config: NAFNetConfig, rng: Rng) {
    super();
    const { channels = 3, width = 32, middle = 12 } = config;
    const { encoder = [2, 2, 4, 8], decoder = [2, 2, 2, 2] } = config;
    countsOf("NAFNet", { channels, width, "levels on the way down": encoder.length });
    const levels = encoder.length;
    const widths = encoder.map((_, level) => width * 2 ** level);
    const back = widths.toReversed();
    this.intro = new Conv2d(channels, width, 3, rng, { padding: 1 });
    this.encoders = encoder.map((count, level) => blocks(count, widths[level]!, rng));
    this.downs = widths.map((c) => new Conv2d(c, 2 * c, 2, rng, { stride: 2 }));
    this.middleBlks = blocks(middle, width * 2 ** levels, rng);
    this.ups = back.map((c) => new PixelUp(2 * c, rng));
    this.decoders = back.map((c, level) => blocks(decoder[level] ?? 0, c, rng));
    this.ending = new Conv2d(width, channels, 3, rng, { padding: 1 });
    this.config = { channels, width, encoder, middle, decoder };
    this.channels = channels;
    this.sizeFactor = 2 ** levels;
  }

  /** y [N, C, H, W] gives the residual that is added to it (the network's own last step), [N, C, H, W]. */
  call(y: Tensor): Tensor {
    checkMap("NAFNet", y, this.channels, this.sizeFactor);
    const skips: Tensor[] = [];
    let h = this.intro.call(y);
    for (const [level, encoder] of this.encoders.entries()) {
      h = through(encoder, h);
      skips.push(h);
      h = this.downs[level]!.call(h);
    }
    h = through(this.middleBlks, h);
    for (const [level, up] of this.ups.entries())
      h = through(this.decoders[level]!, up.call(h).add(skips.pop()!));
    return this.ending.call(h);
  }

  /** Pixels to each side that a pixel depends on, but for the means over the whole picture. */
  get reach(): number {
    const { encoder, decoder, middle } = this.config;
    const levels = encoder.length;
    const down = encoder.reduce((sum, count, level) => sum + (count + 1) * 2 ** level, 0);
    const up = decoder.reduce((sum, count, at) => sum + count * 2 ** (levels - 1 - at), 0);
    return 2 + down + middle * 2 ** levels + up;
  }

  /** The restored picture. */
  restore(y: Tensor): Tensor {
    return y.add(this.call(y));
  }
}

/** A small denoising network in the preconditioned form of Karras et al. 2022 (EDM), and its loss. */
import { Conv2d, GaussianFourierFeatures, GroupNorm, Linear, Module, type Rng } from "../../nn/index.ts";
import { concat, type Tensor, upsample } from "../../tensor/index.ts";

const conv = (i: number, o: number, rng: Rng, stride = 1): Conv2d =>
  new Conv2d(i, o, 3, rng, { padding: 1, stride });

/** Two convolutions with a shortcut; the noise level shifts the features between them. */
class ResBlock extends Module {
  norm1: GroupNorm;
  conv1: Conv2d;
  level: Linear;
  norm2: GroupNorm;
  conv2: Conv2d;
  shortcut: Conv2d | undefined;

  constructor(i: number, o: number, features: number, rng: Rng) {
    super();
    this.norm1 = new GroupNorm(8, i);
    this.conv1 = conv(i, o, rng);
    this.level = new Linear(features, o, rng);
    this.norm2 = new GroupNorm(8, o);
    this.conv2 = conv(o, o, rng);
    this.shortcut = i === o ? undefined : new Conv2d(i, o, 1, rng);
  }

  call(x: Tensor, level: Tensor): Tensor {
    const shift = this.level.call(level).unsqueeze(-1).unsqueeze(-1); // [N, C, 1, 1]
    const h = this.conv1.call(this.norm1.call(x).silu()).add(shift);
    return (this.shortcut?.call(x) ?? x).add(this.conv2.call(this.norm2.call(h).silu()));
  }
}

/** A U-Net with two resolutions: x [N, 3, 16, 16] and the logarithm of the noise level [N] give [N, 3, 16, 16]. */
class SmallUNet extends Module {
  fourier: GaussianFourierFeatures;
  level: Linear;
  input: Conv2d;
  high1: ResBlock;
  down: Conv2d;
  low1: ResBlock;
  low2: ResBlock;
  high2: ResBlock;
  norm: GroupNorm;
  output: Conv2d;

  constructor(width: number, rng: Rng) {
    super();
    const features = 2 * width;
    this.fourier = new GaussianFourierFeatures(width / 2, rng, { scale: 1 });
    this.level = new Linear(width, features, rng);
    this.input = conv(3, width, rng);
    this.high1 = new ResBlock(width, width, features, rng);
    this.down = conv(width, 2 * width, rng, 2);
    this.low1 = new ResBlock(2 * width, 2 * width, features, rng);
    this.low2 = new ResBlock(2 * width, 2 * width, features, rng);
    this.high2 = new ResBlock(3 * width, width, features, rng);
    this.norm = new GroupNorm(8, width);
    this.output = conv(width, 3, rng);
  }

  call(x: Tensor, logSigma: Tensor): Tensor {
    const level = this.level.call(this.fourier.call(logSigma)).silu();
    const high = this.high1.call(this.input.call(x), level);
    const low = this.low2.call(this.low1.call(this.down.call(high), level), level);
    const h = this.high2.call(concat(upsample(low, 2), high, 1), level);
    return this.output.call(this.norm.call(h).silu());
  }
}

/** Standard deviation of the pictures' values. */
const SIGMA_DATA = 0.5;

/** Maps a noisy picture to the best guess of the clean one (EDM, table 1). */
export class Denoiser extends Module {
  net: SmallUNet;

  constructor(rng: Rng, width = 32) {
    super();
    this.net = new SmallUNet(width, rng);
  }

  /** x [N, 3, H, W] and sigma [N, 1, 1, 1]; `scaled` is the network's own output, on the scale that it learns best. */
  parts(x: Tensor, sigma: Tensor): { skip: Tensor; out: Tensor; scaled: Tensor } {
    const total = sigma.square().add(SIGMA_DATA ** 2);
    const scaled = this.net.call(x.mul(total.rsqrt()), sigma.reshape([-1]).log().mul(0.25));
    return {
      skip: x.mul(total.reciprocal().mul(SIGMA_DATA ** 2)),
      out: sigma.mul(total.rsqrt()).mul(SIGMA_DATA),
      scaled,
    };
  }

  /** The denoised picture [N, 3, H, W]. */
  call(x: Tensor, sigma: Tensor): Tensor {
    const { skip, out, scaled } = this.parts(x, sigma);
    return skip.add(out.mul(scaled));
  }
}

export interface DenoisingBatch {
  /** Clean pictures [N, 3, H, W] in [-1, 1]. */
  readonly clean: Tensor;
  /** Standard normals of the same shape. */
  readonly noise: Tensor;
  /** Noise levels [N, 1, 1, 1]. */
  readonly sigma: Tensor;
}

/** EDM's weighted loss (equation 8), which is the plain squared error of the network's own output. */
export function denoisingLoss(model: Denoiser, { clean, noise, sigma }: DenoisingBatch): Tensor {
  const { skip, out, scaled } = model.parts(clean.add(noise.mul(sigma)), sigma);
  return scaled.sub(clean.sub(skip).div(out)).square().mean();
}

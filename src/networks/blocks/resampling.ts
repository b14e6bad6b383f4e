/** Halving and doubling of feature maps. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { Conv2d, ConvTranspose, Module, type Rng } from "../../nn/index.ts";
import { avgPool, resize, type Tensor, upsample } from "../../tensor/index.ts";

/** Height and width. */
export type Size = readonly [height: number, width: number];

/** Height and width of x [N, C, H, W]. Throws `ShapeError` for other ranks. */
export function sizeOfMap(x: Tensor): Size {
  if (x.rank !== 4) throw new ShapeError(`expected [N, C, H, W], got ${x}`);
  return [x.shape[2]!, x.shape[3]!];
}

/** Options of `Upsample2D`. */
export interface UpsampleOptions {
  readonly outChannels?: number;
  /** `conv` after repeating each point (the default), a transposed convolution, or repetition alone. */
  readonly kind?: "conv" | "transpose" | "nearest";
}

/** Twice the size, or the size of the skip connection that comes next. */
export class Upsample2D extends Module {
  readonly conv: Conv2d | ConvTranspose | undefined;
  readonly kind: NonNullable<UpsampleOptions["kind"]>;

  constructor(channels: number, rng: Rng, options: UpsampleOptions = {}) {
    super();
    const { outChannels = channels, kind = "conv" } = options;
    if (kind === "conv") this.conv = new Conv2d(channels, outChannels, 3, rng, { padding: 1 });
    if (kind === "transpose")
      this.conv = new ConvTranspose(channels, outChannels, 4, rng, { stride: 2, padding: 1 });
    this.kind = kind;
  }

  /** x [N, C, H, W] gives [N, K, 2 H, 2 W], or the given size (not with a transposed convolution). */
  call(x: Tensor, size?: Size): Tensor {
    if (this.kind === "transpose") return this.conv!.call(x);
    const larger = size ? resize(x, size, { mode: "nearest" }) : upsample(x, 2);
    return this.conv ? this.conv.call(larger) : larger;
  }
}

/** Options of `Downsample2D`. */
export interface DownsampleOptions {
  readonly outChannels?: number;
  /** A strided convolution (the default), or means of 2 x 2 points. */
  readonly kind?: "conv" | "average";
  /** Zeros around the input of the convolution; 0 means one row and column of zeros below and to the right, as in the VAE. */
  readonly padding?: number;
}

/** Half the size. */
export class Downsample2D extends Module {
  readonly conv: Conv2d | undefined;

  constructor(channels: number, rng: Rng, options: DownsampleOptions = {}) {
    super();
    const { outChannels = channels, kind = "conv", padding = 1 } = options;
    if (kind === "average" && outChannels !== channels)
      throw new ArgumentError(`Downsample2D: means keep ${channels} channels, got ${outChannels}`);
    const sides = padding === 0 ? ([0, 1] as const) : ([padding, padding] as const);
    if (kind === "conv")
      this.conv = new Conv2d(channels, outChannels, 3, rng, { stride: 2, padding: [sides, sides] });
  }

  /** x [N, C, H, W] gives [N, K, H / 2, W / 2], rounded up by a convolution with padding 1 and down otherwise. */
  call(x: Tensor): Tensor {
    return this.conv ? this.conv.call(x) : avgPool(x, 2);
  }
}

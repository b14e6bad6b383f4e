/** The residual block of all U-Nets and of the VAE. */
import { ShapeError } from "../../errors.ts";
import {
  type Activation,
  activate,
  Conv2d,
  Dropout,
  GroupNorm,
  Linear,
  Module,
  modulate,
  type Rng,
} from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { FeatureNorm } from "./feature-norm.ts";
import { Downsample2D, Upsample2D } from "./resampling.ts";

/** Options of `ResnetBlock2D`. */
export interface ResnetOptions {
  /** Default: as many as go in. */
  readonly outChannels?: number;
  /** Width of the time embedding; absent: none is expected. */
  readonly timeDim?: number;
  readonly groups?: number;
  /** Groups of the second norm. Default: those of the first. */
  readonly groupsOut?: number;
  readonly eps?: number;
  readonly activation?: Activation;
  /** How time enters: added after the first convolution, or as scale and shift of the second norm. */
  readonly timeScaleShift?: "default" | "scale_shift";
  /** The time embedding is already activated. */
  readonly skipTimeActivation?: boolean;
  /** The output is divided by this. Default 1. */
  readonly outputScaleFactor?: number;
  /** Resamples both branches, without parameters, before the first convolution. */
  readonly resample?: "up" | "down";
  /** Channels of a map that modulates both norms, see `FeatureNorm`. Default: the norms have weights of their own. */
  readonly featureChannels?: number;
  readonly dropout?: number;
  /** See `DropoutOptions`. */
  readonly purpose?: number | string;
}

/** Norm, activation, convolution, twice, beside a shortcut (He et al. 2016; Ho et al. 2020). */
export class ResnetBlock2D extends Module {
  readonly norm1: GroupNorm | FeatureNorm;
  readonly conv1: Conv2d;
  readonly timeEmbProj: Linear | undefined;
  readonly norm2: GroupNorm | FeatureNorm;
  readonly dropout: Dropout;
  readonly conv2: Conv2d;
  readonly convShortcut: Conv2d | undefined;
  readonly resample: Upsample2D | Downsample2D | undefined;
  readonly activation: Activation;
  readonly timeScaleShift: "default" | "scale_shift";
  readonly skipTimeActivation: boolean;
  readonly outputScaleFactor: number;

  constructor(channels: number, rng: Rng, options: ResnetOptions = {}) {
    super();
    const { outChannels = channels, timeDim, groups = 32, groupsOut = groups, eps = 1e-6 } = options;
    const { timeScaleShift = "default", resample, featureChannels } = options;
    const norm = (split: number, width: number): GroupNorm | FeatureNorm =>
      featureChannels === undefined
        ? new GroupNorm(split, width, { eps })
        : new FeatureNorm(split, width, featureChannels, rng, { eps });
    this.norm1 = norm(groups, channels);
    this.conv1 = new Conv2d(channels, outChannels, 3, rng, { padding: 1 });
    const timeChannels = timeScaleShift === "scale_shift" ? 2 * outChannels : outChannels;
    this.timeEmbProj = timeDim === undefined ? undefined : new Linear(timeDim, timeChannels, rng);
    this.norm2 = norm(groupsOut, outChannels);
    this.dropout = new Dropout(options.dropout ?? 0, { purpose: options.purpose });
    this.conv2 = new Conv2d(outChannels, outChannels, 3, rng, { padding: 1 });
    this.convShortcut = channels === outChannels ? undefined : new Conv2d(channels, outChannels, 1, rng);
    if (resample === "up") this.resample = new Upsample2D(channels, rng, { kind: "nearest" });
    if (resample === "down") this.resample = new Downsample2D(channels, rng, { kind: "average" });
    this.activation = options.activation ?? "silu";
    this.timeScaleShift = timeScaleShift;
    this.skipTimeActivation = options.skipTimeActivation ?? false;
    this.outputScaleFactor = options.outputScaleFactor ?? 1;
  }

  /** x [N, C, H, W] and, where expected, time [N or 1, T] and features give [N, K, H, W]; with a key, values are dropped. */
  call(x: Tensor, time?: Tensor, key?: Tensor, features?: Tensor): Tensor {
    const activated = activate(this.activation, this.norm1.call(x, features));
    const [input, hidden] = this.resample
      ? [this.resample.call(x), this.resample.call(activated)]
      : [x, activated];
    const h = this.withTime(this.conv1.call(hidden), this.timeChannels(time), features);
    const residual = this.conv2.call(this.dropout.call(activate(this.activation, h), key));
    const shortcut = this.convShortcut ? this.convShortcut.call(input) : input;
    const sum = shortcut.add(residual);
    return this.outputScaleFactor === 1 ? sum : sum.div(this.outputScaleFactor);
  }

  /** The time embedding projected to the channels: [N or 1, K], or [N or 1, 2 K] for scale and shift. */
  private timeChannels(time: Tensor | undefined): Tensor | undefined {
    if (!this.timeEmbProj) return undefined;
    if (!time) throw new ShapeError(`ResnetBlock2D: expected a time embedding [N, T], got none`);
    return this.timeEmbProj.call(this.skipTimeActivation ? time : activate(this.activation, time));
  }

  /** The second norm, with the time added before it, or as its scale and shift. */
  private withTime(x: Tensor, time: Tensor | undefined, features: Tensor | undefined): Tensor {
    if (!time) return this.norm2.call(x, features);
    if (this.timeScaleShift === "default")
      return this.norm2.call(x.add(time.unsqueeze(2).unsqueeze(3)), features);
    const [scale, shift] = time.split(2, 1) as [Tensor, Tensor];
    return modulate(this.norm2.call(x, features), shift, scale, 1);
  }
}

/** Feature denormalisation: how maps of a condition modulate the maps of a network (Zhao et al. 2023, Uni-ControlNet). */
import { ShapeError } from "../../errors.ts";
import { Conv2d, GroupNorm, Module, type Rng } from "../../nn/index.ts";
import { resize, type Tensor } from "../../tensor/index.ts";
import { sizeOfMap } from "./resampling.ts";

/** `FDN(x, f) = norm(x) (1 + gamma(f)) + beta(f)`, a group norm without weights and two convolutions of the condition. */
export class FeatureNorm extends Module {
  readonly norm: GroupNorm;
  readonly convGamma: Conv2d;
  readonly convBeta: Conv2d;

  /** `features`: channels of the condition. */
  constructor(groups: number, channels: number, features: number, rng: Rng, { eps = 1e-5 } = {}) {
    super();
    const conv = (): Conv2d => new Conv2d(features, channels, 3, rng, { padding: 1 });
    this.norm = new GroupNorm(groups, channels, { eps, affine: false });
    this.convGamma = conv();
    this.convBeta = conv();
  }

  /** x [N, C, H, W] and features [N, F, h, w], which are brought to the size of x. */
  call(x: Tensor, features?: Tensor): Tensor {
    if (!features) throw new ShapeError("FeatureNorm: expected features [N, F, h, w], got none");
    const same = features.shape.slice(2).join() === x.shape.slice(2).join();
    const f = same ? features : resize(features, sizeOfMap(x));
    return this.norm.call(x).mul(this.convGamma.call(f).add(1)).add(this.convBeta.call(f));
  }
}

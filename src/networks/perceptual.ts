/**
 * The convolutional classifiers whose features perceptual distances compare: SqueezeNet 1.1, AlexNet, VGG-16, without
 * their classifiers, in torchvision's key layout (`features.3.squeeze.weight`).
 */
import { ArgumentError } from "../errors.ts";
import { Conv2d, Module, type Rng } from "../nn/index.ts";
import { concat, maxPool, pad, type Tensor } from "../tensor/index.ts";

/** SqueezeNet's block: channels squeezed by 1x1, then expanded by 1x1 and 3x3 side by side. */
export class Fire extends Module {
  static override readonly keyNames = { expand1x1: "expand1x1", expand3x3: "expand3x3" };
  readonly squeeze: Conv2d;
  readonly expand1x1: Conv2d;
  readonly expand3x3: Conv2d;

  constructor(inChannels: number, squeezed: number, expanded: number, rng: Rng) {
    super();
    this.squeeze = new Conv2d(inChannels, squeezed, 1, rng);
    this.expand1x1 = new Conv2d(squeezed, expanded, 1, rng);
    this.expand3x3 = new Conv2d(squeezed, expanded, 3, rng, { padding: 1 });
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    const s = this.squeeze.call(x).relu();
    return concat(this.expand1x1.call(s).relu(), this.expand3x3.call(s).relu(), 1);
  }
}

type Layer =
  | { readonly conv: readonly [out: number, kernel: number, stride: number, padding: number] }
  | { readonly fire: readonly [squeezed: number, expanded: number] }
  | { readonly pool: readonly [window: number, stride: number] };

interface Plan {
  /** Layers by their number in torchvision's `features`. */
  readonly layers: Readonly<Record<number, Layer>>;
  /** Layers whose output, after the ReLU, is a feature. */
  readonly taps: readonly number[];
}

const conv = (out: number, kernel = 3, stride = 1, padding = (kernel - 1) / 2): Layer => ({
  conv: [out, kernel, stride, padding],
});
const fire = (squeezed: number, expanded: number): Layer => ({ fire: [squeezed, expanded] });
const pool = (window: number, stride = 2): Layer => ({ pool: [window, stride] });

const PLANS = {
  squeezenet: {
    layers: {
      0: conv(64, 3, 2, 0),
      2: pool(3),
      3: fire(16, 64),
      4: fire(16, 64),
      5: pool(3),
      6: fire(32, 128),
      7: fire(32, 128),
      8: pool(3),
      9: fire(48, 192),
      10: fire(48, 192),
      11: fire(64, 256),
      12: fire(64, 256),
    },
    taps: [0, 4, 7, 9, 10, 11, 12],
  },
  alexnet: {
    layers: {
      0: conv(64, 11, 4, 2),
      2: pool(3),
      3: conv(192, 5),
      5: pool(3),
      6: conv(384),
      8: conv(256),
      10: conv(256),
    },
    taps: [0, 3, 6, 8, 10],
  },
  vgg16: {
    layers: {
      0: conv(64),
      2: conv(64),
      4: pool(2),
      5: conv(128),
      7: conv(128),
      9: pool(2),
      10: conv(256),
      12: conv(256),
      14: conv(256),
      16: pool(2),
      17: conv(512),
      19: conv(512),
      21: conv(512),
      23: pool(2),
      24: conv(512),
      26: conv(512),
      28: conv(512),
    },
    taps: [2, 7, 14, 21, 28],
  },
} as const satisfies Record<string, Plan>;

/** Network whose features a perceptual distance compares. */
export type PerceptualBackbone = keyof typeof PLANS;

/** The feature part of a classifier. Input [N, 3, H, W], normalised as its training data was. */
export class PerceptualNetwork extends Module {
  readonly features: Record<number, Conv2d | Fire> = {};
  readonly backbone: PerceptualBackbone;

  constructor(backbone: PerceptualBackbone, rng: Rng) {
    super();
    const plan: Plan | undefined = PLANS[backbone];
    if (!plan)
      throw new ArgumentError(
        `PerceptualNetwork: expected one of ${Object.keys(PLANS).join(", ")}, got ${JSON.stringify(backbone)}`,
      );
    this.backbone = backbone;
    let channels = 3;
    for (const [at, layer] of Object.entries(plan.layers)) {
      if ("conv" in layer) {
        const [out, kernel, stride, padding] = layer.conv;
        this.features[Number(at)] = new Conv2d(channels, out, kernel, rng, { stride, padding });
        channels = out;
      } else if ("fire" in layer) {
        const [squeezed, expanded] = layer.fire;
        this.features[Number(at)] = new Fire(channels, squeezed, expanded, rng);
        channels = 2 * expanded;
      }
    }
  }

  /** Features after every tapped layer, each [N, C, h, w]. */
  call(x: Tensor): Tensor[] {
    const { layers, taps }: Plan = PLANS[this.backbone];
    const found: Tensor[] = [];
    let h = x;
    for (const [at, layer] of Object.entries(layers)) {
      const module = this.features[Number(at)];
      if ("pool" in layer) h = maxPoolCeil(h, layer.pool[0], layer.pool[1], this.backbone === "squeezenet");
      else h = module instanceof Fire ? module.call(h) : (module as Conv2d).call(h).relu();
      if (taps.includes(Number(at))) found.push(h);
    }
    return found;
  }

  /** Channels of the features that `call` gives. */
  get channels(): number[] {
    return PLANS[this.backbone].taps.map((at) => {
      const module = this.features[at]!;
      return module instanceof Fire ? 2 * module.expand1x1.weight.shape[0]! : module.weight.shape[0]!;
    });
  }
}

/** Max pooling that, with `ceil`, keeps a last window reaching over the edge, as SqueezeNet was trained with. */
function maxPoolCeil(x: Tensor, window: number, stride: number, ceil: boolean): Tensor {
  const missing = (size: number): number => (ceil ? (stride - ((size - window) % stride)) % stride : 0);
  const [h, w] = [missing(x.shape[2]!), missing(x.shape[3]!)];
  const padded = h || w ? pad(x, [[0, 0], [0, 0], [0, h], [0, w]], "constant", -3.4e38) : x; // biome-ignore format: one row
  return maxPool(padded, window, { stride });
}

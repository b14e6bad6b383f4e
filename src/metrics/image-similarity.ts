/**
 * Distances between two pictures of the same scene: PSNR, SSIM, MS-SSIM. All are differentiable, take [N, C, H, W] and
 * give one value per picture, so they are losses too.
 */
import { ArgumentError, ShapeError } from "../errors.ts";
import { avgPool, constant, conv, sizeOf, type Tensor } from "../tensor/index.ts";

function checkPair(name: string, a: Tensor, b: Tensor): void {
  if (a.rank !== 4 || b.rank !== 4 || a.shape.some((d, i) => d !== b.shape[i]))
    throw new ShapeError(`${name}: expected two tensors [N, C, H, W] of one shape, got ${a} and ${b}`);
}

/** Mean squared error of every picture. // [N] */
export function imageMse(a: Tensor, b: Tensor): Tensor {
  checkPair("imageMse", a, b);
  return a.sub(b).square().mean([1, 2, 3]);
}

/** Peak signal-to-noise ratio in dB, infinite for equal pictures. `range` is the width of the values' range. // [N] */
export function psnr(a: Tensor, b: Tensor, range = 1): Tensor {
  return imageMse(a, b)
    .div(range * range)
    .log()
    .mul(-10 / Math.LN10);
}

/** Options of `ssim` and `msSsim`. */
export interface SsimOptions {
  /** Width of the values' range: 1 for [0, 1], 2 for [-1, 1], 255 for bytes. Default 1. */
  readonly range?: number;
  /** Side of the Gaussian window. Default 11, with sigma 1.5. */
  readonly window?: number;
  readonly sigma?: number;
  /** Stabilisers of luminance and contrast. Default 0.01 and 0.03. */
  readonly k1?: number;
  readonly k2?: number;
}

/** Gaussian blur without padding, one separable pass per axis. // [M, 1, H, W] to [M, 1, H - w + 1, W - w + 1] */
function blurValid(x: Tensor, window: number, sigma: number): Tensor {
  const weights = Array.from({ length: window }, (_, i) =>
    Math.exp(-0.5 * ((i - (window - 1) / 2) / sigma) ** 2),
  );
  const sum = weights.reduce((a, b) => a + b, 0);
  const kernel = weights.map((w) => w / sum);
  const rows = conv(x, constant("f32", [1, 1, window, 1], kernel));
  return conv(rows, constant("f32", [1, 1, 1, window], kernel));
}

/** Mean of SSIM and of its contrast-structure part over a picture's valid windows. // [N], [N] */
function ssimParts(
  name: string,
  a: Tensor,
  b: Tensor,
  options: SsimOptions,
): { full: Tensor; contrast: Tensor } {
  checkPair(name, a, b);
  const { range = 1, window = 11, sigma = 1.5, k1 = 0.01, k2 = 0.03 } = options;
  const [n, channels, h, w] = a.shape as [number, number, number, number];
  if (h < window || w < window)
    throw new ShapeError(`${name}: pictures of ${w}x${h} are smaller than the window of ${window}x${window}`);
  if (!(range > 0)) throw new ArgumentError(`${name}: range must be positive, got ${range}`);
  const [c1, c2] = [(k1 * range) ** 2, (k2 * range) ** 2];
  const [x, y] = [a, b].map((t) => t.reshape([n * channels, 1, h, w])) as [Tensor, Tensor];
  const blur = (t: Tensor): Tensor => blurValid(t, window, sigma);
  const [mx, my] = [blur(x), blur(y)];
  const [mxx, myy, mxy] = [mx.square(), my.square(), mx.mul(my)];
  const [vx, vy, vxy] = [blur(x.square()).sub(mxx), blur(y.square()).sub(myy), blur(x.mul(y)).sub(mxy)];
  const contrast = vxy.mul(2).add(c2).div(vx.add(vy).add(c2));
  const full = mxy.mul(2).add(c1).div(mxx.add(myy).add(c1)).mul(contrast);
  const perPicture = (t: Tensor): Tensor => t.reshape([n, sizeOf(t.shape) / n]).mean(1);
  return { full: perPicture(full), contrast: perPicture(contrast) };
}

/** Structural similarity (Wang et al., 2004) over valid windows, mean over channels. // [N] */
export const ssim = (a: Tensor, b: Tensor, options: SsimOptions = {}): Tensor =>
  ssimParts("ssim", a, b, options).full;

/** Weights of the five scales (Wang et al., 2003). */
const MS_WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/**
 * Multi-scale SSIM: contrast of every scale and the full SSIM of the coarsest, to the powers of the weights. The
 * smallest side must be at least window * 2^(scales - 1); give fewer `weights` for small pictures. // [N]
 */
export function msSsim(
  a: Tensor,
  b: Tensor,
  options: SsimOptions & { readonly weights?: readonly number[] } = {},
): Tensor {
  checkPair("msSsim", a, b);
  const { weights = MS_WEIGHTS, window = 11 } = options;
  const least = window * 2 ** (weights.length - 1);
  if (Math.min(a.shape[2]!, a.shape[3]!) < least)
    throw new ShapeError(
      `msSsim: ${weights.length} scales with a window of ${window} need sides of at least ${least}, got ${a}`,
    );
  let [x, y] = [a, b];
  let product: Tensor | undefined;
  for (const [scale, weight] of weights.entries()) {
    const { full, contrast } = ssimParts("msSsim", x, y, options);
    const part = (scale === weights.length - 1 ? full : contrast).maximum(1e-8).pow(weight);
    product = product ? product.mul(part) : part;
    [x, y] = [avgPool(x, 2), avgPool(y, 2)];
  }
  return product!;
}

/** Noise as cameras make it: correlated between neighbours and colours, stronger where it is bright, in rows, in single pixels. */
import { ArgumentError } from "../../errors.ts";
import type { Draw } from "../random-draws.ts";
import { blurPicture, onPicture, type Range } from "./degrade.ts";
import type { Augmentation, FloatPicture } from "./sample.ts";

/** How noise hangs together between neighbours and colours. */
export interface CorrelatedNoise {
  /** Standard deviation on the scale of [0, 1], at a brightness of one half. */
  readonly strength: Range;
  /** Deviation in pixels of the blur that makes neighbours alike. Default [0.9, 0.9]; 0: each pixel on its own. */
  readonly blur?: Range;
  /** Share of the variance that all colours have in common. Default 0.73, as measured on photographs. */
  readonly colour?: number;
  /** Variance at black and its growth to white, relative. Default [0.4, 1.2]; [1, 0]: the same everywhere. */
  readonly signal?: Range;
  /** Cuts values off at 0 and 1. Default true. */
  readonly clip?: boolean;
}

/** A plane of noise of mean 0 and deviation 1 whose neighbours are alike. // [H, W] */
function plane({ width, height }: FloatPicture, sigma: number, draw: Draw): Float32Array {
  const data = Float32Array.from({ length: width * height }, () => draw.normal());
  const smooth = blurPicture({ width, height, channels: 1, data }, sigma).data;
  let squares = 0;
  for (const v of smooth) squares += v * v;
  const scale = squares > 0 ? Math.sqrt(smooth.length / squares) : 0;
  return smooth.map((v) => v * scale);
}

/** n = s sqrt(a + b x) unit(blur(sqrt(c) common + sqrt(1 - c) own)), with x the clean value. */
export const correlatedNoise = ({
  strength,
  blur = [0.9, 0.9],
  colour = 0.73,
  signal: [base, growth] = [0.4, 1.2],
  clip = true,
}: CorrelatedNoise): Augmentation => {
  if (!(colour >= 0 && colour <= 1))
    throw new ArgumentError(`correlatedNoise: colour is a share in [0, 1], got ${colour}`);
  return onPicture((image, draw) => {
    const { channels } = image;
    const [s, sigma] = [draw.uniform(...strength), draw.uniform(...blur)];
    const common = plane(image, sigma, draw);
    const own = Array.from({ length: channels }, () => plane(image, sigma, draw));
    const [shared, alone] = [Math.sqrt(colour), Math.sqrt(1 - colour)];
    const data = image.data.map((x, at) => {
      const [pixel, c] = [Math.floor(at / channels), at % channels];
      const level = Math.sqrt(Math.max(0, base + growth * Math.min(1, Math.max(0, x))));
      return x + s * level * (shared * common[pixel]! + alone * own[c]![pixel]!);
    });
    return { ...image, data };
  }, clip);
};

/** One random value for each row and channel, of a random standard deviation, as badly shielded sensors read out. */
export const bandingNoise = ([low, high]: Range, { clip = true } = {}): Augmentation =>
  onPicture((image, draw) => {
    const sigma = draw.uniform(low, high);
    const { width, height, channels } = image;
    const rows = Float32Array.from({ length: height * channels }, () => sigma * draw.normal());
    const stride = width * channels;
    const data = image.data.map((x, at) => x + rows[Math.floor(at / stride) * channels + (at % channels)]!);
    return { ...image, data };
  }, clip);

/** A random share of the pixels black or white, all channels together. */
export const impulseNoise = ([low, high]: Range): Augmentation =>
  onPicture((image, draw) => {
    const share = draw.uniform(low, high);
    const { channels } = image;
    const data = image.data.slice();
    for (let at = 0; at < data.length; at += channels)
      if (draw.chance(share)) data.fill(draw.chance(0.5) ? 1 : 0, at, at + channels);
    return { ...image, data };
  });

/** How dark a picture becomes. */
export interface LowLight {
  /** Default 1.6. */
  readonly gamma?: number;
  /** What is left of the light. Default [0.15, 0.4]. */
  readonly gain?: Range;
}

/** A dark exposure: gain x^gamma. */
export const lowLight = ({ gamma = 1.6, gain = [0.15, 0.4] }: LowLight = {}): Augmentation =>
  onPicture((image, draw) => {
    const light = draw.uniform(...gain);
    return { ...image, data: image.data.map((x) => light * Math.max(0, x) ** gamma) };
  });

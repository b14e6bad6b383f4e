/** The colours of a picture as shares of a palette in CIELab, as Uni-ControlNet and AnyControl are told them. */
import type { Picture } from "../../io/picture.ts";

/** Hues of the palette: eleven around the circle, closer where names of colours are. */
const HUES = [0, 0.0833, 0.166, 0.25, 0.333, 0.5, 0.56333, 0.666, 0.73, 0.803, 0.916];

/** `count` steps from `from` to `to` with both ends, some left out at either end. */
const steps = (from: number, to: number, count: number, first: number, last: number): number[] =>
  Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1)).slice(first, count - last);

/** Saturation and value of the rows: pale, full, ever darker, and muted. */
const SATURATIONS = [
  ...steps(0, 1, 7, 1, 1),
  1,
  ...new Array<number>(5).fill(1),
  ...new Array<number>(4).fill(0.4),
];
const VALUES = [...new Array<number>(6).fill(1), ...steps(1, 0.2, 7, 1, 1), ...steps(1, 0.2, 7, 1, 2)];
const ROWS = SATURATIONS.length;

/** Three numbers: a colour. */
export type Triple = readonly [number, number, number];

function hsvToRgb(h: number, s: number, v: number): Triple {
  const sector = Math.floor(h * 6);
  const f = h * 6 - sector;
  const [p, q, t] = [v * (1 - s), v * (1 - f * s), v * (1 - (1 - f) * s)];
  const cases: readonly Triple[] = [
    [v, t, p],
    [q, v, p],
    [p, v, t],
    [p, q, v],
    [t, p, v],
    [v, p, q],
  ];
  return cases[sector % 6]!;
}

const WHITE = [0.95047, 1, 1.08883] as const; // D65
const TO_XYZ = [
  [0.412453, 0.35758, 0.180423],
  [0.212671, 0.71516, 0.072169],
  [0.019334, 0.119193, 0.950227],
] as const;

/** sRGB in [0, 1] as L*, a*, b* under D65. */
export function rgbToLab(rgb: Triple): Triple {
  const linear = rgb.map((v) => (v > 0.04045 ? ((v + 0.055) / 1.055) ** 2.4 : v / 12.92));
  const [x, y, z] = TO_XYZ.map((row, i) => {
    const v = (row[0] * linear[0]! + row[1] * linear[1]! + row[2] * linear[2]!) / WHITE[i]!;
    return v > 0.008856 ? Math.cbrt(v) : 7.787 * v + 16 / 116;
  }) as [number, number, number];
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** Colours of the palette in sRGB: 15 of each hue, then 15 grays from white to black. */
export const LAB_PALETTE: readonly Triple[] = [
  ...HUES.flatMap((hue) => SATURATIONS.map((s, i) => hsvToRgb(hue, s, VALUES[i]!))),
  ...steps(1, 0, ROWS, 0, 0).map((v): Triple => [v, v, v]),
];
const LABS = LAB_PALETTE.map(rgbToLab);

const squared = (a: Triple, b: Triple): number =>
  (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;

/** Every second pixel and so on of pictures larger than this. */
const LARGEST = 241;

/**
 * Shares of 180 colours in a picture, each spread over its neighbours in the palette by a Gaussian of deviation `sigma` in
 * CIELab; shares below 1e-5 are 0. // [180]
 */
export function colourHistogram({ width, height, channels, data }: Picture, sigma = 10): Float64Array {
  const top = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65_535 : 1;
  const [down, right] = [Math.floor(height / LARGEST + 1), Math.floor(width / LARGEST + 1)];
  const counts = new Float64Array(LABS.length);
  const known = new Map<string, number>();
  let pixels = 0;
  for (let y = 0; y < height; y += down)
    for (let x = 0; x < width; x += right, pixels++) {
      const at = (y * width + x) * channels;
      const rgb = [0, 1, 2].map((c) => data[at + (channels < 3 ? 0 : c)]! / top) as [number, number, number];
      const key = rgb.join();
      let nearest = known.get(key);
      if (nearest === undefined) {
        const lab = rgbToLab(rgb);
        const distances = LABS.map((colour) => squared(colour, lab));
        nearest = distances.indexOf(Math.min(...distances));
        known.set(key, nearest);
      }
      counts[nearest]!++;
    }
  return Float64Array.from(LABS, (own) => {
    const weights = LABS.map((other) => Math.exp(-squared(own, other) / (2 * sigma ** 2)));
    const total = weights.reduce((a, b) => a + b, 0);
    const share = weights.reduce((sum, w, i) => sum + (w / total) * (counts[i]! / pixels), 0);
    return share < 1e-5 ? 0 : share;
  });
}

import { describe, expect, it } from "vitest";
import { canny, colourHistogram, LAB_PALETTE, rgbToLab, sketchMap } from "../../src/data/index.ts";
import type { Picture } from "../../src/io/index.ts";

/** Waves with a block, as the reference was given them. */
function waves(channels: 1 | 3): Picture {
  const [width, height] = [18, 14];
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < rgb.length; i++) {
    const [row, column] = [Math.floor(i / (3 * width)), i % (3 * width)];
    rgb[i] = Math.floor(((Math.sin(i * 0.05) + Math.sin(row * 0.9) + Math.cos(column * 0.21) + 3) / 6) * 255);
    const x = Math.floor(column / 3);
    if (row >= 4 && row < 10 && x >= 5 && x < 12) rgb[i] = [200, 40, 90][i % 3]!;
  }
  const data = channels === 3 ? rgb : rgb.filter((_, i) => i % 3 === 0);
  return { width, height, channels, data };
}

/** What OpenCV 5.0.0 gives: `cv2.Canny(img, 100, 200)`, `(img, 60, 140, L2gradient=True)`, `(img[:, :, 0], 50, 120)`. */
const OPENCV = {
  l1: "111001111101111000001000010000011111001000010000100010111110111111111111010001000000000000001001000000100000001001000000101111111110000000100000001010000001001111001001000111000000111111111000011111010000000000000000001000000001111011111111111111000010",
  l2: "111000111101110000001000010000011111001000010000100010111110111111111111000001000000000000001001000000100000001001000000101111111010000000000000001010000001001111001000001111000000111111110000011111000000000000000000001000000001111010111111111111000010",
  gray: "111000111110111010001000001000011111000100010000100000111101110010111111010001001000100000000001000000101010000001000000101111111110000000100000001001000000011111000100000000100000111111111111111111010000000000000000000100000000111111111111111111100010",
};
const bits = ({ data }: Picture): string => Array.from(data, (v) => (v === 255 ? "1" : "0")).join("");

describe("canny", () => {
  it("gives OpenCV's pixels in both norms, of colours and of grays", () => {
    expect(bits(canny(waves(3)))).toBe(OPENCV.l1);
    expect(bits(canny(waves(3), { low: 60, high: 140, l2: true }))).toBe(OPENCV.l2);
    expect(bits(canny(waves(1), { low: 120, high: 50 }))).toBe(OPENCV.gray); // in either order
  });

  it("refuses thresholds that are none", () => {
    expect(() => canny(waves(1), { low: -1 })).toThrow(/thresholds/);
    expect(() => canny({ width: 1, height: 1, channels: 1, data: new Float32Array(1) })).toThrow(/8 bits/);
  });
});

describe("sketches", () => {
  it("are white lines on black whatever the paper", () => {
    const paper = (light: number, line: number): Picture => ({
      ...{ width: 3, height: 3, channels: 1 },
      data: Uint8Array.from({ length: 9 }, (_, i) => (i === 4 ? line : light)),
    });
    const wanted = Array.from({ length: 9 }, (_, i) => (i === 4 ? 255 : 0));
    expect(Array.from(sketchMap(paper(255, 0)).data)).toEqual(wanted);
    expect(Array.from(sketchMap(paper(0, 255)).data)).toEqual(wanted);
  });

  it("lie on white paper where they are transparent", () => {
    const data = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0]); // only the middle pixel is drawn, in black
    expect(Array.from(sketchMap({ width: 3, height: 1, channels: 4, data }).data)).toEqual([0, 255, 0]);
  });
});

describe("colours", () => {
  it("are CIELab of D65", () => {
    const near = (got: readonly number[], want: readonly number[]): void =>
      got.forEach((v, i) => {
        expect(v).toBeCloseTo(want[i]!, 0);
      });
    near(rgbToLab([0.2, 0.5, 0.7]), [50.96, -6.47, -33.6]);
    near(rgbToLab([0.9, 0.1, 0.3]), [49.41, 73.09, 27.14]);
    near(rgbToLab([1, 1, 1]), [100, 0, 0]);
  });

  it("are shares of 180, most of them of the colour that is there", () => {
    expect(LAB_PALETTE.length).toBe(180);
    const picture = {
      width: 4,
      height: 4,
      channels: 3,
      data: new Uint8Array(48).map((_, i) => (i % 3 === 0 ? 255 : 0)),
    };
    const shares = colourHistogram(picture);
    const top = shares.indexOf(Math.max(...shares));
    expect(LAB_PALETTE[top]).toEqual([1, 0, 0]);
    expect(colourHistogram({ ...picture, width: 16, height: 1 })).toEqual(shares);
  });
});

import { describe, expect, test } from "vitest";
import {
  type Augmentation,
  type AugmentSample,
  augmented,
  blurPicture,
  centreCrop,
  colourJitter,
  createDraw,
  cutOut,
  downUp,
  type FloatPicture,
  fromArray,
  gammaJitter,
  gaussianBlur,
  gaussianNoise,
  grayscale,
  inOrder,
  jpeg,
  motionBlur,
  rain,
  randomAffine,
  randomCrop,
  randomFlip,
  randomQuarterTurn,
  randomResizedCrop,
  readAll,
  resizePicture,
  resizeTo,
  shotNoise,
  sometimes,
} from "../../src/data/index.ts";

/** A picture whose value says where it was, with the same place as its label. */
function ramp(width = 8, height = 6, channels = 1): AugmentSample {
  const size = width * height;
  return {
    image: {
      width,
      height,
      channels,
      data: Float32Array.from({ length: size * channels }, (_, i) => Math.floor(i / channels) / size),
    },
    labels: Int32Array.from({ length: size }, (_, i) => i),
  };
}

const photo: FloatPicture = {
  width: 24,
  height: 16,
  channels: 3,
  data: Float32Array.from(
    { length: 24 * 16 * 3 },
    (_, i) => 0.4 + 0.1 * (i % 3) + 0.2 * Math.sin(i / 21) + 0.1 * Math.cos(Math.floor(i / 3)),
  ),
};
const mean = (image: FloatPicture): number => image.data.reduce((a, b) => a + b, 0) / image.data.length;
const apply = (step: Augmentation, sample: AugmentSample, index = 0): Promise<AugmentSample> =>
  Promise.resolve(step(sample, createDraw(3, index, 0)));

const EVERY: Readonly<Record<string, Augmentation>> = {
  randomCrop: randomCrop(5, 4),
  centreCrop: centreCrop(4),
  randomFlip: randomFlip({ vertical: true }),
  randomQuarterTurn: randomQuarterTurn(),
  randomResizedCrop: randomResizedCrop([0.3, 0.9]),
  randomAffine: randomAffine({ degrees: 30, scale: [0.8, 1.2], shift: 0.1 }),
  resizeTo: resizeTo(7, 9),
  colourJitter: colourJitter({ brightness: 0.2, contrast: 0.3, saturation: 0.5, hue: 0.1 }),
  grayscale: grayscale(),
  gammaJitter: gammaJitter([0.5, 2]),
  gaussianNoise: gaussianNoise([0.05, 0.1]),
  shotNoise: shotNoise([20, 100]),
  gaussianBlur: gaussianBlur([0.5, 2]),
  motionBlur: motionBlur([3, 7]),
  downUp: downUp([0.3, 0.8]),
  jpeg: jpeg([20, 60]),
  rain: rain(),
  cutOut: cutOut([0.2, 0.5]),
};

describe.each(Object.entries(EVERY))("%s", (_, step) => {
  test("is a function of seed, sample and epoch alone, leaves its input as it was and values in [0, 1]", async () => {
    const sample = { image: photo, labels: Int32Array.from({ length: 24 * 16 }, (_x, i) => i % 5) };
    const before = photo.data.slice();
    const once = await apply(step, sample);
    expect(await apply(step, sample)).toEqual(once);
    expect(photo.data).toEqual(before);
    expect(once.image.data.every((x) => x >= 0 && x <= 1)).toBe(true);
    expect(once.image.data).toHaveLength(once.image.width * once.image.height * 3);
    expect(once.labels).toHaveLength(once.image.width * once.image.height);
  });
});

describe("pixels and labels move together", () => {
  test.each(["randomCrop", "centreCrop", "randomFlip", "randomQuarterTurn"])(
    "%s carries each label with its pixel",
    async (name) => {
      for (let index = 0; index < 8; index++) {
        const { image, labels } = await apply(EVERY[name]!, ramp(), index);
        labels!.forEach((label, i) => {
          expect(image.data[i]).toBeCloseTo(label / 48, 6);
        });
      }
    },
  );
  test("four quarter turns are reached, and a flip undoes itself", async () => {
    const shapes = new Set<string>();
    for (let i = 0; i < 40; i++) shapes.add((await apply(randomQuarterTurn(), ramp(), i)).labels!.join());
    expect(shapes.size).toBe(4);
    const flip = randomFlip({ p: 1 });
    expect((await apply(flip, await apply(flip, ramp()))).labels).toEqual(ramp().labels);
  });
  test("an affine turn of nothing changes nothing; a crop beyond the border repeats it", async () => {
    expect(await apply(randomAffine({}), ramp())).toEqual(ramp());
    const { image, labels } = await apply(randomCrop(12, 6), ramp());
    expect([image.width, labels![0], labels![1], labels![2]]).toEqual([12, 0, 0, 0]);
  });
  test("a resized crop keeps size, order and the share of the area that it was given", async () => {
    const areas: number[] = [];
    for (let i = 0; i < 100; i++) {
      const { image, labels } = await apply(randomResizedCrop([0.25, 0.5]), ramp(40, 30), i);
      expect([image.width, image.height]).toEqual([40, 30]);
      const columns = 1 + (labels!.at(-1)! % 40) - (labels![0]! % 40);
      const rows = 1 + Math.floor(labels!.at(-1)! / 40) - Math.floor(labels![0]! / 40);
      areas.push((rows * columns) / 1200);
    }
    expect(Math.min(...areas)).toBeGreaterThan(0.23);
    expect(Math.max(...areas)).toBeLessThan(0.52);
    expect(Math.max(...areas) - Math.min(...areas)).toBeGreaterThan(0.2);
    expect(await apply(randomResizedCrop([1, 1], [1, 1]), ramp(8, 8))).toEqual(ramp(8, 8));
    expect(() => randomResizedCrop([0, 1])).toThrow(/\(0, 1\], got \[0, 1\]/);
  });
  test("crops start everywhere", async () => {
    const starts = new Set<number>();
    for (let i = 0; i < 200; i++) starts.add((await apply(randomCrop(7, 5), ramp(), i)).labels![0]!);
    expect([...starts].sort((a, b) => a - b)).toEqual([0, 1, 8, 9]);
  });
});

describe("values", () => {
  test("shrinking averages and never overshoots; the mean survives", () => {
    const small = resizePicture(photo, 12, 8);
    expect(mean(small)).toBeCloseTo(mean(photo), 2);
    expect(resizePicture(photo, 24, 16).data.every((x, i) => Math.abs(x - photo.data[i]!) < 1e-6)).toBe(true);
    const checks = {
      width: 4,
      height: 4,
      channels: 1,
      data: Float32Array.from({ length: 16 }, (_, i) => (i + (i >> 2)) % 2),
    };
    expect([...resizePicture(checks, 1, 1).data]).toEqual([0.5]);
  });
  test("blur of a point is a Gaussian of unit mass", () => {
    const data = new Float32Array(31 * 31);
    data[15 * 31 + 15] = 1;
    const { data: blurred } = blurPicture({ width: 31, height: 31, channels: 1, data }, 2);
    expect(blurred.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
    const variance = blurred.reduce((sum, v, i) => sum + v * ((i % 31) - 15) ** 2, 0);
    expect(variance).toBeCloseTo(4, 1);
  });
  test("noise has the asked-for deviation, shot noise grows with the signal", async () => {
    const flat = (value: number): AugmentSample => ({
      image: { width: 64, height: 64, channels: 1, data: new Float32Array(4096).fill(value) },
    });
    const deviation = async (step: Augmentation, value: number): Promise<number> => {
      const { image } = await apply(step, flat(value));
      return Math.sqrt(image.data.reduce((sum, x) => sum + (x - value) ** 2, 0) / 4096);
    };
    expect(await deviation(gaussianNoise([0.1, 0.1]), 0.5)).toBeCloseTo(0.1, 2);
    const [dark, bright] = [
      await deviation(shotNoise([100, 100]), 0.1),
      await deviation(shotNoise([100, 100]), 0.6),
    ];
    expect(bright / dark).toBeCloseTo(Math.sqrt(6), 0);
  });
  test("JPEG at 100 is nearly the picture, at 5 it is not; gray has equal channels", async () => {
    const error = async (quality: number): Promise<number> => {
      const { image } = await apply(jpeg([quality, quality]), { image: photo });
      return mean({ ...image, data: image.data.map((x, i) => Math.abs(x - photo.data[i]!)) });
    };
    expect(await error(5)).toBeGreaterThan(3 * (await error(100)));
    const { image } = await apply(grayscale(), { image: photo });
    expect(image.data[0]).toBe(image.data[2]);
  });
});

test("epochs differ, samples differ, and `sometimes` happens as often as it says", async () => {
  const source = fromArray(Array.from({ length: 300 }, () => ramp(4, 4)));
  const flipped = augmented(source, sometimes(0.3, randomFlip({ p: 1 })), 9);
  const count = (samples: AugmentSample[]): number => samples.filter((s) => s.labels![0] === 3).length;
  const first = await readAll(flipped);
  expect(count(first) / 300).toBeCloseTo(0.3, 1);
  const second = await Promise.all(Array.from({ length: 300 }, (_, i) => flipped.get(i, 1)));
  expect(second.map((s) => s.labels![0])).not.toEqual(first.map((s) => s.labels![0]));
  const chained = augmented(source, inOrder(randomCrop(3), resizeTo(6)), 9);
  expect((await chained.get(0)).image.width).toBe(6);
  const wrong = fromArray([{ ...ramp(4, 4), labels: new Int32Array(3) }]);
  await expect(Promise.resolve(augmented(wrong, randomFlip(), 1).get(0))).rejects.toThrow(/3 labels for 4x4/);
});

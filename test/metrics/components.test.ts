import { describe, expect, it } from "vitest";
import {
  collapseIndicators,
  componentScores,
  foregroundMask,
  objectsFound,
  recombinationIou,
  ridgeR2,
  SampleTable,
  unionMask,
} from "../../src/metrics/index.ts";

describe("components against objects", () => {
  const [a, b] = [
    [1, 1, 0, 0, 0, 0],
    [0, 0, 1, 1, 0, 0],
  ];

  it("sees what differs from the ground in any channel", () => {
    const picture = [0.1, 0.9, 0.5, 0.5, 0.2, 0.2]; // 2 channels of 3 pixels
    expect([...foregroundMask(picture, { ground: [0.1, 0.2] })]).toEqual([0, 1, 1]);
    expect([...foregroundMask(picture, { ground: [0.1, 0.4], threshold: 0.45 })]).toEqual([0, 1, 0]);
    expect(() => foregroundMask([1, 2, 3], { ground: [0, 0] })).toThrow(/3 numbers in 2 channels/);
    expect([...unionMask([a!, b!])]).toEqual([1, 1, 1, 1, 0, 0]);
  });

  it("is perfect when components are the objects, in any order", () => {
    expect(componentScores([b!, a!], [a!, b!])).toEqual({ miou: 1, overlap: 0, coverage: 1, outside: 0 });
  });

  it("knows the whole picture in every component, and blank ones", () => {
    const all = [1, 1, 1, 1, 0, 0];
    expect(componentScores([all, all], [a!, b!])).toEqual({ miou: 0.5, overlap: 1, coverage: 1, outside: 0 });
    const none = [0, 0, 0, 0, 0, 0];
    expect(componentScores([none, none], [a!, b!])).toEqual({ miou: 0, overlap: 0, coverage: 0, outside: 1 });
    expect(componentScores([all, none], [a!, b!]).overlap).toBe(0);
  });

  it("counts what is missed and what is too much", () => {
    const found = componentScores([[1, 0, 0, 0, 0, 1], b!], [a!, b!]);
    expect(found.miou).toBeCloseTo((1 / 3 + 1) / 2);
    expect(found.coverage).toBeCloseTo(3 / 4);
    expect(found.outside).toBeCloseTo(1 / 4);
    expect(recombinationIou([1, 1, 1, 0, 0, 0], [a!, b!])).toBeCloseTo(3 / 4);
    expect(objectsFound([[1, 0, 0, 0, 0, 1], b!], [a!, b!])).toBe(1);
  });
});

describe("collapse", () => {
  it("shows in the variance of a component, in their difference, and in latents that are always 0", () => {
    // Two pictures, two components of two pixels: the second is always the same.
    const components = Float32Array.of(0, 1, 5, 5, 1, 0, 5, 5);
    const latents = Float32Array.of(1, 0, 0, 2, 3, 0, 0, 0); // of two numbers each; two of four are always 0
    const found = collapseIndicators(components, latents, { count: 2, components: 2 });
    expect(found.variance).toEqual([0.25, 0]);
    expect(found.distance).toBeCloseTo((25 + 16) / 2);
    expect(found.dead).toBe(0.5);
    expect(() => collapseIndicators(components, latents, { count: 1, components: 2 })).toThrow(/two or more/);
  });
});

describe("what latents know of factors", () => {
  const tables = (from: number, to: number) => {
    const [latents, factors] = [new SampleTable(2), new SampleTable(2)];
    for (let i = from; i < to; i++) {
      const [u, v] = [Math.sin(7 * i), Math.cos(11 * i * i)];
      latents.add(i, [u, 0.5 * u + 1]);
      factors.add(i, [3 * u - 1, v]);
    }
    return { latents, factors };
  };

  it("is 1 for a factor that they hold and about 0 for one that they do not", () => {
    const [held, other] = ridgeR2(tables(0, 200), tables(200, 300));
    expect(held).toBeGreaterThan(0.999);
    expect(other).toBeLessThan(0.05);
    expect(() => ridgeR2({ ...tables(0, 4), factors: tables(0, 5).factors }, tables(4, 8))).toThrow(
      /4 and 4.*5 and 4/,
    );
  });
});

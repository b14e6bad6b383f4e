import { afterAll, describe, expect, it } from "vitest";
import { ArgumentError, NonFiniteError, ShapeError, TweedieError } from "../../../src/errors.ts";
import { mapParameters } from "../../../src/nn/index.ts";
import {
  type DecompConfig,
  type DecompUNet,
  initDecomp,
  PRESETS,
} from "../../../src/systems/decomp/model.ts";
import {
  added,
  apart,
  type ComposeOptions,
  firstOf,
  type Latents,
  mixed,
  openDecomposer,
  type Pick,
  readMask,
  varied,
  whole,
} from "../../../src/systems/decomp/use.ts";
import { createNoise, fromHost, full, tensor } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";

/** A model whose zeros are filled, so that every part of it counts. */
function lively(seed: number, more: Partial<DecompConfig> = {}): DecompUNet {
  const source = createNoise("philox", seed);
  let at = 0;
  return mapParameters(initDecomp({ ...PRESETS.smoke, ...more }, seed), (leaf, key) => {
    if (!/out_layers\.3|proj_out|out\.2|mean_image/.test(key)) return leaf;
    const values = source.normal(leaf.shape, { sample: 0, purpose: "lively", step: at++ }) as Float32Array;
    return fromHost(
      "f32",
      leaf.shape,
      values.map((v) => 0.1 * v),
    );
  });
}

const [one, two] = [lively(1, { guided: true }), lively(2, { components: 3, latent: 4 })];
const both = openDecomposer([one, two], { threads: 1 });
const alone = openDecomposer([one], { threads: 1 });
afterAll(() => Promise.all([both.close(), alone.close()]));

const pictures = fromHost(
  "f32",
  [2, 3, 8, 8],
  Float32Array.from({ length: 384 }, (_, i) => ((i * 7) % 11) / 10),
);
const HOW: ComposeOptions = { steps: 3, seeds: [5, 6] };
const draw = (picks: readonly Pick[], how: ComposeOptions = {}) =>
  drained(alone.compose(picks, { ...HOW, ...how }));
const furthest = (a: Float32Array, b: Float32Array): number =>
  Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));
/** The second picture first. */
const swapped = (z: Latents): Latents => {
  const plane = z.components * z.width;
  return { ...z, values: Float32Array.from([...z.values.slice(plane), ...z.values.slice(0, plane)]) };
};

describe("composing", () => {
  it("gives the same picture for the same seed, whatever it is drawn with", async () => {
    const z = await alone.encode(pictures);
    const [a, b] = [await draw([whole(z)]), await draw([whole(z)])];
    expect(b).toEqual(a);
    const first: Latents = { ...z, count: 1, values: z.values.slice(0, z.components * z.width) };
    expect(furthest(await draw([whole(first)], { seeds: [5] }), a.slice(0, 192))).toBeLessThan(1e-4);
    expect(furthest(await draw([whole(z)], { seeds: [7, 8] }), a)).toBeGreaterThan(0.01);
    expect(furthest(await draw([whole(z)], { batch: 1 }), a)).toBeLessThan(1e-4);
  });

  it("mixes by a mask: all of the first is its reconstruction, bit for bit", async () => {
    const z = await alone.encode(pictures);
    const other = swapped(z);
    const [a, b] = [await draw([whole(z)]), await draw([whole(other)])];
    expect(await draw(mixed(z, other, [true, true]))).toEqual(a);
    expect(await draw(mixed(z, other, [false, false]))).toEqual(b);
    const half = await draw(mixed(z, other, [true, false]));
    expect(furthest(half, a)).toBeGreaterThan(1e-3);
    const byHand: Pick[] = [
      { latents: z, components: [0] },
      { latents: other, components: [1] },
    ];
    expect(furthest(await draw(byHand), half)).toBeLessThan(1e-5);
  });

  it("does not depend on the order of the components", async () => {
    const z = await alone.encode(pictures);
    const turned = await draw([{ latents: z, components: [1, 0] }]);
    expect(furthest(turned, await draw([whole(z)]))).toBeLessThan(1e-5);
  });

  it("draws any number of components: one, the first ones, and twice as many", async () => {
    const z = await alone.encode(pictures);
    const seeds = [5, 5, 6, 6];
    const parts = await draw([apart(z)], { seeds });
    expect(parts.length).toBe(4 * 192);
    const second = await draw([{ latents: z, components: [1] }]);
    expect(furthest(parts.slice(192, 384), second.slice(0, 192))).toBeLessThan(1e-4);
    const first = await draw([firstOf(z, 1)]);
    expect(furthest(parts.slice(0, 192), first.slice(0, 192))).toBeLessThan(1e-4);
    // Twice the same factors have the same mean.
    expect(furthest(await draw(added(z, z)), await draw([whole(z)]))).toBeLessThan(1e-4);
  });

  it("varies one component over other pictures and leaves the rest", async () => {
    const z = await alone.encode(pictures);
    const base: Latents = { ...z, count: 1, values: z.values.slice(0, z.components * z.width) };
    const [pick] = varied(base, 1, z);
    const { values, width } = pick!.latents;
    expect(values.slice(0, 2 * width)).toEqual(z.values.slice(0, 2 * width));
    expect(values.slice(2 * width, 3 * width)).toEqual(z.values.slice(0, width));
    expect(values.slice(3 * width)).toEqual(z.values.slice(3 * width));
  });

  it("averages the predictions of two models, each with its own latents", async () => {
    const [a, b] = [await both.encode(pictures), await both.encode(pictures, 1)];
    expect([a.components, a.width, b.components, b.width]).toEqual([2, 8, 3, 4]);
    const picks: Pick[] = [
      { latents: a, components: [0] },
      { model: 1, latents: b, components: [1, 2] },
    ];
    // With a single step the picture is the guess at t = 0, which can be done by hand.
    const found = await drained(both.compose(picks, { ...HOW, steps: 1 }));
    const noise = [5, 6].map(
      (seed) =>
        createNoise("philox", seed).normal([1, 3, 8, 8], { purpose: "start", step: 0 }) as Float32Array,
    );
    const x = fromHost("f32", [2, 3, 8, 8], Float32Array.from(noise.flatMap((one) => [...one])));
    const latents = (z: Latents, k: number) =>
      fromHost(
        "f32",
        [2, 1, z.width],
        Float32Array.from(
          [0, 1].flatMap((n) => [...z.values.slice((n * z.components + k) * z.width).slice(0, z.width)]),
        ),
      );
    const t = full([2], 0);
    const parts = [
      one.denoise(x, t, latents(a, 0)),
      two.denoise(x, t, latents(b, 1)),
      two.denoise(x, t, latents(b, 2)),
    ];
    const mean = parts
      .reduce((s, part) => s.add(part))
      .div(3)
      .clip(-1, 1);
    expect(furthest(found, (await mean.data()) as Float32Array)).toBeLessThan(1e-4);
  });

  it("scales about the mean picture when composition is shifted, and leads away from no latents", async () => {
    const z = await alone.encode(pictures);
    const step = { steps: 1, clip: "signed" } as const;
    const mean = await draw(added(z, z), step);
    const shifted = await draw(added(z, z), { ...step, compose: "shifted" });
    const centre = (await one.meanImage!.data()) as Float32Array;
    for (const [i, v] of mean.entries()) {
      if (Math.abs(v) === 1) continue;
      const m = centre[i % 192]!;
      expect(shifted[i]).toBeCloseTo(Math.min(1, Math.max(-1, m + 2 * (v - m))), 4);
    }
    const none = { ...z, values: new Float32Array(z.values.length) };
    const [base, towards] = [await draw([whole(none)], step), await draw([whole(z)], step)];
    const guided = await draw([whole(z)], { ...step, guidance: 3 });
    // Where nothing was clipped; guidance works on guesses before they are.
    const inside = [...base.keys()].filter((i) => Math.max(Math.abs(base[i]!), Math.abs(towards[i]!)) < 1);
    expect(inside.length).toBeGreaterThan(100);
    for (const i of inside) {
      const lead = base[i]! + 3 * (towards[i]! - base[i]!);
      expect(guided[i]).toBeCloseTo(Math.min(1, Math.max(-1, lead)), 4);
    }
  });

  it("takes weights of the components, and draws with DDPM", async () => {
    const z = await alone.encode(pictures);
    const second = await draw([{ latents: z, components: [1] }]);
    expect(furthest(await draw([whole(z)], { weights: [0, 1] }), second)).toBeLessThan(1e-4);
    const [a, b] = [await draw([whole(z)], { method: "ddpm" }), await draw([whole(z)], { method: "ddpm" })];
    expect(a.every(Number.isFinite)).toBe(true);
    expect(b).toEqual(a);
  });
});

describe("bad input is refused by name, before anything is computed", () => {
  const other = (count: number, size = 8, channels = 3, value = 0.5) =>
    full([count, channels, size, size], value);
  const latents = (more: Partial<Latents> = {}): Latents => {
    const z = { count: 1, components: 2, width: 8, ...more };
    return { values: new Float32Array(z.count * z.components * z.width), ...z };
  };
  const compose = (picks: readonly Pick[], how: ComposeOptions = {}) =>
    drained(alone.compose(picks, { steps: 1, ...how }));
  const withNaN = latents();
  withNaN.values[3] = Number.NaN;

  const CASES: readonly [string, () => unknown, abstract new (...a: never[]) => TweedieError, RegExp][] = [
    [
      "pictures that are not square",
      () => alone.encode(full([1, 3, 8, 10], 0.5)),
      ShapeError,
      /square.*8 x 10/,
    ],
    ["a size that does not halve", () => alone.encode(other(1, 9)), ShapeError, /divisible by 2, got 9/],
    ["another size", () => alone.encode(other(1, 16)), ShapeError, /of 8 pixels, the pictures have 16/],
    ["gray pictures", () => alone.encode(other(1, 8, 1)), ShapeError, /\[N, 3, S, S\], got \[1, 1, 8, 8\]/],
    ["no pictures", () => alone.encode(other(0)), ArgumentError, /no pictures/],
    ["values below 0", () => alone.encode(other(1, 8, 3, -0.2)), ArgumentError, /\[0, 1\], got -0\.2/],
    ["values above 1", () => alone.encode(other(1, 8, 3, 1.01)), ArgumentError, /\[0, 1\], got 1\.00999/],
    [
      "values in 0 to 255",
      () => alone.encode(other(1, 8, 3, 200)),
      ArgumentError,
      /got 200: do they lie in 0 to 255/,
    ],
    ["NaN", () => alone.encode(other(1, 8, 3, Number.NaN)), NonFiniteError, /NaN at element 0/],
    ["infinity", () => alone.encode(other(1, 8, 3, Number.POSITIVE_INFINITY)), NonFiniteError, /Infinity/],
    ["integers", () => alone.encode(full([1, 3, 8, 8], 1, "i32")), TweedieError, /must be f32 .* got i32/],
    [
      "latents of another d",
      () => compose([whole(latents({ width: 4 }))]),
      ShapeError,
      /of 4 numbers, .* have 8/,
    ],
    ["latents that are not finite", () => compose([whole(withNaN)]), NonFiniteError, /NaN at element 3/],
    [
      "a component that is not there",
      () => compose([{ latents: latents(), components: [2] }]),
      ArgumentError,
      /component 2 of 2/,
    ],
    [
      "no components",
      () => compose([{ latents: latents(), components: [] }]),
      ArgumentError,
      /no components/,
    ],
    ["no K", () => compose([whole(latents({ components: 0 }))]), ArgumentError, /no components/],
    ["a mask of another length", () => readMask("101", 2), ArgumentError, /mask of 3 for 2/],
    ["a mask of other signs", () => readMask("1x", 2), ArgumentError, /0 and 1, got "1x"/],
    [
      "latents of another K, mixed",
      () => mixed(latents(), latents({ components: 3 }), [true, true]),
      ShapeError,
      /\[2, 8\] and \[3, 8\]/,
    ],
    [
      "different numbers of pictures",
      () => compose([whole(latents()), whole(latents({ count: 2 }))]),
      ShapeError,
      /of 1 pictures and of 2/,
    ],
    ["a model that is not there", () => compose([whole(latents(), 1)]), ArgumentError, /model 1 of 1/],
    [
      "weights of another number",
      () => compose([whole(latents())], { weights: [1] }),
      ArgumentError,
      /expected 2 finite weights/,
    ],
    [
      "seeds of another number",
      () => compose([whole(latents())], { seeds: [1, 2] }),
      ArgumentError,
      /2 seeds for 1/,
    ],
    ["no steps", () => compose([whole(latents())], { steps: 0 }), ArgumentError, /1 to 1000 steps, got 0/],
    [
      "guidance of a model that never dropped latents",
      () => drained(both.compose([whole(latents())], { guidance: 2 })),
      ArgumentError,
      /trained with latents dropped/,
    ],
    [
      "models of other schedules",
      () => openDecomposer([one, lively(3, { schedule: "linear" })]),
      ArgumentError,
      /schedule, got cosine and linear/,
    ],
    [
      "models of other predictions",
      () => openDecomposer([one, lively(3, { prediction: "eps" })]),
      ArgumentError,
      /prediction, got x0 and eps/,
    ],
    [
      "models of other sizes",
      () => openDecomposer([one, lively(3, { size: 16 })]),
      ArgumentError,
      /size, got 8 and 16/,
    ],
    ["no models", () => openDecomposer([]), ArgumentError, /no model/],
    [
      "a component to vary that is not there",
      () => varied(latents(), 2, latents()),
      ArgumentError,
      /component 2 of 2/,
    ],
  ];
  it.each(CASES)("%s", async (_, act, kind, message) => {
    const found = await (async () => act())().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(found).toBeInstanceOf(kind);
    expect((found as Error).message).toMatch(message);
  });
  it("leaves what fits", async () => {
    const z = await alone.encode(tensor([0.5]).reshape([1, 1, 1, 1]).broadcastTo([1, 3, 8, 8]));
    expect((await compose([whole(z)])).every(Number.isFinite)).toBe(true);
  });
});

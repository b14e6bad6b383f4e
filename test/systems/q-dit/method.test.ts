/** Q-DiT on tiny transformers: search, stress, methods, checkpoints, sampling, bad input. */
import { statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ArgumentError, CalibrationError, FormatError, NonFiniteError } from "../../../src/errors.ts";
import { writeSafetensors } from "../../../src/io/index.ts";
import type { DiTTransformer2DModel } from "../../../src/networks/index.ts";
import { mapParameters, parameters, signalToNoiseDecibels, withQuantized } from "../../../src/nn/index.ts";
import { METHODS, type MethodName, quantizeDiT } from "../../../src/systems/q-dit/baselines.ts";
import { packDiT, weigh } from "../../../src/systems/q-dit/deploy.ts";
import {
  bitBudget,
  type CalibrationBatch,
  groupOf,
  placeOf,
  statisticsOn,
} from "../../../src/systems/q-dit/method.ts";
import { loadDiT, saveDiT } from "../../../src/systems/q-dit/model.ts";
import { bySlices, pictureRatio, predictionErrors } from "../../../src/systems/q-dit/scores.ts";
import { type SearchOptions, searchGroups } from "../../../src/systems/q-dit/search.ts";
import { stressed } from "../../../src/systems/q-dit/stress.ts";
import { trainMiniature } from "../../../src/systems/q-dit/train.ts";
import { calibrationBatches, recordTrajectory } from "../../../src/systems/q-dit/trajectories.ts";
import { draw } from "../../../src/systems/q-dit/use.ts";
import { fromHost, jit, type Tensor } from "../../../src/tensor/index.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";
import { useTemporaryFolder } from "../../io/temporary-folder.ts";
import { randomDiT, SMALL } from "./random-dit.ts";

const folder = useTemporaryFolder();

const model = randomDiT(SMALL);
const batches = (): Promise<CalibrationBatch[]> =>
  calibrationBatches(model, { samples: 32, batch: 16, steps: 8, seed: 1, guidance: 1.5 });

const predictions = async (
  m: DiTTransformer2DModel,
  { x, timestep, labels }: CalibrationBatch,
): Promise<Float32Array> => {
  const f = jit((a: Tensor, t: Tensor, y: Tensor) => m.call(a, t, y));
  const values = (await (await f(x, timestep, labels)).data()) as Float32Array;
  await f.close();
  return values.slice();
};

describe("the search over group sizes", () => {
  const toy: SearchOptions = {
    genes: 8,
    space: [16, 32, 64, 128],
    population: 30,
    generations: 25,
    top: 8,
    seed: 3,
    legal: (g) => g.reduce((a, b) => a + b, 0) >= 8 * 64,
    fitness: async (g) => ({
      fitness: g.reduce((sum, x, i) => sum + (Math.log2(x) - (i % 2 ? 7 : 5)) ** 2, 0),
    }),
  };
  const run = async (options: SearchOptions) => {
    const search = searchGroups(options);
    const best: number[] = [];
    for (;;) {
      const { done, value } = await search.next();
      if (done) return { ranked: value, best };
      best.push(value.best.fitness);
    }
  };

  test("finds the optimum of a separable objective, never gets worse, and keeps the budget", async () => {
    const asked: (readonly number[])[] = [];
    const { ranked, best } = await run({
      ...toy,
      fitness: (g) => {
        asked.push(g);
        return toy.fitness(g);
      },
    });
    expect(ranked[0]!.genes).toEqual([32, 128, 32, 128, 32, 128, 32, 128]);
    expect(best).toEqual([...best].sort((a, b) => b - a));
    expect(asked.every(toy.legal)).toBe(true);
    expect(new Set(asked.map(String)).size).toBe(asked.length); // nothing is computed twice
  });

  test("is a function of its seed, and begins with what it is given", async () => {
    const short = { ...toy, generations: 2, population: 4 };
    const first = Array.from({ length: 8 }, () => 64);
    const [a, b] = [await run({ ...short, first: [first] }), await run({ ...short, first: [first] })];
    expect(a.ranked).toEqual(b.ranked);
    expect(a.ranked.map((i) => i.genes.join())).toContain(first.join());
  });

  test("among equals, the larger ratio is better", async () => {
    const fitness = async (g: readonly number[]) => ({ fitness: 0, ratio: g.reduce((a, b) => a + b, 0) });
    const { ranked } = await run({ ...toy, generations: 3, fitness });
    const ratios = ranked.map(({ ratio }) => ratio!);
    expect(new Set(ratios).size).toBeGreaterThan(5);
    expect(ratios).toEqual([...ratios].sort((a, b) => b - a));
  });

  test("a budget that nothing keeps, and sizes that cannot be, are errors", async () => {
    await expect(run({ ...toy, legal: () => false })).rejects.toThrow(/no uniform choice keeps the budget/);
    await expect(run({ ...toy, population: 0 })).rejects.toThrow(ArgumentError);
    await expect(run({ ...toy, fitness: async () => ({ fitness: Number.NaN }) })).rejects.toThrow(
      /the fitness of .* is NaN/,
    );
    await expect(run({ ...toy, space: [] })).rejects.toThrow(/space is empty/);
    await expect(run({ ...toy, signal: AbortSignal.abort() })).rejects.toThrow(/stopped/);
  });
});

describe("stress", () => {
  test("changes no prediction, and makes some input channels many times larger", async () => {
    const hard = await stressed(model, { seed: 1 });
    const calibration = await batches();
    const [a, b] = [await predictions(model, calibration[0]!), await predictions(hard, calibration[0]!)];
    const most = Math.max(...a.map(Math.abs));
    for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(1e-4 * most);
    const key = "transformer_blocks.1.attn1.to_q";
    const spread = async (m: DiTTransformer2DModel): Promise<number> => {
      const { magnitude } = (await statisticsOn(calibration)(m, [key])).get(key)!;
      const sorted = [...magnitude].sort((x, y) => x - y);
      return sorted.at(-1)! / sorted[sorted.length / 2]!;
    };
    expect(await spread(hard)).toBeGreaterThan(3 * (await spread(model)));
  });
});

describe("methods", () => {
  test("every method quantises every layer of the blocks, and no other", async () => {
    const calibration = await batches();
    for (const method of Object.keys(METHODS) as MethodName[]) {
      const layers = await quantizeDiT(model, method, { weights: 8, activations: 8 }, 32, calibration);
      expect(layers.size).toBe(2 * 6);
      expect([...layers.keys()].every(placeOf)).toBe(true);
      const quantized = withQuantized(model, layers, "simulated");
      const ratio = signalToNoiseDecibels(
        await predictions(model, calibration[0]!),
        await predictions(quantized, calibration[0]!),
      );
      expect(ratio).toBeGreaterThan(25);
    }
  });

  test("under stress, groups with dynamic ranges and GPTQ beat one scale for a tensor by far", async () => {
    const hard = await stressed(model, { seed: 1 });
    const calibration = await calibrationBatches(hard, {
      samples: 64,
      batch: 32,
      steps: 8,
      seed: 1,
      guidance: 1,
    });
    const trajectory = await recordTrajectory(hard, { count: 8, steps: 6, seed: 9 });
    const ratio = async (method: MethodName): Promise<number> => {
      const layers = await quantizeDiT(hard, method, { weights: 4, activations: 8 }, 16, calibration);
      const errors = await predictionErrors(withQuantized(hard, layers, "simulated"), trajectory);
      return errors.reduce((a, b) => a + b, 0) / errors.length;
    };
    const [naive, nearest, full] = [
      await ratio("tensor-static"),
      await ratio("group-dynamic"),
      await ratio("q-dit"),
    ];
    expect(nearest).toBeGreaterThan(naive + 3);
    expect(full).toBeGreaterThan(nearest);
  });

  test("group sizes of layers are found by block and kind, and cost more bit operations the smaller they are", () => {
    const sizes = [16, 32, 64, 16, 32, 32, 64, 64];
    expect(groupOf(sizes, "transformer_blocks.1.attn1.to_k", 2)).toBe(32);
    expect(groupOf(sizes, "transformer_blocks.0.ff.net.0.proj", 2)).toBe(64);
    expect(() => groupOf([16], "transformer_blocks.0.ff.net.2", 2)).toThrow(
      /expected 8, 4 for each block, got 1/,
    );
    const cost = (g: number): number => bitBudget(model, g, { weights: 4, activations: 8 });
    expect(cost(16)).toBeGreaterThan(cost(32));
    // 16 tokens, 12 widths² of weights in each of two blocks, 32 bit operations each, doubled by 1024 for 32.
    expect(cost(32)).toBe(16 * 2 * 12 * 64 * 64 * (32 + 1024 / 32));
  });

  test("bad input has names: groups, samples, inputs that are not finite", async () => {
    const calibration = await batches();
    const bits = { weights: 4, activations: 8 };
    await expect(quantizeDiT(model, "group-dynamic", bits, 48, calibration)).rejects.toThrow(
      /groups of 48 do not divide 64/,
    );
    const few = calibration.slice(0, 1).map(({ x, timestep, labels }) => ({
      x: x.sliceAxis(0, 0, 4),
      timestep: timestep.sliceAxis(0, 0, 4),
      labels: labels.sliceAxis(0, 0, 4),
    }));
    await expect(quantizeDiT(model, "q-dit", bits, 16, few)).rejects.toThrow(CalibrationError);
    await expect(
      calibrationBatches(model, { samples: 10, batch: 16, steps: 4, seed: 0, guidance: 1 }),
    ).rejects.toThrow(ArgumentError);
    const broken = mapParameters(model, (t, key) =>
      key === "transformer_blocks.0.attn1.to_v.bias"
        ? fromHost("f32", t.shape, new Float32Array(t.size).fill(Number.NaN))
        : t,
    );
    await expect(quantizeDiT(broken, "tensor-static", bits, 16, calibration)).rejects.toThrow(
      /input channel 0 of "transformer_blocks.0.attn1.to_out.0" is NaN/,
    );
    await expect(drained(draw(broken, { count: 2, steps: 2, seed: 0 }))).rejects.toThrow(NonFiniteError);
  });
});

describe("sampling", () => {
  test("a sample does not depend on its batch; none is an empty result", async () => {
    const whole = await drained(draw(model, { count: 5, steps: 3, seed: 4 }));
    const parts = await drained(draw(model, { count: 5, steps: 3, seed: 4, batch: 2 }));
    const most = Math.max(...whole.values.map(Math.abs));
    for (let i = 0; i < whole.values.length; i++)
      expect(Math.abs(whole.values[i]! - parts.values[i]!)).toBeLessThan(1e-4 * most);
    expect(whole.labels).toEqual(Int32Array.of(0, 1, 2, 3, 0));
    expect((await drained(draw(model, { count: 0, steps: 3, seed: 4 }))).values.length).toBe(0);
  });

  test("calibration samples come from all noise levels", async () => {
    const levels = new Set<number>();
    for (const { timestep } of await batches()) for (const t of await timestep.toArray()) levels.add(t);
    expect(levels.size).toBe(8);
  });

  test("calibration visits every step, whatever their number has as divisors", async () => {
    const settings = { samples: 16, batch: 16, steps: 14, seed: 1, guidance: 1 };
    const [only] = await calibrationBatches(model, settings);
    expect(new Set(await only!.timestep.toArray()).size).toBe(14);
  });

  test("labels that the model does not have are refused; pictures are clipped and keep their labels", async () => {
    const asked = { count: 2, steps: 2, seed: 0, label: () => 99 };
    await expect(drained(draw(model, asked))).rejects.toThrow(/expected labels in 0 ... 3, got 99/);
    const drawn = await drained(draw(model, { ...asked, label: () => 3 }));
    expect(drawn.labels).toEqual(Int32Array.of(3, 3));
    expect(drawn.values.every((v) => Math.abs(v) <= 1)).toBe(true);
    expect(drawn.values.some((v) => Math.abs(v) === 1)).toBe(true);
  });

  test("guidance leads away from the class that stands for none", async () => {
    const asked = { count: 4, steps: 2, seed: 0 };
    const [plain, none, guided] = [
      await drained(draw(model, asked)),
      await drained(draw(model, { ...asked, guidance: 0 })),
      await drained(draw(model, { ...asked, guidance: 2 })),
    ];
    expect(guided.values).not.toEqual(plain.values);
    expect(none.values).not.toEqual(plain.values);
    const same = await drained(draw(model, { ...asked, guidance: 0, label: () => 2 }));
    const ratio = signalToNoiseDecibels(none.values, same.values);
    expect(ratio).toBeGreaterThan(80); // without any weight the labels do not count
  });

  test("slices and picture ratios", async () => {
    expect(bySlices([1, 2, 3, 4, 5, 6], 3)).toEqual([1.5, 3.5, 5.5]);
    expect(() => bySlices([1], 2)).toThrow(ArgumentError);
    expect(await pictureRatio(Float32Array.of(1, -1), Float32Array.of(0.8, -0.8))).toBeCloseTo(20, 4);
  });
});

describe("packed models", () => {
  test("agree with their simulation, are small, and come back from their file as they were", async () => {
    const calibration = await batches();
    const float = folder("float.safetensors");
    await saveDiT(float, model, { data: "none" });
    const packed = await packDiT(model, { weights: 4, activations: 8 }, 32, calibration);
    const file = folder("packed.safetensors");
    await saveDiT(file, packed, { quantized: "W4A8" });
    const whole = await weigh(float, model, { batch: 4 });
    const small = await weigh(file, model, { batch: 4 });
    expect(whole.agreement).toBeUndefined();
    expect(small.agreement).toBeGreaterThan(60);
    expect(small.ratio).toBeGreaterThan(15);
    expect(small.memoryBytes).toBeLessThan(0.35 * whole.memoryBytes);
    expect(small.fileBytes).toBe(statSync(file).size);
    expect(small.share).toBeCloseTo(small.fileBytes / whole.memoryBytes, 6);
    for (const { peakBytes, memoryBytes } of [whole, small]) {
      expect(peakBytes).toBeGreaterThan(memoryBytes + 2 ** 24); // Node alone takes more than 16 MiB
      expect(peakBytes).toBeLessThan(2 ** 31);
    }
    const loaded = await loadDiT(file);
    expect(loaded.notes).toEqual({ quantized: "W4A8" });
    const [a, b] = [
      await predictions(packed, calibration[1]!),
      await predictions(loaded.model, calibration[1]!),
    ];
    expect(signalToNoiseDecibels(a, b)).toBeGreaterThan(40); // scales are kept in half precision
    expect(
      (await drained(draw(loaded.model, { count: 2, steps: 2, seed: 0 }))).values.every(Number.isFinite),
    ).toBe(true);
    await expect(
      quantizeDiT(loaded.model, "group-dynamic", { weights: 4, activations: 8 }, 32, []),
    ).rejects.toThrow(/is quantised already/);
  });

  test("other files are refused", async () => {
    const path = folder("other.safetensors");
    await writeSafetensors(path, { x: { dtype: "f32", shape: [1], data: new Float32Array(1) } });
    await expect(loadDiT(path)).rejects.toThrow(FormatError);
  });
});

describe("training", () => {
  const pictures = {
    count: 32,
    size: 28,
    channels: 1,
    classes: [],
    values: createRngValues(32 * 28 * 28),
    labels: Int32Array.from({ length: 32 }, (_, i) => i % 10),
  };

  const run = async (more: object = {}) => {
    const options = { pictures, steps: 3, batch: 8, seed: 1, learningRate: 1e-2, dropLabels: 0.1, ...more };
    const events: WorkEvent[] = [];
    const { model, ema, final } = await drained(trainMiniature(options), (event) => events.push(event));
    const weights = async (m: DiTTransformer2DModel): Promise<Float32Array> =>
      (await parameters(m).get("pos_embed.proj.weight")!.data()) as Float32Array;
    return { events, final: await weights(final), ema: await weights(ema!), model: await weights(model) };
  };

  test("gives the average, the same for the same settings and data, another for others", async () => {
    const first = await run();
    expect(first.final).toEqual(first.ema);
    expect(first.final).not.toEqual(first.model);
    expect((await run()).final).toEqual(first.final);
    for (const other of [{ seed: 2 }, { dropLabels: 1 }, { learningRate: 2e-2 }])
      expect((await run(other)).model).not.toEqual(first.model);
    const last = first.events.findLast((event) => event.type === "metrics")!;
    expect(last).toMatchObject({ step: 3, values: { loss: expect.any(Number) } });
  });
});

function createRngValues(n: number): Float32Array {
  return Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.37));
}

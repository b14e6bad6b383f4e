/** Q-DiT on tiny transformers: search, stress, methods, checkpoints, sampling, bad input. */
import { describe, expect, test } from "vitest";
import { ArgumentError, CalibrationError, FormatError, NonFiniteError } from "../../src/errors.ts";
import { writeSafetensors } from "../../src/io/index.ts";
import { type DiTTransformer2DModel, initDiT } from "../../src/networks/index.ts";
import {
  createRng,
  mapParameters,
  parameters,
  signalToNoiseDecibels,
  withQuantized,
} from "../../src/nn/index.ts";
import { type Cell, SEARCHED_CELLS, SEARCHES, searchName, searchOf } from "../../src/systems/q-dit/cells.ts";
import { loadDiT, saveDiT } from "../../src/systems/q-dit/checkpoint.ts";
import { gather } from "../../src/systems/q-dit/data.ts";
import { measureDeployed, packDiT, timingBatch } from "../../src/systems/q-dit/deploy.ts";
import { Study, type StudySettings } from "../../src/systems/q-dit/experiment.ts";
import { MINIATURE } from "../../src/systems/q-dit/model.ts";
import { bitBudget, quantizeDiT, statisticsOn } from "../../src/systems/q-dit/quantize.ts";
import { calibrationBatches, draw, type NoisyBatch } from "../../src/systems/q-dit/sample.ts";
import { groupOf, METHODS, type MethodName, placeOf } from "../../src/systems/q-dit/schemes.ts";
import { type SearchOptions, searchGroups } from "../../src/systems/q-dit/search.ts";
import { stressed } from "../../src/systems/q-dit/stress.ts";
import {
  bySlices,
  pictureRatio,
  predictionErrors,
  type RealSide,
  recordTrajectory,
} from "../../src/systems/q-dit/study.ts";
import { trainMiniature } from "../../src/systems/q-dit/train.ts";
import { fromHost, jit, type Tensor } from "../../src/tensor/index.ts";
import { drained, type WorkEvent } from "../../src/work.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const folder = useTemporaryFolder();

const CONFIG = { ...MINIATURE, sampleSize: 8, patchSize: 2, layers: 2, heads: 2, headDim: 32, classes: 4 };
/** Random everywhere: a fresh DiT is zero behind its gates. */
const model = mapParameters(initDiT(CONFIG, createRng(1)), (t, key) =>
  /norm1\.linear|proj_out/.test(key) ? createRng(key.length + t.size).normal(t.shape, 0.05) : t,
);
const batches = (): Promise<NoisyBatch[]> =>
  calibrationBatches(model, { samples: 32, batch: 16, steps: 8, seed: 1, guidance: 1.5 });

const predictions = async (
  m: DiTTransformer2DModel,
  { x, timestep, labels }: NoisyBatch,
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
    fitness: async (g) => g.reduce((sum, x, i) => sum + (Math.log2(x) - (i % 2 ? 7 : 5)) ** 2, 0),
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

  test("a budget that nothing keeps, and sizes that cannot be, are errors", async () => {
    await expect(run({ ...toy, legal: () => false })).rejects.toThrow(/no uniform choice keeps the budget/);
    await expect(run({ ...toy, population: 0 })).rejects.toThrow(ArgumentError);
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
    const calibration = await calibrationBatches(hard, { samples: 64, batch: 32, steps: 8, seed: 1 });
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
    await expect(calibrationBatches(model, { samples: 10, batch: 16, steps: 4, seed: 0 })).rejects.toThrow(
      ArgumentError,
    );
    const broken = mapParameters(model, (t, key) =>
      key === "transformer_blocks.0.attn1.to_v.bias"
        ? fromHost("f32", t.shape, new Float32Array(t.size).fill(Number.NaN))
        : t,
    );
    await expect(quantizeDiT(broken, "tensor-static", bits, 16, calibration)).rejects.toThrow(
      /input channel 0 of "transformer_blocks.0.attn1.to_out.0" is NaN/,
    );
    await expect(draw(broken, { count: 2, steps: 2, seed: 0 })).rejects.toThrow(NonFiniteError);
  });
});

describe("sampling", () => {
  test("a sample does not depend on its batch; none is an empty result", async () => {
    const whole = await draw(model, { count: 5, steps: 3, seed: 4 });
    const parts = await draw(model, { count: 5, steps: 3, seed: 4, batch: 2 });
    const most = Math.max(...whole.values.map(Math.abs));
    for (let i = 0; i < whole.values.length; i++)
      expect(Math.abs(whole.values[i]! - parts.values[i]!)).toBeLessThan(1e-4 * most);
    expect(whole.labels).toEqual(Int32Array.of(0, 1, 2, 3, 0));
    expect((await draw(model, { count: 0, steps: 3, seed: 4 })).values.length).toBe(0);
  });

  test("calibration samples come from all noise levels", async () => {
    const levels = new Set<number>();
    for (const { timestep } of await batches()) for (const t of await timestep.toArray()) levels.add(t);
    expect(levels.size).toBe(8);
  });

  test("slices and picture ratios", () => {
    expect(bySlices([1, 2, 3, 4, 5, 6], 3)).toEqual([1.5, 3.5, 5.5]);
    expect(() => bySlices([1], 2)).toThrow(ArgumentError);
    expect(pictureRatio(Float32Array.of(1, -1), Float32Array.of(0.8, -0.8))).toBeCloseTo(20, 4);
  });
});

describe("the study", () => {
  const cell: Cell = {
    condition: "natural",
    method: "channel-static",
    weights: 4,
    activations: 8,
    groups: "none",
    pictures: false,
  };
  const settings: StudySettings = {
    model: "one",
    pictures: 4,
    steps: 2,
    stepPictures: 2,
    seeds: [1],
    calibrationSamples: 32,
    trajectory: 4,
    search: {
      population: 2,
      generations: 1,
      top: 1,
      pictures: 4,
      steps: 2,
      space: [32],
      budget: 32,
      seed: 1,
    },
  };
  const noPictures = undefined as unknown as RealSide;
  const open = (more: Partial<StudySettings> = {}): Study =>
    new Study(folder(), model, noPictures, { ...settings, ...more });

  test("a cell is measured once, and again for another model or other settings", async () => {
    const first = await open().cell(cell);
    expect(first.predictionRatio).toBeGreaterThan(5);
    expect(await open().cell(cell)).toEqual(first); // its date too
    expect(await open({ model: "two" }).known(cell)).toBeUndefined();
    expect(await open({ trajectory: 8 }).known(cell)).toBeUndefined();
    expect(await open().known({ ...cell, pictures: true })).toBeUndefined();
    expect(await open().known({ ...cell, steps: 5 })).toBeUndefined();
  });

  test("sizes that were searched on one model are not used on another", async () => {
    const searched = { ...cell, method: "q-dit", groups: "searched" } as const;
    await expect(open().cell(searched)).rejects.toThrow(/search comes before/);
  });

  test("every search has its own model and rounding, and each cell takes the sizes of its own", () => {
    expect(new Set(SEARCHES.map(searchName)).size).toBe(SEARCHES.length);
    for (const searched of SEARCHED_CELLS) expect(SEARCHES).toContainEqual(searchOf(searched));
    const stressed = { ...cell, condition: "stress", groups: "searched-gptq" } as const;
    expect(searchOf(stressed)).toEqual({ condition: "stress", method: "q-dit" });
    expect(searchOf({ ...cell, groups: "random" })).toEqual({
      condition: "natural",
      method: "group-dynamic",
    });
  });
});

describe("packed models", () => {
  test("agree with their simulation, are small, and come back from their file as they were", async () => {
    const calibration = await batches();
    const float = folder("float.safetensors");
    await saveDiT(float, model, { data: "none" });
    const { packed, simulated } = await packDiT(model, 4, 32, calibration);
    const file = folder("packed.safetensors");
    await saveDiT(file, packed, { quantized: "W4A8" });
    const [whole, small] = await measureDeployed(
      [
        { name: "f32", model, file: float },
        { name: "W4A8", model: packed, simulated, file },
      ],
      timingBatch(model, 4),
      { runs: 2 },
    );
    expect(small!.agreement).toBeGreaterThan(40);
    expect(small!.ratio).toBeGreaterThan(15);
    expect(small!.memoryBytes).toBeLessThan(0.35 * whole!.memoryBytes);
    for (const { peakBytes, memoryBytes } of [whole!, small!]) {
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
    expect((await draw(loaded.model, { count: 2, steps: 2, seed: 0 })).values.every(Number.isFinite)).toBe(
      true,
    );
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
    expect(gather(pictures, [3, 5]).x.shape).toEqual([2, 1, 28, 28]);
  });
});

function createRngValues(n: number): Float32Array {
  return Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.37));
}

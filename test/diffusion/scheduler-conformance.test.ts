import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { withStepEnds } from "../../src/diffusion/diffusers/step-ends.ts";
import {
  createScheduler,
  type Network,
  type Scheduler,
  schedulerFromConfig,
} from "../../src/diffusion/index.ts";
import { createNoise } from "../../src/tensor/index.ts";
import { dummyModel, dummyWithVariance, loopA, loopC, sums } from "./reference-loops.ts";

interface Row {
  readonly cls: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly steps: number;
  readonly loop: "A" | "C";
  readonly timesteps: readonly number[];
  readonly sigmas?: readonly number[];
  readonly initNoiseSigma?: number;
  readonly sumAbs: number;
  readonly first: readonly number[];
  readonly last: readonly number[];
  readonly sumAbsF64: number;
  readonly firstF64: readonly number[];
  readonly seed?: number;
  readonly eta?: number;
}

const file = new URL("../fixtures/diffusion/schedulers.json", import.meta.url);
const { rows } = JSON.parse(readFileSync(file, "utf8")) as { rows: Record<string, Row> };

function schedulerOf(name: string, row: Row): Scheduler {
  const scheduler = schedulerFromConfig(
    { _class_name: row.cls, ...row.config },
    { steps: row.steps, ...(row.eta !== undefined && { eta: row.eta }) },
  );
  if (row.cls.startsWith("EDM")) {
    // m(x, t) has a pole at t = -1, which these timesteps pass by 1e-3: it is asked at the very f32 timesteps.
    scheduler.timesteps.forEach((t, i) => {
      expect(Math.abs(t - row.timesteps[i]!)).toBeLessThan(5e-7);
    });
    const timestepAt = (sigma: number): number => row.timesteps[scheduler.sigmas.indexOf(sigma)]!;
    return createScheduler({ ...scheduler, timestepAt });
  }
  if (name !== "unclip-25-seed0") return scheduler;
  // This run passed no previous timestep, so every step leads to the timestep just below its own.
  const levels = schedulerFromConfig({ _class_name: row.cls, ...row.config }, { steps: 1000 }).sigmas;
  const stepEnds = scheduler.timesteps.map((t) => levels[1000 - t]!);
  return createScheduler({ ...scheduler, sampler: withStepEnds(scheduler.sampler, stepEnds) });
}

/** Levels without the repetitions of schedulers that list one per evaluation. */
const distinct = (values: readonly number[]): number[] =>
  values.filter((v, i) => i === 0 || v !== values[i - 1]);

const relative = (actual: number, expected: number): number =>
  Math.abs(actual - expected) / Math.max(Math.abs(expected), 1e-12);

describe("schedulers from configurations give the reference library's samples", () => {
  it.each(Object.entries(rows))("%s", async (name, row) => {
    const scheduler = schedulerOf(name, row);
    const model = row.config.variance_type === "learned_range" ? dummyWithVariance : dummyModel;
    const asked: number[] = [];
    const network: Network = (x, t) => {
      asked.push(t);
      return model(x, t);
    };
    const loop = row.loop === "A" ? loopA : loopC;
    const noise = row.seed === undefined ? undefined : createNoise("torch-cpu", row.seed);
    const x = await loop(scheduler, { model: network, ...(noise && { noise }) });

    const tolerance = row.seed === undefined ? 1e-5 : 1e-4;
    const { sum } = await sums(x);
    const values = await x.toArray();
    const scale = Math.max(...values.map(Math.abs));
    // Where f32 takes the reference itself farther than that from its own f64 run, the f64 run counts (UnCLIP: its
    // last step divides two f32 numbers near 4e-5 that should be equal).
    const rounded = relative(row.sumAbs, row.sumAbsF64) > tolerance && name.startsWith("unclip");
    const expectedSum = rounded ? row.sumAbsF64 : row.sumAbs;
    expect(relative(sum, expectedSum), `sum ${sum}, expected ${expectedSum}`).toBeLessThan(tolerance);
    const ends = rounded ? row.firstF64 : [...row.first, ...row.last];
    ends.forEach((expected, i) => {
      const actual = i < 8 ? values[i]! : values[values.length - 16 + i]!;
      expect(Math.abs(actual - expected), `element ${i}`).toBeLessThan(tolerance * scale);
    });
    expect(asked.length).toBe(row.timesteps.length);
    asked.forEach((t, i) => {
      expect(Math.abs(t - row.timesteps[i]!), `timestep ${i}`).toBeLessThan(2e-3);
    });
    if (row.initNoiseSigma) expect(relative(scheduler.initialScale, row.initNoiseSigma)).toBeLessThan(1e-6);
    if (row.sigmas && scheduler.space !== "flow-ratio") {
      const levels = distinct(row.sigmas).slice(0, scheduler.sigmas.length);
      levels.forEach((sigma, i) => {
        expect(Math.abs(scheduler.sigmas[i]! - sigma), `level ${i}`).toBeLessThanOrEqual(1e-6 * sigma);
      });
    }
  });
});

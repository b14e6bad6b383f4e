import { describe, expect, it } from "vitest";
import {
  brownianPath,
  finalSample,
  type Network,
  SCHEDULER_CLASSES,
  type SchedulerConfig,
  type SchedulerOptions,
  schedulerFromConfig,
  weightedSum,
} from "../../src/diffusion/index.ts";
import { ArgumentError, FormatError, ShapeError } from "../../src/errors.ts";
import { createNoise, type Tensor, tensor } from "../../src/tensor/index.ts";
import { MEAN } from "./normal-data.ts";
import { dummyModel } from "./reference-loops.ts";

const build = (name: string, config: SchedulerConfig = {}, options: SchedulerOptions = { steps: 5 }) =>
  schedulerFromConfig({ _class_name: name, ...config }, options);
const shape = [2, 3, 4];
const unit = tensor(createNoise("philox", 1).normal(shape, { step: 0 }), { shape });
const run = (name: string, config: SchedulerConfig = {}, options: SchedulerOptions = { steps: 5 }) => {
  const scheduler = build(name, config, options);
  return finalSample(
    scheduler.sample(dummyModel, scheduler.initial(unit), { noise: createNoise("philox", 2) }),
  );
};

describe("scheduler configurations", () => {
  it("of unknown classes are refused with the list of the known ones", () => {
    expect(() => build("EvilScheduler")).toThrow(FormatError);
    expect(() => build("EvilScheduler")).toThrow(
      /unknown scheduler class "EvilScheduler"; known are .*DDIMScheduler/,
    );
    expect(() => build("__proto__")).toThrow(FormatError);
    expect(() => build("constructor")).toThrow(FormatError);
    expect(() => schedulerFromConfig({}, { steps: 5 })).toThrow(/unknown scheduler class undefined/);
  });

  it.each(SCHEDULER_CLASSES)(
    "%s makes a finite sample with its defaults, in 5 steps, in 1 and from midway",
    async (name) => {
      for (const steps of [5, 1]) {
        const values = await (await run(name, {}, { steps })).toArray();
        expect(values.every(Number.isFinite)).toBe(true);
      }
      const scheduler = build(name);
      const noised = scheduler.addNoise(unit, unit, 2);
      const rest = scheduler.sample(dummyModel, noised, { start: 2, noise: createNoise("philox", 2) });
      expect((await (await finalSample(rest)).toArray()).every(Number.isFinite)).toBe(true);
    },
  );

  it.each(SCHEDULER_CLASSES)("%s refuses 0 steps and steps that are no integer", (name) => {
    expect(() => build(name, {}, { steps: 0 })).toThrow(/positive integer, got 0/);
    expect(() => build(name, {}, { steps: 2.5 })).toThrow(ArgumentError);
  });

  it.each(["DDIM", "DDPM", "PNDM", "EulerDiscrete", "DPMSolverMultistep", "LCM", "UnCLIP"])(
    "%sScheduler refuses more steps than training timesteps",
    (name) => {
      expect(() => build(`${name}Scheduler`, { num_train_timesteps: 100 }, { steps: 101 })).toThrow(/101/);
    },
  );

  it.each([
    [{ beta_start: "small" }, /"beta_start": expected a finite number, got "small"/],
    [{ beta_schedule: "linaer" }, /"beta_schedule": expected "linear" or .*, got "linaer"/],
    [{ num_train_timesteps: 0 }, /"num_train_timesteps": expected a positive integer/],
    [{ clip_sample: 1 }, /"clip_sample": expected true or false/],
    [{ prediction_type: "x0" }, /"prediction_type": expected "epsilon" or "sample" or "v_prediction"/],
    [{ trained_betas: ["a"] }, /"trained_betas": expected a list, each a finite number/],
    [{ timestep_spacing: "log" }, /"timestep_spacing": expected "leading" or/],
  ] as [SchedulerConfig, RegExp][])("with %j are refused", (config, message) => {
    expect(() => build("DDIMScheduler", config)).toThrow(FormatError);
    expect(() => build("DDIMScheduler", config)).toThrow(message);
  });

  it("with betas that are no numbers, or levels the wrong way round, make no schedule", () => {
    expect(() => build("DDIMScheduler", { trained_betas: [0.1, Number.NaN] }, { steps: 2 })).toThrow(
      /"trained_betas": expected a list, each a finite number/,
    );
    expect(() => build("DDIMScheduler", { beta_end: Number.POSITIVE_INFINITY })).toThrow(FormatError);
    expect(() => build("EDMEulerScheduler", { sigma_min: 80, sigma_max: 0.1 })).toThrow(
      /sigma_min < sigma_max/,
    );
    expect(() => build("EulerDiscreteScheduler", { use_karras_sigmas: true, use_beta_sigmas: true })).toThrow(
      /only one of/,
    );
  });

  it("take null for absent, and ignore what they do not know", () => {
    expect(build("DDIMScheduler", { trained_betas: null, skip: 1 }).timesteps).toEqual([
      800, 600, 400, 200, 0,
    ]);
  });

  it("take timesteps of one's own, checked", async () => {
    const options = { steps: 3, timesteps: [900, 300, 20] };
    expect(build("DDPMScheduler", {}, options).timesteps).toEqual([900, 300, 20]);
    expect(build("DPMSolverMultistepScheduler", {}, options).timesteps).toEqual([900, 300, 20]);
    expect(() => build("DDPMScheduler", {}, { steps: 3, timesteps: [1, 2, 3] })).toThrow(/must fall/);
    expect(() => build("DDPMScheduler", {}, { steps: 2, timesteps: [3, 2, 1] })).toThrow(
      /expected 2 timesteps/,
    );
  });

  it("that shift by the picture's size need to be told it", () => {
    const config = { use_dynamic_shifting: true };
    expect(() => build("FlowMatchEulerDiscreteScheduler", config)).toThrow(/options.mu/);
    const { sigmas } = build("FlowMatchEulerDiscreteScheduler", config, { steps: 3, mu: Math.log(3) });
    // Times 1, 0.5005, 0.001 before the shift.
    expect(sigmas[1]).toBeCloseTo((3 * 0.5005) / (1 + 2 * 0.5005), 6);
  });
});

/** Predicts the noise of data that are all MEAN. */
const perfect: Network = (x, t) => {
  const sigma = levels[Math.round(t)]!;
  return weightedSum(
    [Math.sqrt(1 + sigma ** 2) / sigma, x],
    [-MEAN / sigma, tensor(new Float32Array(24).fill(1), { shape })],
  );
};
const levels = build("DDPMScheduler", {}, { steps: 1000 }).sigmas.slice(0, -1).reverse();

describe("a scheduler", () => {
  const PERFECT = [
    "DDIM",
    "DDPM",
    "PNDM",
    "EulerAncestralDiscrete",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "UniPCMultistep",
    "DEISMultistep",
    "LCM",
    "TCD",
  ];
  const plain = {
    beta_start: 1e-4,
    beta_end: 0.02,
    beta_schedule: "linear",
    timestep_spacing: "trailing",
    clip_sample: false,
  };
  it.each(PERFECT)("%sScheduler finds the sample that a perfect network knows", async (name) => {
    const scheduler = build(`${name}Scheduler`, plain, { steps: 10 });
    const noise = createNoise("philox", 4);
    const x = await finalSample(scheduler.sample(perfect, scheduler.initial(unit), { noise }));
    // Schedulers that end above zero leave that much noise, in the model's coordinates.
    const end = scheduler.sigmas[10]!;
    for (const v of await x.toArray()) expect(Math.abs(v - MEAN)).toBeLessThan(4 * end + 2e-3);
  });

  it("hides zero terminal SNR from the sampler: the first level is finite", async () => {
    const config = {
      rescale_betas_zero_snr: true,
      timestep_spacing: "trailing",
      prediction_type: "v_prediction",
    };
    for (const name of ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]) {
      expect(Number.isFinite(build(name, config).sigmas[0])).toBe(true);
      expect((await (await run(name, config)).toArray()).every(Number.isFinite)).toBe(true);
    }
  });

  it("adds noise in the coordinates of its model", async () => {
    const [zeros, ones] = [0, 1].map((v) => tensor(new Float32Array(24).fill(v), { shape })) as [
      Tensor,
      Tensor,
    ];
    const first = async (name: string, clean: Tensor, noise: Tensor) =>
      (await build(name).addNoise(clean, noise, 1).toArray())[0]!;
    const sigma = (name: string) => build(name).sigmas[1]!;
    const vp = sigma("DDIMScheduler");
    expect(await first("DDIMScheduler", ones, zeros)).toBeCloseTo(1 / Math.sqrt(1 + vp ** 2), 6);
    expect(await first("DDIMScheduler", zeros, ones)).toBeCloseTo(vp / Math.sqrt(1 + vp ** 2), 6);
    expect(await first("EulerDiscreteScheduler", ones, zeros)).toBe(1);
    expect(
      (await first("EulerDiscreteScheduler", zeros, ones)) / sigma("EulerDiscreteScheduler"),
    ).toBeCloseTo(1, 6);
    const flow = sigma("FlowMatchEulerDiscreteScheduler");
    expect(await first("FlowMatchEulerDiscreteScheduler", ones, zeros)).toBeCloseTo(1 - flow, 6);
    expect(await first("FlowMatchEulerDiscreteScheduler", zeros, ones)).toBeCloseTo(flow, 6);
  });

  it("can be steered between its steps, also where they are run one by one", async () => {
    // 7 steps do not divide 1000: the reference library's DDIM then leads past the next timestep.
    const scheduler = build("DDIMScheduler", { timestep_spacing: "linspace" }, { steps: 7 });
    const steps = scheduler.sample(dummyModel, scheduler.initial(unit));
    const seen: number[] = [];
    const ends: number[] = [];
    for (let next = await steps.next(); !next.done; next = await steps.next(next.value.x)) {
      seen.push(next.value.step);
      ends.push(next.value.sigmaNext);
    }
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(ends).not.toEqual(scheduler.sigmas.slice(1));
  });

  it("starts only at levels that there are", async () => {
    const scheduler = build("DDIMScheduler");
    await expect(scheduler.sample(dummyModel, unit, { start: 5 }).next()).rejects.toThrow(
      /start in 0 ... 4, got 5/,
    );
  });

  it("with a learned variance needs a network that learned it", async () => {
    const scheduler = build("DDPMScheduler", { variance_type: "learned_range" });
    const noise = createNoise("philox", 1);
    await expect(scheduler.sample(dummyModel, unit, { noise }).next()).rejects.toThrow(ShapeError);
    const run = scheduler.run((x) => x, unit, { noise }); // a denoiser that brings no variance
    await expect(run.next()).rejects.toThrow(/expected options.variance/);
  });

  it("passes a Brownian path on to its sampler", async () => {
    const scheduler = build("DPMSolverSDEScheduler", {}, { steps: 8 });
    const sample = (mode: "philox" | "torch-cpu", path: boolean) => {
      const noise = createNoise(mode, 3);
      const options = { noise, ...(path && { path: brownianPath(createNoise("philox", 3)) }) };
      return finalSample(scheduler.sample(dummyModel, scheduler.initial(unit), options));
    };
    const [own, given, fresh] = [
      await sample("philox", false),
      await sample("torch-cpu", true),
      await sample("torch-cpu", false),
    ];
    expect(await own.toArray()).toEqual(await given.toArray());
    expect(await own.toArray()).not.toEqual(await fresh.toArray());
  });
});

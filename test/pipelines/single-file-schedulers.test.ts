/** What single files say of their schedulers, and what the family's published configuration says: as diffusers has it. */
import { fileURLToPath } from "node:url";
import { describe, expect, it, test } from "vitest";
import { schedulerFromConfig } from "../../src/diffusion/index.ts";
import { openPipeline } from "../../src/pipelines/load.ts";
import { swapSampler } from "../../src/pipelines/swap-scheduler.ts";

const files = (path: string): string => fileURLToPath(new URL(`../fixtures/files/${path}`, import.meta.url));

async function schedulerOf(path: string, options: Parameters<typeof openPipeline>[1] = {}) {
  const pipeline = await openPipeline(files(path), options);
  await pipeline.close();
  return pipeline.scheduler;
}

describe("a single file", () => {
  it("samples at the timesteps of its folder, which says no spacing", async () => {
    const scheduler = swapSampler(await schedulerOf("31-single-file/sd1-names-only.safetensors"), "euler");
    const { timesteps } = schedulerFromConfig(scheduler, { steps: 6 });
    const expected = [999, 799.2, 599.4, 399.6, 199.8, 0]; // diffusers, from the published scheduler_config.json
    for (const [i, t] of expected.entries()) expect(timesteps[i]).toBeCloseTo(t, 3);
  });

  it("of Stable Diffusion 2's base predicts noise, told by its training step", async () => {
    const scheduler = await schedulerOf("31-single-file/sd2-base-global-step.safetensors");
    expect(scheduler.prediction_type).toBe("epsilon");
  });

  it("that says v-prediction is believed, with a base and without", async () => {
    const path = "32-v-pred-with-base/v.safetensors";
    const base = files("32-v-pred-with-base/base");
    for (const options of [{}, { base }])
      expect(await schedulerOf(path, options)).toMatchObject({
        prediction_type: "v_prediction",
        rescale_betas_zero_snr: true,
      });
    expect(await schedulerOf(path, { base, predictionType: "epsilon" })).toMatchObject({
      prediction_type: "epsilon",
    });
  });
});

const SDXL = {
  ...{ _class_name: "EulerDiscreteScheduler", num_train_timesteps: 1000, prediction_type: "epsilon" },
  ...{ beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" },
  ...{ steps_offset: 1, timestep_spacing: "leading" },
};

test("single-step solvers have no spacing of timesteps, whatever a configuration says", () => {
  for (const spacing of ["leading", "trailing", "linspace"]) {
    const swapped = swapSampler({ ...SDXL, timestep_spacing: spacing }, "dpmpp-2s");
    const { timesteps } = schedulerFromConfig(swapped, { steps: 6 });
    expect([...timesteps]).toEqual([999, 832, 666, 500, 333, 166]); // diffusers
  }
});

test("levels of a kind win over Euler's log-linear interpolation", () => {
  const levels = (config: object) => [...schedulerFromConfig({ ...SDXL, ...config }, { steps: 6 }).sigmas];
  const karras = levels({ use_karras_sigmas: true });
  expect(levels({ use_karras_sigmas: true, interpolation_type: "log_linear" })).toEqual(karras);
  expect(levels({ interpolation_type: "log_linear" })).not.toEqual(levels({}));
});

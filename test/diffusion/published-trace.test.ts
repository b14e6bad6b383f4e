import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type Network, schedulerFromConfig, weightedSum } from "../../src/diffusion/index.ts";
import { PUBLISHED } from "./published-rows.ts";
import { dummyModel, loopA, PICTURE, SEQUENCE, silence } from "./reference-loops.ts";

interface Trace {
  readonly timesteps?: readonly number[];
  readonly sigmas?: readonly number[];
  readonly initNoiseSigma: number;
}

const file = new URL("../fixtures/diffusion/published-trace.json", import.meta.url);
const { tests } = JSON.parse(readFileSync(file, "utf8")) as { tests: Record<string, Trace> };

/** Rows in the order in which the trace lists their tests; rows without one of their own are left out. */
const ROW_OF: Readonly<Record<string, number>> = {
  "consistency_model no_noise_multistep": 75,
  "consistency_model no_noise_onestep": 74,
  "consistency_model with_noise": 76,
  "ddim no_noise": 1,
  "ddim with_no_set_alpha_to_one": 4,
  "ddim with_noise": 5,
  "ddim with_set_alpha_to_one": 3,
  "ddim with_v_prediction": 2,
  "ddim_inverse no_noise": 6,
  "ddim_inverse with_no_set_alpha_to_one": 9,
  "ddim_inverse with_set_alpha_to_one": 8,
  "ddim_inverse with_v_prediction": 7,
  "deis no_noise": 56,
  "deis with_noise": 58,
  "deis with_v_prediction": 57,
  "dpm_multi no_noise": 40,
  "dpm_multi no_noise_thres": 42,
  "dpm_multi with_karras_and_v_prediction": 44,
  "dpm_multi with_lu_and_v_prediction": 45,
  "dpm_multi with_noise": 41,
  "dpm_multi with_v_prediction": 43,
  "dpm_multi_inverse no_noise": 46,
  "dpm_multi_inverse no_noise_thres": 47,
  "dpm_multi_inverse with_karras_and_v_prediction": 49,
  "dpm_multi_inverse with_v_prediction": 48,
  "dpm_single no_noise": 50,
  "dpm_single with_karras": 52,
  "dpm_single with_karras_and_v_prediction": 54,
  "dpm_single with_noise": 55,
  "dpm_single with_v_prediction": 53,
  "dpm_single uneven_loop": 51,
  "edm_dpmsolver_multistep no_noise": 78,
  "edm_dpmsolver_multistep no_noise_thres": 80,
  "edm_dpmsolver_multistep with_noise": 79,
  "edm_dpmsolver_multistep with_v_prediction": 81,
  "edm_euler no_noise": 77,
  "euler device_karras_sigmas": 21,
  "euler no_noise": 19,
  "euler with_noise": 22,
  "euler with_v_prediction": 20,
  "euler_ancestral no_noise": 23,
  "euler_ancestral with_noise": 25,
  "euler_ancestral with_v_prediction": 24,
  "heun device_karras_sigmas": 28,
  "heun no_noise": 26,
  "heun with_noise": 29,
  "heun with_v_prediction": 27,
  "ipndm no_noise": 82,
  "kdpm2_ancestral no_noise": 37,
  "kdpm2_ancestral with_noise": 39,
  "kdpm2_ancestral with_v_prediction": 38,
  "kdpm2_discrete no_noise": 34,
  "kdpm2_discrete with_noise": 36,
  "kdpm2_discrete with_v_prediction": 35,
  "lcm multistep": 69,
  "lcm onestep": 68,
  "lms device_karras_sigmas": 32,
  "lms no_noise": 30,
  "lms with_noise": 33,
  "lms with_v_prediction": 31,
  "pndm no_noise": 15,
  "pndm with_no_set_alpha_to_one": 18,
  "pndm with_set_alpha_to_one": 17,
  "pndm with_v_prediction": 16,
  "tcd multistep_deter": 71,
  "tcd onestep_deter": 70,
  "unclip skip_timesteps": 73,
  "unipc no_noise": 59,
  "unipc with_karras": 60,
  "unipc with_karras_and_v_prediction": 62,
  "unipc with_noise": 63,
  "unipc with_v_prediction": 61,
};

const cases = Object.entries(tests).flatMap(([name, trace]) => {
  const [module, , test] = name.split("::") as [string, string, string];
  const key = `${module} ${test.replace(/^test_full_(loop_)?/, "")}`;
  const row = PUBLISHED.find((r) => r.row === ROW_OF[key]);
  return row && !name.includes("1DTest") && trace.timesteps ? [{ key, trace, row }] : [];
});

const distinct = (values: readonly number[]): number[] =>
  values.filter((v, i) => i === 0 || v !== values[i - 1]);

describe("timesteps and levels are those of the published runs", () => {
  it("covers the traces", () => {
    expect(cases.length).toBe(Object.keys(ROW_OF).length);
  });

  it.each(cases)("$key", async ({ trace, row }) => {
    const { steps, eta, timesteps } = row;
    const scheduler = schedulerFromConfig(
      { _class_name: `${row.scheduler}Scheduler`, ...row.config },
      { steps, ...(eta !== undefined && { eta }), ...(timesteps && { timesteps }) },
    );
    const asked: number[] = [];
    const network: Network = async (x, t) => {
      asked.push(t);
      return weightedSum([1e-3, await dummyModel(x, t)]);
    };
    await loopA(scheduler, { model: network, noise: silence, shape: row.sequence ? SEQUENCE : PICTURE });
    const whole = trace.timesteps!.every(Number.isInteger);
    expect(asked.length).toBe(trace.timesteps!.length);
    asked.forEach((t, i) => {
      const expected = trace.timesteps![i]!;
      if (whole) expect(t).toBe(expected);
      else expect(Math.abs(t - expected), `timestep ${i}: ${t}, expected ${expected}`).toBeLessThan(2e-3);
    });
    expect(scheduler.initialScale / trace.initNoiseSigma).toBeCloseTo(1, 6);
    if (!trace.sigmas) return;
    const mine = distinct(scheduler.sigmas);
    distinct(trace.sigmas).forEach((sigma, i) => {
      expect(Math.abs(mine[i]! - sigma), `level ${i}`).toBeLessThanOrEqual(1e-6 * sigma);
    });
  });
});

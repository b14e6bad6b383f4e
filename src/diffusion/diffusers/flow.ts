/** Schedulers of flow matching: Euler and Heun over flow times. */

import { COUNT, FLAG } from "../../io/fields.ts";
import { flowPrediction } from "../parameterization.ts";
import type { Sampler } from "../sample.ts";
import { consistency } from "../samplers/consistency.ts";
import { euler } from "../samplers/euler.ts";
import { heun } from "../samplers/heun.ts";
import { timestepLookup } from "../scheduler.ts";
import { flowMatchLevels } from "./levels.ts";
import { flowRatioParts, type PartsOf } from "./options.ts";

const flowMatch =
  (sampler: Sampler): PartsOf =>
  (c, options) => {
    const { sigmas: levels, timesteps } = flowMatchLevels(c, options);
    if (c.value("invert_sigmas", FLAG, false)) throw c.error("invert_sigmas", "false: true is not supported");
    const flow = [...levels, 0].map(Math.fround);
    const trained = c.value("num_train_timesteps", COUNT, 1000);
    if (!c.value("stochastic_sampling", FLAG, false)) {
      return {
        name: c.name,
        sampler,
        space: "flow",
        sigmas: flow,
        timesteps,
        timestepAt: timestepLookup(flow, timesteps, (s) => s * trained),
        parameterization: flowPrediction,
        initialScale: 1,
      };
    }
    return { name: c.name, sampler: consistency, ...flowRatioParts(flow, timesteps, trained) };
  };

/** Schedulers of flow matching, by class name. */
export const FLOW_SCHEDULERS: Readonly<Record<string, PartsOf>> = {
  FlowMatchEulerDiscreteScheduler: flowMatch(euler),
  FlowMatchHeunDiscreteScheduler: flowMatch(heun),
};

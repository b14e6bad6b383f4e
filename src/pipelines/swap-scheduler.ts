/** The pipeline's scheduler: from its configuration, or another one chosen as diffusers does. */

import type { Config } from "./components.ts";

/** Samplers by name: diffusers' class, and what is set in its configuration. */
const CLASSES = {
  ddim: ["DDIMScheduler"],
  ddpm: ["DDPMScheduler"],
  euler: ["EulerDiscreteScheduler"],
  "euler-ancestral": ["EulerAncestralDiscreteScheduler"],
  heun: ["HeunDiscreteScheduler"],
  dpm2: ["KDPM2DiscreteScheduler"],
  "dpm2-ancestral": ["KDPM2AncestralDiscreteScheduler"],
  pndm: ["PNDMScheduler", { skip_prk_steps: false }],
  plms: ["PNDMScheduler", { skip_prk_steps: true }],
  lms: ["LMSDiscreteScheduler"],
  deis: ["DEISMultistepScheduler", { algorithm_type: "deis", solver_type: "logrho" }],
  "dpmpp-2m": ["DPMSolverMultistepScheduler", { algorithm_type: "dpmsolver++", solver_order: 2 }],
  "dpmpp-3m": ["DPMSolverMultistepScheduler", { algorithm_type: "dpmsolver++", solver_order: 3 }],
  "dpmpp-2m-sde": ["DPMSolverMultistepScheduler", { algorithm_type: "sde-dpmsolver++", solver_order: 2 }],
  "dpmpp-2s": ["DPMSolverSinglestepScheduler", { algorithm_type: "dpmsolver++", solver_order: 2 }],
  "dpmpp-3s": ["DPMSolverSinglestepScheduler", { algorithm_type: "dpmsolver++", solver_order: 3 }],
  "dpmpp-sde": ["DPMSolverSDEScheduler"],
  unipc: ["UniPCMultistepScheduler"],
  "sa-solver": ["SASolverScheduler"],
  lcm: ["LCMScheduler"],
  tcd: ["TCDScheduler"],
} as const satisfies Record<string, readonly [className: string, settings?: Config]>;

/** Samplers that a pipeline can be run with. */
export const PIPELINE_SAMPLERS = Object.keys(CLASSES) as (keyof typeof CLASSES)[];
/** A sampler by the name of diffusers' scheduler class. */
export type PipelineSampler = keyof typeof CLASSES;

const SCHEDULE_KEYS = {
  karras: "use_karras_sigmas",
  exponential: "use_exponential_sigmas",
  beta: "use_beta_sigmas",
  lu: "use_lu_lambdas",
} as const;

/** Choices of noise levels: `model` is what the scheduler's configuration says, `uniform` evenly spaced timesteps. */
export const PIPELINE_SCHEDULES = [
  "model",
  "uniform",
  ...(Object.keys(SCHEDULE_KEYS) as (keyof typeof SCHEDULE_KEYS)[]),
] as const;
/** How the noise levels of a run are chosen. */
export type PipelineSchedule = (typeof PIPELINE_SCHEDULES)[number];

/** Keys that mean something else in another class, so that its own default counts. */
const NOT_CARRIED_OVER = [
  "algorithm_type",
  "solver_type",
  "solver_order",
  "skip_prk_steps",
  "use_flow_sigmas",
];

/** The configuration with a sampler and noise levels in place of its own. */
export function swapSampler(
  config: Config,
  sampler?: PipelineSampler,
  schedule: PipelineSchedule = "model",
): Config {
  const swapped = sampler === undefined ? config : withClass(config, CLASSES[sampler]);
  if (schedule === "model") return swapped;
  const kinds = Object.entries(SCHEDULE_KEYS).map(([name, key]) => [key, name === schedule] as const);
  return { ...swapped, ...Object.fromEntries(kinds) };
}

function withClass(config: Config, [className, settings = {}]: readonly [string, Config?]): Config {
  if (config._class_name === className) return { ...config, ...settings };
  const kept = Object.entries(config).filter(([key]) => !NOT_CARRIED_OVER.includes(key));
  return { ...Object.fromEntries(kept), ...settings, _class_name: className };
}

/** The name of a configuration's sampler, for people: ours where there is one, else that of the class. */
export function samplerName(config: Config): string {
  const found = Object.entries(CLASSES).find(([, entry]) => {
    const [className, settings = {}] = entry as readonly [string, Config?];
    return (
      config._class_name === className &&
      Object.entries(settings).every(([key, value]) => (config[key] ?? value) === value)
    );
  });
  return found?.[0] ?? String(config._class_name);
}

/** All samplers by name, for command lines, forms and configurations. */
import { samplerOf, withDefaults } from "../rule.ts";
import type { Sampler } from "../sample.ts";
import { consistency } from "./consistency.ts";
import { ddim, ddimInversion } from "./ddim.ts";
import { ddpm } from "./ddpm.ts";
import { deis } from "./deis.ts";
import { dpmSolverMultistep, dpmSolverSDE, dpmSolverSinglestep } from "./dpm-solver.ts";
import { dpm2, dpm2Ancestral } from "./dpm2.ts";
import { euler, eulerAncestral } from "./euler.ts";
import { heun } from "./heun.ts";
import { lms } from "./lms.ts";
import { ipndm, plms, pndm } from "./pndm.ts";
import { predictorCorrector } from "./predictor-corrector.ts";
import { saSolver } from "./sa-solver.ts";
import { tcd } from "./tcd.ts";
import { unipc } from "./unipc.ts";

/**
 * Coordinates of the sample: `sigma` is x0 + sigma * noise, which any network can be brought to; `flow` is
 * (1 - sigma) x0 + sigma * noise, where only methods that hold for any ODE in sigma apply.
 */
export type Coordinates = "sigma" | "flow";

/** A sampler with what lists and forms say of it. */
export interface SamplerEntry {
  readonly sampler: Sampler;
  readonly description: string;
  /** Group in lists. */
  readonly family: "ode" | "ancestral" | "multistep" | "dpm-solver" | "sde" | "few-step" | "inversion";
  /** Coordinates it is right in. */
  readonly coordinates: readonly Coordinates[];
  /** Whether it draws noise, so that a seed matters beyond the initial noise. */
  readonly stochastic: boolean;
  /** Evaluations of the network a step. */
  readonly evaluations: number;
}

function entry(
  sampler: Sampler,
  family: SamplerEntry["family"],
  description: string,
  more: Partial<SamplerEntry> = {},
): SamplerEntry {
  return { sampler, family, description, coordinates: ["sigma"], stochastic: false, evaluations: 1, ...more };
}

const anywhere = { coordinates: ["sigma", "flow"] } as const;
const noisy = { stochastic: true } as const;
const twice = { evaluations: 2 } as const;

/** Name to sampler, in the order that a list should show. */
export const SAMPLERS = {
  ddim: entry(ddim, "ode", "DDIM: deterministic; eta 1 makes it DDPM"),
  ddpm: entry(ddpm, "ancestral", "DDPM: the original sampler; many steps", noisy),
  euler: entry(euler, "ode", "Euler", anywhere),
  "euler-ancestral": entry(eulerAncestral, "ancestral", "Euler with fresh noise at every step", noisy),
  heun: entry(heun, "ode", "Heun: second order", { ...anywhere, ...twice }),
  "edm-stochastic": entry(
    samplerOf(withDefaults(heun.rule, { churn: 40, churnRange: [0.05, 50], noiseScale: 1.003 })),
    "sde",
    "Heun with churn: Karras et al., algorithm 2",
    { ...noisy, ...twice },
  ),
  dpm2: entry(dpm2, "ode", "DPM-Solver-2: second order", twice),
  "dpm2-ancestral": entry(dpm2Ancestral, "ancestral", "DPM-Solver-2 with fresh noise", {
    ...noisy,
    ...twice,
  }),
  pndm: entry(pndm, "multistep", "PNDM: starts with Runge-Kutta steps"),
  plms: entry(plms, "multistep", "PLMS: PNDM without Runge-Kutta steps"),
  ipndm: entry(ipndm, "multistep", "iPNDM: Adams-Bashforth of order 4"),
  lms: entry(lms, "multistep", "Linear multistep of order 4", anywhere),
  deis: entry(deis, "multistep", "DEIS: exponential integrator on the noise"),
  "dpmpp-2m": entry(dpmSolverMultistep, "dpm-solver", "DPM-Solver++ 2M: multistep of order 2"),
  "dpmpp-3m": entry(
    samplerOf(withDefaults(dpmSolverMultistep.rule, { order: 3 })),
    "dpm-solver",
    "DPM-Solver++ 3M: multistep of order 3",
  ),
  "dpmpp-2s": entry(dpmSolverSinglestep, "dpm-solver", "DPM-Solver++ 2S: singlestep of order 2"),
  "dpmpp-3s": entry(
    samplerOf(withDefaults(dpmSolverSinglestep.rule, { order: 3 })),
    "dpm-solver",
    "DPM-Solver++ 3S: singlestep of order 3",
  ),
  "dpmpp-2m-sde": entry(
    samplerOf(withDefaults(dpmSolverMultistep.rule, { algorithm: "sde-dpmsolver++" })),
    "sde",
    "DPM-Solver++ 2M for the SDE",
    noisy,
  ),
  "dpmpp-sde": entry(dpmSolverSDE, "sde", "DPM-Solver++ for the SDE, singlestep", { ...noisy, ...twice }),
  unipc: entry(unipc, "dpm-solver", "UniPC: predictor and corrector"),
  "sa-solver": entry(saSolver, "sde", "SA-Solver: stochastic Adams", noisy),
  lcm: entry(consistency, "few-step", "LCM: for latent consistency models", noisy),
  consistency: entry(consistency, "few-step", "Multistep consistency sampling", noisy),
  tcd: entry(tcd, "few-step", "TCD: for trajectory consistency distillation", noisy),
  "predictor-corrector": entry(predictorCorrector, "sde", "Langevin steps between reverse diffusion steps", {
    ...noisy,
    ...twice,
  }),
  "ddim-inversion": entry(ddimInversion, "inversion", "DDIM backwards: from a picture to its noise"),
} as const satisfies Record<string, SamplerEntry>;

/** Name of a sampler. */
export type SamplerName = keyof typeof SAMPLERS;

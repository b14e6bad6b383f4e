/** Diffusion: schedules, parameterisations, samplers, guidance, objectives. */
export * from "./sample.ts";

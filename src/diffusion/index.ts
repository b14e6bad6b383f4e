/** Diffusion: schedules, parameterisations, samplers, guidance, objectives. */
export * from "./guidance/index.ts";
export * from "./intervene.ts";
export * from "./sample.ts";

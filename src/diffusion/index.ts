/** Diffusion: schedules, parameterisations, samplers, guidance, objectives. */
export * from "./guidance/index.ts";
export * from "./intervene.ts";
export * from "./objectives/index.ts";
export * from "./sample.ts";
export * from "./seeds.ts";
export * from "./timestep-samplers.ts";

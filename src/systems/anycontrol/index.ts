/** AnyControl: text to picture under any mix of conditions (Sun et al. 2024), for other programs: method, networks and files, data, training, use. */
export type { Arm } from "./arms.ts";
export * from "./base.ts";
export * from "./data.ts";
export * from "./method.ts";
export * from "./model.ts";
export * from "./train.ts";
export * from "./types.ts";
export * from "./use.ts";

export * from "./ema.ts";
export * from "./gradients.ts";
export * from "./optimizer.ts";
export * from "./rules.ts";
export * from "./schedules.ts";

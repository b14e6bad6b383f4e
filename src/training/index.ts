/** Training as systems do it: phases with history and report, random parts of batches, checkpoint files. */
export * from "./batches.ts";
export * from "./model-file.ts";
export * from "./phase.ts";
export * from "./restoration.ts";
export * from "./text-to-picture/index.ts";
export * from "./weights.ts";

/** Post-training quantisation of linear layers. */
export * from "./activation.ts";
export * from "./calibrate.ts";
export * from "./cost.ts";
export * from "./description.ts";
export * from "./gptq.ts";
export * from "./grid.ts";
export * from "./model.ts";
export * from "./packed.ts";
export * from "./scheme.ts";
export * from "./simulated.ts";

/** DiffLoss: restoration with a frozen diffusion model as a loss (Tan et al. 2024), for other programs: the loss, networks and files, training, use. */
export * from "./data.ts";
export * from "./method.ts";
export * from "./model.ts";
export * from "./train.ts";
export * from "./use.ts";

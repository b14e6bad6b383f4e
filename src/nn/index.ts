/** Modules, initialisers, layers, optimisers, training. */
export * from "./capture.ts";
export * from "./held-type.ts";
export * from "./init.ts";
export * from "./layers/index.ts";
export * from "./losses.ts";
export * from "./module.ts";
export * from "./optim/index.ts";
export * from "./perturbed-attention.ts";
export * from "./quantize/index.ts";
export * from "./train.ts";
export * from "./train-step.ts";

/** Noise-DA: adaptation of restoring networks to real pictures in the noise space, for other programs: the loss, networks and files, training, baselines. */
export * from "./baselines.ts";
export * from "./method.ts";
export * from "./model.ts";
export * from "./train.ts";

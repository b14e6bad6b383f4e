/** UMD: a masked, noised autoencoder, for other programs: the method, its networks and their file, training, and use. */
export * from "./method.ts";
export * from "./model.ts";
export * from "./train.ts";
export * from "./use.ts";

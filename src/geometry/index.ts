/** Geometry: transforms and cameras. */
export * from "./camera.ts";
export * from "./matrix.ts";
export * from "./tensors.ts";

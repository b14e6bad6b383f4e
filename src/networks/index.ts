/** Networks of the field, with their official key layouts. */

export * from "./perceptual.ts";
export * from "./blocks/index.ts";
export * from "./config.ts";
export * from "./unet-2d-condition.ts";
export type { AddedConditions, UNetConditions } from "./unet-encoder.ts";

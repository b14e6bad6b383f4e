/** Guidance: what leads samples where they should go. */
export {
  type BySigma,
  type ConditionalDenoise,
  type Conditioning,
  conditionalDenoiser,
  denoiseEach,
  type SigmaInterval,
  swapCondition,
  withCondition,
} from "./conditions.ts";
export * from "./formulas.ts";
export * from "./gradient.ts";
export * from "./guide.ts";

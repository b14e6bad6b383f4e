/** How pictures and latents are noised: 1000 steps, cosine for pixels and linear for latents. */
import { alphasCumprod, betas } from "../../diffusion/index.ts";
import type { UMDConfig } from "./config.ts";

export const TIMESTEPS = 1000;

const BARS: Record<UMDConfig["domain"], Float32Array> = {
  pixels: alphasCumprod(betas({ schedule: "squaredcos_cap_v2", timesteps: TIMESTEPS })),
  latents: alphasCumprod(betas({ schedule: "linear", timesteps: TIMESTEPS })),
};

/** Shares of signal by index 0 ... 999, falling. */
export const alphaBarsOf = ({ domain }: Pick<UMDConfig, "domain">): Float32Array => BARS[domain];

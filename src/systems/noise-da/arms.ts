/** What the study compares: supervision on synthetic pairs, on real ones, the method and its parts, and other ways to adapt. */
import type { RestorationUNet, Restorer } from "../../networks/index.ts";
import { dannWay, ganWay, neighbourWay, tvWay } from "./baselines.ts";
import type { JointOptions, TimestepRange } from "./method.ts";
import { createNoiseGuesser, type DiffusionSize } from "./model.ts";
import { type JointSettings, noiseDaWay, type Way } from "./train.ts";

/** One way to go on from the network that all begin with. */
export interface Arm {
  readonly about: string;
  readonly kind: "vanilla" | "oracle" | "noise-da" | "tv" | "dann" | "gan" | "neighbours";
  /** Weight of what is beside the pixels: alpha, or that of the rival's term. */
  readonly weight?: number;
  readonly options?: JointOptions;
  readonly timesteps?: TimestepRange;
  /** The diffusion model never learns, or it is ahead of the network. */
  readonly diffusion?: "frozen" | "strong";
  /** Steps relative to the others. Default 1. */
  readonly longer?: number;
}

const joint = (about: string, more: Partial<Arm> = {}): Arm => ({
  about,
  kind: "noise-da",
  weight: 0.2,
  ...more,
});
const tv = (weight: number): Arm => ({
  about: `total variation of restored real pictures, weight ${weight}`,
  kind: "tv",
  weight,
});
const gan = (weight: number): Arm => ({
  about: `an adversary of restored real pictures, weight ${weight}`,
  kind: "gan",
  weight,
});
const dann = (weight: number): Arm => ({
  about: `DANN on the lowest features, lambda ${weight}`,
  kind: "dann",
  weight,
});

export const ARMS = {
  vanilla: { about: "synthetic pairs alone", kind: "vanilla" },
  oracle: { about: "real pairs, whose truth no other arm sees", kind: "oracle" },
  "noise-da": joint("Noise-DA, alpha 0.2 as published"),
  "tv 0.05": tv(0.05),
  "tv 0.2": tv(0.2),
  "tv 0.8": tv(0.8),
  "frozen D": joint("Noise-DA with a random diffusion model that never learns", { diffusion: "frozen" }),
  "only synthetic": joint("Noise-DA that sees the restored synthetic picture alone", {
    options: { conditions: "synthetic" },
  }),
  "no swap": joint("Noise-DA without swapped residuals", { options: { swap: false } }),
  "no swap, no shuffle": joint("Noise-DA without swapped residuals and coins", {
    options: { swap: false, shuffle: false },
  }),
  "low noise": joint("Noise-DA, t from 1 to 100", { timesteps: [1, 100] }),
  "gan 0.001": gan(0.001),
  "gan 0.01": gan(0.01),
  "dann 0.01": dann(0.01),
  "dann 0.1": dann(0.1),
  "dann 1": dann(1),
  neighbours: { about: "Neighbor2Neighbor on real pictures alone", kind: "neighbours" },
  "noise-da 0.05": joint("Noise-DA, alpha 0.05", { weight: 0.05 }),
  "noise-da 1": joint("Noise-DA, alpha 1", { weight: 1 }),
  "strong D": joint("Noise-DA with a diffusion model that learns first, and four times as often", {
    diffusion: "strong",
  }),
  "only real": joint("Noise-DA that sees the restored real picture alone", {
    options: { conditions: "real" },
  }),
  "high noise": joint("Noise-DA, t from 900 to 999", { timesteps: [900, 999] }),
  "mode 2": joint("Noise-DA with noise on other clean pictures", { options: { mode: 2 } }),
  "vanilla, longer": {
    about: "synthetic pairs alone, for as much arithmetic as Noise-DA takes",
    kind: "vanilla",
    longer: 5,
  },
  "tv 0.2, longer": { ...tv(0.2), longer: 3 },
} as const satisfies Readonly<Record<string, Arm>>;
export type ArmName = keyof typeof ARMS;
export const ARM_NAMES = Object.keys(ARMS) as ArmName[];

/** What decides the claim. */
export const CORE: readonly ArmName[] = [
  "vanilla",
  "oracle",
  "noise-da",
  "tv 0.05",
  "tv 0.2",
  "tv 0.8",
  "frozen D",
  "strong D",
];

/** Weights of a way that are chosen by the labelled validation pictures, for every way alike. */
export const TUNED = {
  "noise-da": ["noise-da 0.05", "noise-da", "noise-da 1"],
  tv: ["tv 0.05", "tv 0.2", "tv 0.8"],
  gan: ["gan 0.001", "gan 0.01"],
  dann: ["dann 0.01", "dann 0.1", "dann 1"],
} as const satisfies Readonly<Record<string, readonly ArmName[]>>;

/** What of the settings an arm has its own. */
export function armSettings(arm: Arm, base: JointSettings): JointSettings {
  const { kind, weight = 0, options, timesteps = base.timesteps, longer = 1 } = arm;
  const steps = Math.round(base.steps * longer);
  const alpha = kind === "dann" ? { cap: weight, ramp: steps, slope: 10 } : { cap: weight, ramp: steps / 2 };
  return {
    ...base,
    steps,
    timesteps,
    ...(kind === "noise-da" ? { mode: 1, ...options } : { mode: 0 }),
    alpha,
  };
}

/** How an arm trains. @throws ArgumentError for DANN on networks that are no U-Net of the paper */
export function wayOfArm(arm: Arm, net: Restorer, settings: JointSettings, size: DiffusionSize): Way<object> {
  const { kind, weight = 0, diffusion } = arm;
  const { seed, range = "unit" } = settings;
  const made = (): Way<object> => {
    switch (kind) {
      case "tv":
        return tvWay(weight, range);
      case "gan":
        return ganWay(weight, seed, range) as Way<object>;
      case "dann":
        return dannWay(net as RestorationUNet, seed, range) as Way<object>;
      case "neighbours":
        return neighbourWay();
      default: {
        const guesser = createNoiseGuesser(size, seed);
        const way = noiseDaWay(guesser, settings);
        return { ...way, ...(diffusion === "frozen" && { held: "helper" as const }) } as Way<object>;
      }
    }
  };
  return made();
}

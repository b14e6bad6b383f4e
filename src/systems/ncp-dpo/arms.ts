/** What the study compares: losses in latents and in features, and two controls that could explain the gain away. */
import type { TrainSettings } from "./train.ts";

/** How an arm differs from the standard training. */
export type Arm = Pick<TrainSettings, "space" | "loss"> & Partial<TrainSettings> & { readonly about: string };

/** Learning rates are those that each did well with in a first look; `--sweep` looks properly. */
export const ARMS = {
  "latent-dpo": {
    space: "latent",
    loss: "dpo",
    beta: 2000,
    learningRate: 1e-4,
    about: "errors of the noise",
  },
  "ncp-dpo": {
    space: "ncp",
    loss: "dpo",
    beta: 4e6,
    learningRate: 3e-4,
    about: "errors of features, the method",
  },
  weights: {
    ...{ space: "ncp", loss: "dpo", tap: "identity", beta: 4e7, learningRate: 1e-4 },
    about: "control: errors of the noise with the method's weights of timesteps, no features",
  },
  random: {
    ...{ space: "ncp", loss: "dpo", encoder: "random", beta: 4e6, learningRate: 3e-4 },
    about: "control: features of a U-Net with random weights",
  },
  cpo0: { space: "latent", loss: "cpo", lambda: 0, beta: 2000, learningRate: 1e-4, about: "no reference" },
  cpo1: {
    space: "latent",
    loss: "cpo",
    lambda: 1,
    beta: 2000,
    learningRate: 1e-4,
    about: "no reference, winners' error added",
  },
  sft: { space: "latent", loss: "sft", learningRate: 1e-4, about: "winners alone" },
  "ncp-cpo": {
    space: "ncp",
    loss: "cpo",
    lambda: 0,
    beta: 4e6,
    learningRate: 3e-4,
    about: "features, no reference",
  },
  "ncp-sft": { space: "ncp", loss: "sft", learningRate: 3e-4, about: "features, winners alone" },
} as const satisfies Record<string, Arm>;
/** Name of an arm. */
export type ArmName = keyof typeof ARMS;
/** All names, the method's rivals and controls first. */
export const ARM_NAMES = Object.keys(ARMS) as ArmName[];

/** Arithmetic of the encoder as a share of the U-Net's, counted for the base: 35 of 136 million operations a picture. */
const ENCODER = 0.26;

/** Arithmetic of a step for one pair, in passes of the U-Net over a picture: backward passes count double. */
export function passesOf({ space, loss, tap }: Arm): number {
  const compares = loss === "dpo" || loss === "ipo" || loss === "hinge";
  const network = 3 + (compares ? 1 : 0);
  const features = space === "latent" || tap === "identity" ? 0 : ENCODER * (3 + (compares ? 1 : 0));
  return 2 * (network + features);
}

/** What a sweep tries: factors of beta and of the learning rate. */
export const BETA_FACTORS = [0.25, 1, 4];
export const RATE_FACTORS = [1 / 3, 1, 3];

/** Settings that a sweep tries for an arm, its own first. */
export function sweepOf(arm: Arm): Pick<Arm, "beta" | "learningRate">[] {
  const betas = arm.beta === undefined ? [undefined] : BETA_FACTORS.map((factor) => factor * arm.beta!);
  const cells = betas.flatMap((beta) =>
    RATE_FACTORS.map((factor) => ({
      learningRate: Number((factor * arm.learningRate!).toPrecision(3)),
      ...(beta !== undefined && { beta }),
    })),
  );
  const own = cells.findIndex(
    ({ beta, learningRate }) => beta === arm.beta && learningRate === arm.learningRate,
  );
  return [cells[own]!, ...cells.filter((_, i) => i !== own)];
}

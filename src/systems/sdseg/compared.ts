/** What the study of SDSeg compares: trainings, ways to segment with them, and what is known of each. */
import type { Times } from "../../study/index.ts";
import type { Head } from "./method.ts";
import type { Stability } from "./scores.ts";
import type { SegmentOptions } from "./use.ts";

/** The trainings that are compared: the method, without its latent loss, without noise; and what is asked for apart. */
export const VARIANTS = {
  "lambda-1": { head: "vskip", lambda: 1, trainVision: true },
  "lambda-0": { head: "vskip", lambda: 0, trainVision: true },
  "image-only": { head: "image-only", lambda: 1, trainVision: true },
  "raw-head": { head: "raw", lambda: 1, trainVision: true },
  "frozen-vision": { head: "vskip", lambda: 1, trainVision: false },
} as const satisfies Record<string, { head: Head; lambda: number; trainVision: boolean }>;
export type Variant = keyof typeof VARIANTS;
/** The plain U-Net over pixels, among the variants. */
export const PLAIN = "plain";
export const EXTRAS: readonly Variant[] = ["raw-head", "frozen-vision"];

/** Steps at which the reverse process is measured, and samples of an ensemble. */
export const CURVE = [2, 4, 10, 50] as const;
const MEMBERS = 3;

export interface Way {
  readonly options: SegmentOptions;
  /** Seeds of the noise; all: as many as are asked for. */
  readonly seeds: number | "all";
  readonly variants: readonly Variant[];
}

const LATENT_LOSS: readonly Variant[] = ["lambda-1", "lambda-0"];
const ddim = (steps: number, eta: number, spacing: "leading" | "trailing" = "leading"): SegmentOptions => ({
  mode: "ddim",
  steps,
  spacing,
  eta,
});
export const ONE_STEP = "one step";
/** DDIM of eta 1 is the released sampler, and the same as DDPM. */
export const ddimName = (steps: number, spacing = ""): string => `DDIM, ${steps} steps, eta 1${spacing}`;
export const DETERMINISTIC = "DDIM, 50 steps, eta 0";
export const TRAILING = ", trailing";

/** Ways to segment with a trained model, by name. */
export const WAYS: Readonly<Record<string, Way>> = {
  [ONE_STEP]: { options: { mode: "direct" }, seeds: "all", variants: [...LATENT_LOSS, ...EXTRAS] },
  "no noise": { options: { mode: "direct" }, seeds: 1, variants: ["image-only"] },
  ...Object.fromEntries(
    CURVE.map((steps) => [
      ddimName(steps),
      {
        options: ddim(steps, 1),
        seeds: steps === 50 ? MEMBERS : 1,
        variants: steps === 50 ? [...LATENT_LOSS, ...EXTRAS] : LATENT_LOSS,
      },
    ]),
  ),
  ...Object.fromEntries(
    CURVE.filter((steps) => steps < 50).map((steps) => [
      ddimName(steps, TRAILING),
      { options: ddim(steps, 1, "trailing"), seeds: 1, variants: LATENT_LOSS },
    ]),
  ),
  [DETERMINISTIC]: { options: ddim(50, 0), seeds: 1, variants: ["lambda-1"] },
  "PLMS, 10 steps": {
    options: { mode: "plms", steps: 10, spacing: "leading" },
    seeds: 1,
    variants: ["lambda-1"],
  },
  "DPM-Solver, 10 steps": {
    options: { mode: "dpm-solver", steps: 10, spacing: "leading" },
    seeds: 1,
    variants: ["lambda-1"],
  },
};

/** Dice and IoU on a test split, and the Dice of each of its pictures. Of several seeds: the means. */
export interface Reached {
  readonly dice: number;
  readonly iou: number;
  readonly perPicture: readonly number[];
  /** Of several seeds: the Dice of each, the mean of their probabilities, and the spread. */
  readonly perSeed?: readonly number[];
  readonly ensemble?: Reached;
  readonly stability?: Stability;
}

/** Times of one picture: one step and fifty, in all and in the denoiser alone. */
export interface TimesOfOne {
  readonly width: number;
  readonly height: number;
  readonly times: Readonly<Record<"one" | "fifty" | "denoiserOne" | "denoiserFifty", Times>>;
}

/** Everything that was measured on one set, by name. */
export interface SetFound {
  readonly reached: Readonly<Record<string, Reached>>;
  readonly times?: TimesOfOne;
  /** Dice of each class, where there are several. */
  readonly perClass?: readonly number[];
}

export const CEILING = "masks through the autoencoder";
export const PLAIN_UNET = "plain U-Net";
export const wayName = (variant: Variant, way: string): string => `${variant}, ${way}`;
export const METHOD = wayName("lambda-1", ONE_STEP);
export const CONTROL = wayName("image-only", "no noise");
export const FLOORS = {
  otsu: "Otsu's threshold",
  li: "Li's threshold",
  foreground: "all foreground",
} as const;
/** Pictures for diffusion in pixels, which takes 250 calls for each. */
export const PIXEL_PICTURES = 40;
export const inPixels = (count: number): string =>
  `diffusion in pixels, DDIM, 50 steps, eta 1, mean of 5, first ${count} pictures`;

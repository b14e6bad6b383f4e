/** The study's domains: what is learned from with a truth, what real pictures suffer, which training never sees a truth of. */
import {
  bandingNoise,
  correlatedNoise,
  type Degradation,
  gaussianNoise,
  impulseNoise,
  inOrder,
  motionBlur,
  rain,
} from "../../data/index.ts";
import type { JointOptions } from "./method.ts";

/** One domain. */
export interface Domain {
  readonly synthetic: Degradation;
  readonly real: Degradation;
  /** On which values losses are taken, as in the paper. */
  readonly range: NonNullable<JointOptions["range"]>;
}

const level = (v: number): number => v / 255;

/** White noise of up to 15 of 255, not cut off. */
const WEAK: Degradation = {
  about: "white noise of sigma 0 to 15 of 255",
  step: gaussianNoise([0, level(15)], { clip: false }),
};
const camera = (blur: number) =>
  correlatedNoise({ strength: [level(45), level(60)], blur: [blur, blur], clip: false });
const cameraNoise = (blur: number, about: string): Domain => ({
  synthetic: WEAK,
  real: {
    about: `noise of 45 to 60 of 255, stronger where it is bright, alike in colours, ${about}`,
    step: camera(blur),
  },
  range: "unit",
});

/** Domains by name. */
export const DOMAINS = {
  noise: cameraNoise(0, "each pixel on its own"),
  correlated: cameraNoise(0.9, "alike in neighbours"),
  blotches: cameraNoise(1.6, "in blotches"),
  banding: {
    synthetic: WEAK,
    real: {
      about: "rows that are off by 16 to 20 of 255, and noise of 45 to 60",
      step: inOrder(camera(0.9), bandingNoise([level(16), level(20)], { clip: false })),
    },
    range: "unit",
  },
  impulses: {
    synthetic: WEAK,
    real: { about: "5 to 15 % of the pixels black or white", step: impulseNoise([0.05, 0.15]) },
    range: "unit",
  },
  rain: {
    synthetic: {
      about: "a few short, weak streaks of rain",
      step: rain({ density: [30, 60], length: [3, 6], lean: 5, strength: [0.1, 0.2] }),
    },
    real: {
      about: "dense, long streaks that lean, and noise of 8 of 255",
      step: inOrder(
        rain({ density: [150, 300], length: [8, 16], lean: 20, strength: [0.2, 0.5] }),
        gaussianNoise([level(8), level(8)]),
      ),
    },
    range: "signed",
  },
  blur: {
    synthetic: { about: "a straight movement over 3 to 5 pixels", step: motionBlur([3, 5]) },
    real: {
      about: "a straight movement over 5 to 9 pixels, and noise of 8 of 255",
      step: inOrder(motionBlur([5, 9]), gaussianNoise([level(8), level(8)])),
    },
    range: "signed",
  },
} as const satisfies Readonly<Record<string, Domain>>;
export type DomainName = keyof typeof DOMAINS;
export const DOMAIN_NAMES = Object.keys(DOMAINS) as DomainName[];

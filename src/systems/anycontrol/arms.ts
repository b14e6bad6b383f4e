/** What is compared: AnyControl, what it is without each of its parts, and its rivals; all see as many samples. */
import type { BatchSettings, PairSettings } from "./data.ts";
import type { Kind, SteererConfig } from "./model.ts";
import { type ControlType, TYPES } from "./types.ts";

/** One of what is compared, as it differs from AnyControl. */
export interface Arm {
  readonly about: string;
  readonly kind: Kind;
  readonly pairs?: Partial<PairSettings>;
  readonly types?: readonly ControlType[];
  readonly ablation?: SteererConfig["ablation"];
  /** Share of the samples. Default 1. */
  readonly share?: number;
}

/** As AnyControl is trained: half of the pairs do not fit together, and drops as published but for the second condition. */
export const PAIRS: PairSettings = { unaligned: 0.5, dropSecond: 0.15, dropAll: 0.05, dropText: 0.05 };

const single = (type: ControlType): Arm => ({
  about: `a ControlNet of its own for ${type}, on maps of whole scenes`,
  kind: "controlnets",
  types: [type],
  pairs: { only: type },
  share: 0.5, // the four together see twice as many
});

/** All arms. Those of the claim come first. */
export const ARMS = {
  full: { about: "AnyControl", kind: "anycontrol" },
  joint: {
    about: "Multi-ControlNet trained jointly: four nets, summed, on the same unaligned pairs",
    kind: "controlnets",
    types: TYPES,
  },
  "-unaligned": { about: "without unaligned pairs", kind: "anycontrol", pairs: { unaligned: 0 } },
  edge: single("edge"),
  depth: single("depth"),
  seg: single("seg"),
  pose: single("pose"),
  uni: { about: "Uni-ControlNet, on maps of whole scenes, as published", kind: "uni", pairs: { all: true } },
  "uni, unaligned": { about: "Uni-ControlNet on the same unaligned pairs", kind: "uni" },
  "-alignment": {
    about: "without alignment: the text is not seen",
    kind: "anycontrol",
    ablation: { align: false },
  },
  "-fusion": {
    about: "without fusion: the mean of the conditions",
    kind: "anycontrol",
    ablation: { fuse: false },
  },
  "one level": { about: "one level of visual tokens", kind: "anycontrol", ablation: { levels: [1, 1] } },
  "-shared P": {
    about: "positions of its own for each condition",
    kind: "anycontrol",
    ablation: { slots: TYPES.length },
  },
} as const satisfies Record<string, Arm>;
/** Name of an arm. */
export type ArmName = keyof typeof ARMS;
/** Names of all arms. */
export const ARM_NAMES = Object.keys(ARMS) as ArmName[];

/** How an arm's batches are made. */
export const batchSettings = (
  arm: Arm,
  { batch, seed }: Pick<BatchSettings, "batch" | "seed">,
): BatchSettings => ({
  ...PAIRS,
  ...arm.pairs,
  ...{ batch, seed, layout: arm.kind === "anycontrol" ? "packed" : "slots" },
});

/** Options of `tweedie bench`. */
import type { Options } from "../options.ts";

/** `systems` runs anywhere; the others are cases of the source repository's `bench/`. */
export const SUITES = ["systems", "core", "diffusion", "data", "memory"] as const;
export type SuiteName = (typeof SUITES)[number];

export const BENCH_OPTIONS = {
  suite: {
    type: "positional",
    required: false,
    values: SUITES,
    description:
      "systems: each model that ships, run as by tweedie run (default); core, diffusion, data, memory: the cases of the source repository, from a checkout of it",
  },
  filter: { type: "string", valueHint: "TEXT", description: "only cases with this in their names" },
  seconds: { type: "string", valueHint: "N", description: "measures each case for so long (default 6)" },
  rounds: { type: "string", valueHint: "N", description: "turns in which the time is spent (default 2)" },
  peer: {
    type: "boolean",
    description: "also measures PyTorch on the same cases, where a Python has it (core, diffusion)",
  },
  json: {
    type: "string",
    valueHint: "FILE",
    path: "output",
    description: "writes rows for programs: name, seconds, peer, peerSeconds, ratio, peakBytes",
  },
  case: {
    type: "string",
    valueHint: "NAME",
    description: "one case of systems, in this process, as a line of JSON",
  },
} as const satisfies Options;

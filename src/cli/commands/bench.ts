/** `tweedie bench`: its declaration. What it does is in `../bench/`, loaded when it runs. */
import { BENCH_OPTIONS } from "../bench/options.ts";
import type { HelpfulCommand } from "../help.ts";

export const bench: HelpfulCommand = {
  meta: { name: "bench", description: "Measures how fast Tweedie is on this machine." },
  args: BENCH_OPTIONS,
  examples: [
    "tweedie bench",
    "tweedie bench systems --filter sdseg --json rows.json",
    "tweedie bench core --filter matmul --peer",
  ],
  run: async ({ rawArgs }) => (await import("../bench/index.ts")).bench(rawArgs),
};

import { describe, it } from "vitest";
import { reproduceOptions as sdseg } from "../../src/systems/sdseg/options.ts";
import { asked } from "./sdseg/asked.ts";
import { expectOptionsToDecide, type StudyCase } from "./study-options.ts";

/** Where and how a study runs. */
const HOW = ["threads", "shard", "work", "out"];

const CASES: readonly StudyCase[] = [
  {
    system: "sdseg",
    schema: sdseg,
    changes: {
      data: "OTHER",
      sets: "lesions",
      variants: "lambda-1",
      steps: 7,
      realSteps: 7,
      autoencoderSteps: 7,
      decoderSteps: 7,
      test: 2,
      window: 64,
      seeds: 5,
      extras: true,
      shapes: true,
      seed: 1,
    },
    doesNotDecide: HOW,
    asked: async (options) => (await asked(options)).cells,
  },
];

describe("every option of reproduce decides a result, or is known not to", () => {
  it.each(CASES.map((one) => [one.system, one] as const))("%s", (_, one) => expectOptionsToDecide(one));
});

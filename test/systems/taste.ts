/** A made-up system that draws pairs of pictures, and is trained on which of them somebody prefers. */
import { z } from "zod";
import { readCsv } from "../../src/data/index.ts";
import type { Picture } from "../../src/io/index.ts";
import { count, optionalChoices, outFolder, results, seed } from "../../src/systems/options.ts";
import { action, hinted, type System } from "../../src/systems/system.ts";

const flat = (value: number): Picture => ({
  ...{ width: 8, height: 8, channels: 3 },
  data: new Uint8Array(8 * 8 * 3).fill(value),
});

export const taste: System = {
  name: "taste",
  title: "Taste: which one is better",
  about: "draws pairs and learns from choices",
  paper: { title: "On Taste", authors: "A. Tester", venue: "Tests", year: 2024 },
  claim: "There is no arguing.",
  headline: async () => "",
  checkpoints: [],
  actions: {
    run: action({
      about: "draws pairs",
      options: z.object({
        prompt: hinted(z.string().optional().describe("one per line"), { role: "text" }),
        mode: z.enum(["one", "pairs"]).default("one").describe("what is drawn"),
        count: count(1, "pairs of a prompt"),
        seed,
        out: results("out/taste"),
      }),
      async *run({ prompt = "light\ndark\ngray", mode }) {
        const rows = prompt.split("\n");
        const pictures = rows.flatMap((_, i) => [flat(20 + 20 * i), flat(240 - 20 * i)]);
        if (mode === "pairs")
          yield {
            type: "figure",
            name: "pairs",
            caption: "Which one is better?",
            pictures,
            columns: ["one", "other"],
            rows,
          };
        return { summary: `Drew ${mode}.` };
      },
    }),
    train: action({
      about: "learns from choices",
      options: z.object({
        pairs: optionalChoices("table of pairs", {
          action: "run",
          options: { mode: "pairs" },
          figure: "pairs",
        }),
        out: outFolder("out/taste-train", "where the model goes"),
      }),
      async *run({ pairs }) {
        const rows = await readCsv(pairs!, { columns: ["chosen", "rejected", "prompt"] });
        yield {
          type: "table",
          title: "Learned from",
          table: { columns: ["prompt", "pairs"], rows: rows.map(({ prompt }) => [prompt!, 1]) },
        };
        return { summary: `Learned from ${rows.length} choices.` };
      },
    }),
  },
};

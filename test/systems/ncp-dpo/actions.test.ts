import { mkdtempSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { encodePicture, writeSafetensors } from "../../../src/io/index.ts";
import { readComparisons } from "../../../src/systems/ncp-dpo/pairs.ts";
import { scorerNamed } from "../../../src/systems/ncp-dpo/scorers.ts";
import { ncpDpo } from "../../../src/systems/ncp-dpo/system.ts";
import type { ActionName, ActionResult } from "../../../src/systems/system.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";
import { writeTinyStableDiffusion } from "../../pipelines/tiny-pipelines.ts";

const folder = mkdtempSync(join(tmpdir(), "ncp-actions-"));
const model = join(folder, "sd");

beforeAll(async () => {
  await writeTinyStableDiffusion(model);
  for (const [i, name] of ["a", "b"].entries()) {
    const data = Uint8Array.from({ length: 64 * 64 * 3 }, (_, k) => (k * (i + 2)) % 200);
    writeFileSync(
      join(folder, `${name}.png`),
      await encodePicture({ width: 64, height: 64, channels: 3, data }),
    );
  }
  writeFileSync(
    join(folder, "pairs.csv"),
    "prompt,winner,loser,label\na cat,a.png,b.png,1\na dog,b.png,a.png,1\na dog,b.png,a.png,0.5\na cat,a.png,gone.png,1\n",
  );
});

const act = async (
  name: ActionName,
  options: object,
  previews = false,
): Promise<{ result: ActionResult; events: WorkEvent[] }> => {
  const action = ncpDpo.actions[name]!;
  const events: WorkEvent[] = [];
  const result = await drained(action.run(action.options.parse(options), { previews }), (event) =>
    events.push(event),
  );
  return { result, events };
};

describe("train, then run", () => {
  const out = join(folder, "out");

  it("trains on a table, tells what it passed over, shows before and after, keeps the pairs", async () => {
    const given = { pairs: join(folder, "pairs.csv"), model, out, steps: 1, batch: 2, rank: 2 };
    const { result, events } = await act("train", given, true);
    expect(result.metrics).toMatchObject({ pairs: 2, ties: 1, missing: 1 });
    const texts = events.flatMap((event) =>
      event.type === "message" || event.type === "warning" ? [event.text] : [],
    );
    expect(texts).toContain("2 pairs of 2 prompts; 1 ties are passed over");
    expect(texts.find((text) => text.startsWith("1 pictures are not there"))).toContain("gone.png");
    const figure = events.find((event) => event.type === "figure");
    expect(figure).toMatchObject({ columns: ["before", "after"], rows: ["a cat", "a dog"] });
    expect(await readComparisons(join(out, "pairs.jsonl"))).toHaveLength(2);
    expect(await readFile(join(out, "train", "report.html"), "utf8")).toContain("implicit accuracy");
  });

  it("draws the same seeds without and with the LoRA, at several strengths", async () => {
    const lora = join(out, "lora.safetensors");
    const { events } = await act("run", {
      prompt: "a cat",
      model,
      lora,
      mode: "scales",
      count: 1,
      steps: 1,
      out: join(folder, "r"),
    });
    const figure = events.find((event) => event.type === "figure");
    expect(figure).toMatchObject({
      columns: ["reference", "0.25", "0.5", "0.75", "1"],
      rows: ["a cat, seed 0"],
    });
  });

  it("refuses a LoRA of another model by the names of its layers", async () => {
    const other = join(folder, "other.safetensors");
    await writeSafetensors(
      other,
      new Map(
        ["lora_A", "lora_B"].map((side) => [
          `unet.down_blocks.7.attentions.0.to_q.${side}.weight`,
          { dtype: "f32" as const, shape: [2, 2], data: new Float32Array(4) },
        ]),
      ),
    );
    const run = act("run", { prompt: "a cat", model, lora: other, count: 1, steps: 1 });
    await expect(run).rejects.toThrow(/down_blocks\.7.*belongs to no layer/);
  });
});

describe("bad input", () => {
  it.each([
    [{}, /expected pairs from one of --pairs, --winners with --losers, or --prompts; got none/],
    [{ pairs: "p.csv", winners: "w", losers: "l" }, /got --pairs and --winners/],
    [{ winners: "w" }, /--winners needs --losers/],
  ])("is refused before anything is trained: %j", async (given, reason) => {
    await expect(act("train", { ...given, model, out: join(folder, "bad") })).rejects.toThrow(reason);
  });

  it("of a scorer names what is expected", async () => {
    await expect(scorerNamed("taste")).rejects.toThrow(/expected colours, captions, or the file of a module/);
    const module = join(folder, "judge.mjs");
    writeFileSync(
      module,
      "export default (picture, prompt) => prompt === 'a cat' ? picture.width : Number.NaN;\n",
    );
    const judge = await scorerNamed(module);
    const picture = { values: new Float32Array(3), width: 1, height: 1 };
    expect(await judge.score([picture], ["a cat"])).toEqual([1]);
    await expect(judge.score([picture], ["a dog"])).rejects.toThrow(/the score of picture 0 is NaN/);
    writeFileSync(join(folder, "none.mjs"), "export const x = 1;\n");
    await expect(scorerNamed(join(folder, "none.mjs"))).rejects.toThrow(/as default export/);
  });
});

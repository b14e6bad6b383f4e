import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { blankRng, createRng, Linear } from "../../src/nn/index.ts";
import { modelFile, readWeights } from "../../src/training/index.ts";
import { temporaryFolder } from "../study/folder.ts";

const file = modelFile<Linear, { command: string }>({
  format: "tweedie.line",
  name: "line",
  describe: (model) => ({ config: JSON.stringify(model.weight.shape) }),
  blank(field) {
    const [o, i] = JSON.parse(field("config") ?? "") as [number, number];
    return new Linear(i, o, blankRng);
  },
});
const model = new Linear(3, 2, createRng(1));
const values = async ({ weight }: Linear): Promise<number[]> => (await weight.toArray()) as number[];

describe("a model's file", () => {
  it("gives the model and its notes back, in half precision by default and exactly in full", async () => {
    const path = join(await temporaryFolder(), "a.safetensors");
    await file.save(path, model, { command: "tweedie train" });
    const loaded = await file.load(path);
    expect(loaded.notes).toEqual({ command: "tweedie train" });
    const [before, after] = [await values(model), await values(loaded.model)];
    for (const [i, v] of before.entries()) expect(after[i]).toBeCloseTo(v, 3);
    expect(after).not.toEqual(before);
    await file.cell.save(path, model);
    expect(await values(await file.cell.load(path))).toEqual(before);
    expect(file.matches((await readWeights(path)).metadata)).toBe(true);
  });

  it("is refused when it is another kind's, or damaged", async () => {
    const path = join(await temporaryFolder(), "a.safetensors");
    const other = modelFile<Linear>({
      format: "x",
      name: "x",
      describe: () => ({ config: "oops" }),
      blank: () => model,
    });
    await other.save(path, model, {});
    await expect(file.load(path)).rejects.toThrow(/is no line checkpoint \(format "x"\)/);
    const broken = modelFile<Linear>({
      format: "tweedie.line",
      name: "line",
      describe: () => ({ config: "oops" }),
      blank: () => model,
    });
    await broken.save(path, model, {});
    await expect(file.load(path)).rejects.toThrow(/configuration in its metadata is damaged/);
    await file.save(path, model, { command: "" });
    await writeFile(path, (await readFile(path)).subarray(0, -4));
    await expect(file.load(path)).rejects.toThrow(FormatError);
  });
});

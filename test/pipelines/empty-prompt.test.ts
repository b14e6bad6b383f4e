/** What stands for a negative prompt of SDXL that is not given: zeros, unless the pipeline's folder says otherwise. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodePrompts } from "../../src/pipelines/encode-prompt.ts";
import { loadPipelineComponents, savePipeline } from "../../src/pipelines/index.ts";
import { writeTinySdxl } from "./tiny-pipelines.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-empty-prompt-"));
  await writeTinySdxl(join(folder, "xl"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("force_zeros_for_empty_prompt is obeyed, kept when saved, and says nothing of a prompt that is given", async () => {
  const index = join(folder, "xl", "model_index.json");
  const config = JSON.parse(await readFile(index, "utf8"));
  const largest = async (path: string, negative?: string): Promise<number> => {
    const components = await loadPipelineComponents(path);
    const { negative: away } = await encodePrompts(components, "a cat", negative);
    return Math.max(...(await away.context.toArray()).map(Math.abs));
  };
  for (const [force, zeros] of [
    [true, true],
    [false, false],
    [undefined, true],
  ] as const) {
    await writeFile(index, JSON.stringify({ ...config, force_zeros_for_empty_prompt: force }));
    expect((await largest(join(folder, "xl"))) === 0).toBe(zeros);
    expect(await largest(join(folder, "xl"), "")).toBeGreaterThan(0);
    const saved = join(folder, `saved-${force}`);
    await savePipeline(saved, await loadPipelineComponents(join(folder, "xl")));
    expect((await largest(saved)) === 0).toBe(zeros);
  }
});

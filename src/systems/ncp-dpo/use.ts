/** Pictures of a pipeline with and without a LoRA, of the same seeds: the door for `run`, and for libraries. */

import { tensorToPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import {
  compilePipeline,
  loadPipelineComponents,
  type PipelineComponents,
  planPictures,
  withLoras,
} from "../../pipelines/index.ts";
import type { Work } from "../../work.ts";
import { modelPath, shippedFile } from "../shipped.ts";
import { BASE, CHECKPOINTS } from "./options.ts";

/** A pipeline by its path; by default the base that ships. @throws ArgumentError, FormatError as loading does */
export const openBase = async (path: string | undefined, signal?: AbortSignal): Promise<PipelineComponents> =>
  loadPipelineComponents(path ?? (await shippedFile(BASE)), { ...(signal && { signal }) });

/** The pipeline with a LoRA folded in, by the name of one that ships or its file. @throws FormatError naming keys that do not fit */
export const aligned = async (
  components: PipelineComponents,
  lora: string,
  scale = 1,
): Promise<PipelineComponents> =>
  withLoras(components, [{ path: await modelPath("NCP-DPO", CHECKPOINTS, lora), weight: scale }]);

/** How pictures are drawn. */
export interface DrawOptions {
  readonly steps?: number | undefined;
  readonly guidance?: number | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A picture for each prompt and each seed: those of a prompt one after the other. */
export async function* drawn(
  components: PipelineComponents,
  prompts: readonly string[],
  seeds: readonly number[],
  { steps, guidance, threads, signal }: DrawOptions,
  stage = "pictures",
): Work<Picture[]> {
  if (prompts.length === 0 || seeds.length === 0) throw new ArgumentError("drawing: no prompts, or no seeds");
  const pipeline = compilePipeline(components, threads === undefined ? {} : { threads });
  const pictures: Picture[] = [];
  try {
    for (const [i, prompt] of prompts.entries()) {
      const batch = Math.min(seeds.length, 8);
      const plan = planPictures(components, { prompt, seeds, batch, steps, guidance, rng: "philox" });
      let done = 0;
      for await (const event of pipeline.generate(plan, { ...(signal && { signal }) })) {
        if (event.type === "warning") yield { type: "warning", text: event.message };
        if (event.type === "picture") pictures.push((await tensorToPictures(event.image))[0]!);
        if (event.type === "step")
          yield {
            ...{ type: "progress", stage, note: prompt },
            ...{ done: i * plan.totalSteps + ++done, total: prompts.length * plan.totalSteps },
          };
      }
    }
  } finally {
    await pipeline.close();
  }
  return pictures;
}

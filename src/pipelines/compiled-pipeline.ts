/** A pipeline that stays compiled, for programs that make pictures again and again. */
import { ArgumentError } from "../errors.ts";
import type { JitOptions } from "../tensor/index.ts";
import { CompiledFunctions } from "./compiled-functions.ts";
import type { PipelineComponents } from "./components.ts";
import { type GeneratePicturesOptions, type PictureEvent, picturesWith } from "./generate.ts";
import type { PicturePlan } from "./plan.ts";

/** A pipeline whose networks stay compiled until it is closed. */
export interface CompiledPipeline {
  /**
   * What `generatePictures` does, with networks that stay compiled. Any number of plans at once.
   *
   * @throws ArgumentError for a plan of other components
   */
  generate(plan: PicturePlan, options?: GeneratePicturesOptions): AsyncGenerator<PictureEvent>;
  /** Frees all sessions, when pictures that are under way need them no longer; the pipeline can be used again. */
  close(): Promise<void>;
}

/**
 * Keeps the networks of a pipeline compiled from one picture to the next, until it is closed: each size, batch and kind of
 * condition once. `maxSignatures` (default 8 for each network) bounds what is kept.
 */
export function compilePipeline(
  components: PipelineComponents,
  options: Pick<JitOptions, "maxSignatures" | "threads" | "device"> = {},
): CompiledPipeline {
  const functions = new CompiledFunctions(options);
  return {
    generate(plan, how) {
      if (plan.components !== components)
        throw new ArgumentError(
          `compilePipeline: this pipeline is ${components.path}, the plan is for other components (${plan.components.path})`,
        );
      return picturesWith(functions, plan, how);
    },
    close: () => functions.close(),
  };
}

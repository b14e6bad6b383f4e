/** Text to picture from nothing, and what adapts such a model. */
export * from "./adapt.ts";
export * from "./caption-ids.ts";
export * from "./captioned-set.ts";
export * from "./controlnet.ts";
export * from "./draw-prompts.ts";
export * from "./lora.ts";
export * from "./new-pipeline.ts";
export * from "./shapes.ts";
export * from "./train.ts";

/** Pipelines: models from files, text to image and its relatives. */
export * from "./components.ts";
export { type ConvertOptions, convertToFolder, convertToSingleFile } from "./convert.ts";
export * from "./encode-prompt.ts";
export * from "./generate.ts";
export { cachedModels, type HubOptions, hubCacheFolder, parseHubId, resolveModelPath } from "./hub.ts";
export {
  type LoadOptions,
  loadModel,
  loadPipelineComponents,
} from "./load.ts";
export type { ReadOptions } from "./load-weights.ts";
export * from "./network.ts";
export type { Family } from "./original-configs.ts";
export * from "./plan.ts";
export * from "./samplers.ts";
export { type SaveOptions, saveModel, savePipeline } from "./save.ts";
export { readTokenizer } from "./tokenizer-files.ts";

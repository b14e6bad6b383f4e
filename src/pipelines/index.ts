/** Pipelines: models from files, text to image and its relatives. */

export { type LoraFile, withLoras } from "./adapters.ts";
export { type CheckOptions, type CheckReport, checkModel, type Finding } from "./check-model.ts";
export { CompiledFunctions } from "./compiled-functions.ts";
export * from "./compiled-network.ts";
export * from "./compiled-pipeline.ts";
export * from "./components.ts";
export {
  type ConvertOptions,
  convertToFolder,
  convertToOriginalFile,
  convertToSingleFile,
} from "./convert.ts";
export type { GuidedClass } from "./detect.ts";
export * from "./encode-prompt.ts";
export { type ExportedModel, type ExportModelOptions, exportModel } from "./export-model.ts";
export { type GeneratePicturesOptions, generatePictures, type PictureEvent } from "./generate.ts";
export {
  type CachedModel,
  cachedModels,
  type HubId,
  type HubOptions,
  hubCacheFolder,
  parseHubId,
  resolveModelPath,
} from "./hub.ts";
export { type ComponentReport, inspectModel, type ModelReport, type WeightSummary } from "./inspect.ts";
export type { Change, KeyRule, Layout } from "./key-maps/engine.ts";
export { localAdapterRules, type UNetStructure } from "./key-maps/stable-diffusion.ts";
export { type LatentCodec, latentCodec } from "./latent-codec.ts";
export { type LoadOptions, loadModel, loadPipelineComponents, type OpenOptions } from "./load.ts";
export type { ReadOptions } from "./load-weights.ts";
export { GUIDED_PRESETS } from "./original/guided.ts";
export type { Family } from "./original-configs.ts";
export * from "./plan.ts";
export { type SaveOptions, saveModel, savePipeline, writeFolderAtomic } from "./save.ts";
export * from "./swap-scheduler.ts";
export { readTokenizer } from "./tokenizer-files.ts";
export {
  openWeights,
  type RenamedSource,
  type RenameOptions,
  renamed,
  selected,
  type WeightEntry,
  type WeightSource,
} from "./weights.ts";

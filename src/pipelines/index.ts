/** Pipelines: models from files, text to image and its relatives. */
export * from "./components.ts";

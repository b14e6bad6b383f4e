/** Files: safetensors, sharded checkpoints, crash-safe run directories, pictures. */
export * from "./animation.ts";
export * from "./atomic.ts";
export * from "./generation-parameters.ts";
export { hashFile, hashInto } from "./hashes.ts";
export * from "./picture-codec.ts";
export * from "./pictures.ts";
export * from "./png.ts";
export * from "./png-metadata.ts";
export * from "./run-directory.ts";
export * from "./safetensors.ts";
export * from "./safetensors-file.ts";
export * from "./sharded.ts";

/** The files of a training run, where there are files: `#run-files`. */
export { openRunDirectory } from "../io/run-directory.ts";
export { readSafetensors } from "../io/safetensors-file.ts";

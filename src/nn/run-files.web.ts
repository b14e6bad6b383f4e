/** In browsers there are no files: `#run-files` there, so that bundlers find nothing of Node. */
import { DeviceError } from "../errors.ts";

const refuse = (): never => {
  throw new DeviceError("train: there are no files here to keep checkpoints in: leave `directory` out");
};

export const openRunDirectory = refuse;
export const readSafetensors = refuse;

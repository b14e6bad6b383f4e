/** Options of `tweedie doctor`. */
import type { Options } from "../options.ts";

export const DOCTOR_OPTIONS = {
  device: {
    type: "string",
    valueHint: "NAME",
    values: ["cpu", "webgpu", "cuda", "tensorrt", "coreml", "dml"],
    description: "only the self-test, on this device (default: everything, on the default device)",
  },
  json: { type: "boolean", description: "prints one line of JSON per finding" },
} as const satisfies Options;

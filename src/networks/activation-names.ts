/** Activations by the names that diffusers gives them. */
import { type Fields, keyOf } from "../io/fields.ts";
import type { Activation } from "../nn/index.ts";

const ACTIVATION_NAMES = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  relu: "relu",
  mish: "mish",
} as const satisfies Record<string, Activation>;

/** The activation that a field names. */
export function activationOf(config: Fields, key: string, fallback: Activation): Activation {
  const name = config.optional(key, keyOf(ACTIVATION_NAMES));
  return name === undefined ? fallback : ACTIVATION_NAMES[name];
}

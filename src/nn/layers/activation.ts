/** Activations by name: names, unlike functions, can be written into a configuration and compared. */
import { gelu, quickGelu, relu, sigmoid, silu, softplus, type Tensor, tanh } from "../../tensor/index.ts";

/** `gelu` is exact (erf), `geluTanh` its usual approximation, `quickGelu` that of CLIP. */
export const ACTIVATIONS = {
  identity: (x: Tensor): Tensor => x,
  relu,
  silu,
  gelu: (x: Tensor): Tensor => gelu(x),
  geluTanh: (x: Tensor): Tensor => gelu(x, "tanh"),
  quickGelu,
  mish: (x: Tensor): Tensor => x.mul(tanh(softplus(x))),
  sigmoid,
  tanh,
} as const satisfies Record<string, (x: Tensor) => Tensor>;

/** Name of an activation. */
export type Activation = keyof typeof ACTIVATIONS;

/** The named activation of a tensor. */
export const activate = (name: Activation, x: Tensor): Tensor => ACTIVATIONS[name](x);

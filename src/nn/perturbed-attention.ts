/** The perturbed network of perturbed-attention guidance (Ahn et al. 2024, section 4.2). */
import { ArgumentError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";
import { MultiHeadAttention } from "./layers/index.ts";
import { mapModules } from "./module.ts";

/** Self attention whose map is the identity: every token keeps its own value. Keys are those of the attention it stands for. */
export class IdentityAttention extends MultiHeadAttention {
  override call(x: Tensor, { context = x }: { context?: Tensor; mask?: Tensor } = {}): Tensor {
    if (context !== x)
      throw new ArgumentError("IdentityAttention: only self attention can keep each token's own value");
    return this.toOut[0].call(this.toV.call(x));
  }
}

/**
 * The same network with the matching self-attentions replaced, by key: /^mid_block.*attn1$/ is usual for U-Nets with
 * text. It shares all tensors with the original. Throws `ArgumentError` when nothing matches.
 */
export function perturbAttention<T extends object>(module: T, match: RegExp): T {
  let count = 0;
  const perturbed = mapModules(module, (layer, key) => {
    if (!(layer instanceof MultiHeadAttention) || key.search(match) < 0) return layer;
    count++;
    return Object.assign(Object.create(IdentityAttention.prototype), layer);
  });
  if (count === 0) throw new ArgumentError(`perturbAttention: no attention's key matches ${match}`);
  return perturbed;
}

/** The transformer's block: modulated by a condition (adaLN-Zero), or with the condition as a token of its own. */
import {
  gated,
  LayerNorm,
  Linear,
  MLP,
  Module,
  MultiHeadAttention,
  modulate,
  type Rng,
} from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { UMDConfig } from "./config.ts";

const EPS = 1e-6;

/** The norm of this model: learned scale and shift, under adaLN too. */
export const norm = (dim: number): LayerNorm => new LayerNorm(dim, { eps: EPS });

/** Attention and perceptron behind their norms. */
export class UMDBlock extends Module {
  readonly norm1: LayerNorm;
  readonly attn: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly mlp: MLP;
  /** Shifts, scales and gates from the condition; absent: the condition is a token. */
  readonly modulation: Linear | undefined;

  constructor({ dim, heads, conditioning, activation }: UMDConfig, rng: Rng) {
    super();
    this.norm1 = norm(dim);
    this.attn = new MultiHeadAttention(dim, rng, { heads, bias: true });
    this.norm2 = norm(dim);
    this.mlp = new MLP([dim, 4 * dim, dim], rng, { activation });
    this.modulation = conditioning === "adaLN" ? new Linear(dim, 6 * dim, rng) : undefined;
  }

  /** x [N, T, D] and condition [N, D] give [N, T, D]. */
  call(x: Tensor, condition: Tensor): Tensor {
    if (!this.modulation) return this.plain(condition.unsqueeze(1).concat(x, 1)).sliceAxis(1, 1);
    const [shift1, scale1, gate1, shift2, scale2, gate2] = this.modulation.call(condition).split(6, 1) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const attended = x.add(gated(this.attn.call(modulate(this.norm1.call(x), shift1, scale1)), gate1));
    return attended.add(gated(this.mlp.call(modulate(this.norm2.call(attended), shift2, scale2)), gate2));
  }

  /** The block of a vision transformer. */
  private plain(x: Tensor): Tensor {
    const attended = x.add(this.attn.call(this.norm1.call(x)));
    return attended.add(this.mlp.call(this.norm2.call(attended)));
  }
}

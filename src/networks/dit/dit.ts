/** The diffusion transformer (Peebles and Xie 2022), conditioned on a class. Keys are those of diffusers. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { blankRng, LayerNorm, Linear, Module, modulate, type Rng } from "../../nn/index.ts";
import { silu, type Tensor, zeros } from "../../tensor/index.ts";
import { unpatchify } from "../patches.ts";
import { initTransformer, xavierMatrix } from "../vit/layers.ts";
import { type DiTConfig, ditConfig } from "./config.ts";
import { DiTBlock, DiTPatchEmbed, TimestepLabelEmbedding } from "./layers.ts";

/** Reference class `DiTTransformer2DModel`, formerly `Transformer2DModel` with `norm_type` "ada_norm_zero". */
export class DiTTransformer2DModel extends Module {
  static override readonly keyNames = { projOut1: "proj_out_1", projOut2: "proj_out_2" };
  readonly posEmbed: DiTPatchEmbed;
  readonly transformerBlocks: readonly DiTBlock[];
  readonly normOut: LayerNorm;
  readonly projOut1: Linear;
  readonly projOut2: Linear;
  readonly config: DiTConfig;

  constructor(config: DiTConfig, rng: Rng) {
    super();
    const dim = config.heads * config.headDim;
    this.config = config;
    this.posEmbed = new DiTPatchEmbed(config, rng);
    this.transformerBlocks = Array.from({ length: config.layers }, (_, i) => {
      const own = i === 0 || !config.sharedEmbedding;
      return new DiTBlock(config, i, own ? new TimestepLabelEmbedding(dim, config, rng) : undefined, rng);
    });
    this.normOut = new LayerNorm(dim, { eps: 1e-6, affine: false });
    this.projOut1 = new Linear(dim, 2 * dim, rng);
    this.projOut2 = new Linear(dim, config.patchSize ** 2 * config.outChannels, rng);
  }

  /** The label that stands for no class. Throws `ArgumentError` for a model without one. */
  get nullClass(): number {
    if (!this.config.nullClass) throw new ArgumentError("DiT: this model has no null class");
    return this.config.classes;
  }

  /**
   * x [N, C, H, W] at timesteps [N] (or one for all) with integer labels [N] gives [N, outChannels, H, W]. With a key
   * (see `makeKey`) the dropout of the configuration is applied.
   */
  call(x: Tensor, timestep: Tensor, labels: Tensor, key?: Tensor): Tensor {
    const samples = x.shape[0]!;
    if (labels.rank !== 1 || labels.shape[0] !== samples)
      throw new ShapeError(`DiT: expected labels [${samples}] for ${x}, got ${labels}`);
    const t = timestep.size === 1 ? timestep.reshape([1]).broadcastTo([samples]) : timestep;
    const tokens = this.posEmbed.call(x); // [N, T, D]
    const first = this.transformerBlocks[0]!.norm1.emb!.call(t, labels); // [N, D]
    const hidden = this.transformerBlocks.reduce((h, block, i) => {
      const condition = i === 0 ? first : (block.norm1.emb?.call(t, labels) ?? first);
      return block.call(h, condition, key);
    }, tokens);
    const [shift, scale] = this.projOut1.call(silu(first)).split(2, 1) as [Tensor, Tensor];
    const out = this.projOut2.call(modulate(this.normOut.call(hidden), shift, scale));
    const { patchSize } = this.config;
    return unpatchify(out, patchSize, x.shape[2]! / patchSize, x.shape[3]! / patchSize);
  }
}

/** A `DiTTransformer2DModel` from its `config.json`. Throws `FormatError` naming a key whose value cannot be. */
export const ditTransformer2D = (config: unknown, rng: Rng): DiTTransformer2DModel =>
  new DiTTransformer2DModel(ditConfig(config), rng);

/**
 * A model to train from scratch, initialised as by its authors: Xavier for matrices, normal with 0.02 for embeddings,
 * and zero wherever the condition enters and the output leaves (adaLN-Zero), so that every block starts as the
 * identity.
 */
export function initDiT(config: DiTConfig, rng: Rng): DiTTransformer2DModel {
  const blank = new DiTTransformer2DModel(config, blankRng);
  return initTransformer(blank, xavierMatrix(rng), (key, shape) => {
    if (/(^proj_out_\d|\.norm1\.linear)\./.test(key)) return zeros(shape);
    if (/_embedder\.\w+\.weight$/.test(key)) return rng.normal(shape, 0.02);
    return undefined;
  });
}

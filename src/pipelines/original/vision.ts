/** Vision transformers (timm) and masked autoencoders (He et al. 2022) in files with their authors' names. */
import type { Config } from "../components.ts";
import { selected, type WeightSource } from "../weights.ts";
import type { OriginalNetwork } from "./original-network.ts";
import { countOf, gridOf, HEADS, headsOf, shapeOf } from "./shapes.ts";

/** The part of a source below a prefix, which its names lose. */
const partOf = (source: WeightSource, head: string): WeightSource =>
  selected(source, (name) => (name.startsWith(head) ? name.slice(head.length) : undefined));

/** What both have in common, from shapes. */
function trunkOf(source: WeightSource, given: Config): Config {
  const [dim, channels, patch] = shapeOf(source, "patch_embed.proj.weight", 4) as [number, number, number];
  const [, tokens] = shapeOf(source, "pos_embed", 3) as [number, number];
  const [inner] = shapeOf(source, "blocks.0.mlp.fc1.weight", 2) as [number];
  return {
    img_size: patch * gridOf(source, "pos_embed", tokens - 1), // the first is the class token's
    patch_size: patch,
    in_chans: channels,
    embed_dim: dim,
    depth: countOf(source, /^blocks\.(\d+)\./),
    num_heads: headsOf(source, dim, "num_heads", given, HEADS.vit),
    mlp_ratio: inner / dim,
  };
}

/** Opens a vision transformer, with or without a classifier; the encoder of a masked autoencoder is one. */
export function openVit(source: WeightSource, prefix: string, given: Config = {}): OriginalNetwork {
  const weights = partOf(source, prefix && `${prefix}.`);
  const classes = weights.entries.get("head.weight")?.shape[0] ?? 0;
  const config = {
    _class_name: "VisionTransformer",
    ...trunkOf(weights, given),
    num_classes: classes,
    global_pool: weights.entries.has("fc_norm.weight") ? "avg" : "token",
    ...given,
  };
  return { className: "VisionTransformer", config, weights, unknown: [] };
}

/** Opens a masked autoencoder with its decoder. */
export function openMae(source: WeightSource, prefix: string, given: Config = {}): OriginalNetwork {
  const weights = partOf(source, prefix && `${prefix}.`);
  const [width] = shapeOf(weights, "decoder_embed.weight", 2) as [number];
  const config = {
    _class_name: "MaskedAutoencoder",
    ...trunkOf(weights, given),
    decoder_embed_dim: width,
    decoder_depth: countOf(weights, /^decoder_blocks\.(\d+)\./),
    decoder_num_heads: headsOf(source, width, "decoder_num_heads", given, HEADS.maeDecoder),
    ...given,
  };
  return { className: "MaskedAutoencoder", config, weights, unknown: [] };
}

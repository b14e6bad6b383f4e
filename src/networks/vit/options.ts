/** Vision transformers and masked autoencoders from configurations with the argument names of their authors' code. */

import { COUNT, Fields, FLAG, oneOf, POSITIVE } from "../../io/fields.ts";
import type { Rng } from "../../nn/index.ts";
import { type MAEConfig, MaskedAutoencoder } from "../mae.ts";
import type { ViTConfig } from "./layers.ts";
import { VisionTransformer } from "./vit.ts";

function trunkOf(config: Fields): ViTConfig {
  return {
    imageSize: config.value("img_size", COUNT, 224),
    patchSize: config.value("patch_size", COUNT, 16),
    inChannels: config.value("in_chans", COUNT, 3),
    dim: config.value("embed_dim", COUNT),
    depth: config.value("depth", COUNT),
    heads: config.value("num_heads", COUNT),
    mlpRatio: config.value("mlp_ratio", POSITIVE, 4),
    eps: config.value("norm_eps", POSITIVE, 1e-6),
  };
}

/**
 * A `VisionTransformer` from timm's arguments: `img_size`, `patch_size`, `in_chans`, `embed_dim`, `depth`, `num_heads`,
 * `mlp_ratio`, `num_classes` (0 or absent: no classifier), `global_pool` ("token" or "avg"). Throws `FormatError`
 * naming a key whose value cannot be.
 */
export function visionTransformer(values: unknown, rng: Rng): VisionTransformer {
  const config = new Fields("VisionTransformer", values);
  const classes = config.raw("num_classes") === 0 ? undefined : config.optional("num_classes", COUNT);
  const pool = config.value("global_pool", oneOf("token", "avg"), "token");
  const pooling = pool === "avg" ? "average" : "token";
  return new VisionTransformer(trunkOf(config), rng, { classes, pooling });
}

/**
 * A `MaskedAutoencoder` from its authors' arguments: those of the trunk (see `visionTransformer`), `decoder_embed_dim`,
 * `decoder_depth`, `decoder_num_heads`, `norm_pix_loss`. Throws `FormatError` naming a key whose value cannot be.
 */
export function maskedAutoencoder(values: unknown, rng: Rng): MaskedAutoencoder {
  const config = new Fields("MaskedAutoencoder", values);
  const sizes: MAEConfig = {
    ...trunkOf(config),
    decoderDim: config.value("decoder_embed_dim", COUNT, 512),
    decoderDepth: config.value("decoder_depth", COUNT, 8),
    decoderHeads: config.value("decoder_num_heads", COUNT, 16),
    normPixLoss: config.value("norm_pix_loss", FLAG, false),
  };
  return new MaskedAutoencoder(sizes, rng);
}

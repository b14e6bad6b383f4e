/** The networks of diffusion models, with their official key layouts. */

export * from "./any-control/index.ts";
// Parts of networks, and their checked configurations: types of fields.
export type { CoderConfig, Decoder, Encoder } from "./autoencoder/coder.ts";
export * from "./autoencoder/taesd-weights.ts";
export * from "./autoencoder/tiles.ts";
export * from "./autoencoder-kl.ts";
export * from "./autoencoder-tiny.ts";
export * from "./blocks/index.ts";
export * from "./clip/config.ts";
export * from "./clip/learn-tokenizer.ts";
export * from "./clip/long-prompts.ts";
export * from "./clip/prompt-weights.ts";
export { fixText } from "./clip/text-fix.ts";
export * from "./clip-text.ts";
export * from "./clip-tokenizer.ts";
export * from "./dit/config.ts";
export * from "./dit/dit.ts";
export type { DiTBlock, DiTPatchEmbed } from "./dit/layers.ts";
export { diffusersFromMeta, isMetaDiT, metaFromDiffusers } from "./dit/meta-keys.ts";
export type { LayerSequence, OutputLayers, QkvOrder, TimeEmbed } from "./guided-diffusion/blocks.ts";
export type { AttentionHead, MeanHead, SpatialHead } from "./guided-diffusion/classifier.ts";
export * from "./guided-diffusion/unet.ts";
export * from "./lora/index.ts";
export * from "./mae.ts";
export * from "./patches.ts";
export * from "./perceptual.ts";
export * from "./restoration/index.ts";
export * from "./space-to-depth.ts";
export type { ClassEmbedding, EncoderConfig, UNetConfig } from "./unet/config.ts";
export * from "./unet/controlnet.ts";
export type { AddedConditions, UNetConditions } from "./unet/encoder.ts";
export * from "./unet/options.ts";
export * from "./unet/unet-2d.ts";
export * from "./unet/unet-2d-condition.ts";
export * from "./vit/layers.ts";
export * from "./vit/options.ts";
export * from "./vit/vit.ts";

/** Autoencoders of latent diffusion in files of their own, with CompVis' names. */
import type { Config } from "../components.ts";
import type { WeightSource } from "../weights.ts";
import { countOf, shapeOf } from "./shapes.ts";

/** Sizes of an autoencoder, from its shapes; scale and groups of norms are those of `usual`. */
export function vaeConfigOf(source: WeightSource, prefix: string, usual: Config): Config {
  const head = prefix && `${prefix}.`;
  const at = (path: string): RegExp => new RegExp(`^${head.replaceAll(".", "\\.")}${path}`);
  const levels = countOf(source, at("encoder\\.down\\.(\\d+)\\."));
  const firstOf = (name: string, axis: number): number => shapeOf(source, `${head}${name}`, 4)[axis]!;
  const types = (half: "encoder.down" | "decoder.up", plain: string, attending: string): string[] =>
    Array.from({ length: levels }, (_, i) =>
      source.entries.has(`${head}${half}.${i}.attn.0.q.weight`) ? attending : plain,
    );
  return {
    ...usual,
    in_channels: firstOf("encoder.conv_in.weight", 1),
    out_channels: firstOf("decoder.conv_out.weight", 0),
    latent_channels: firstOf("decoder.conv_in.weight", 1),
    block_out_channels: Array.from({ length: levels }, (_, i) =>
      firstOf(`encoder.down.${i}.block.0.conv1.weight`, 0),
    ),
    layers_per_block: countOf(source, at("encoder\\.down\\.0\\.block\\.(\\d+)\\.")),
    down_block_types: types("encoder.down", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    // The decoder counts its levels from the image there, from the latents here.
    up_block_types: types("decoder.up", "UpDecoderBlock2D", "AttnUpDecoderBlock2D").reverse(),
    use_quant_conv: source.entries.has(`${head}quant_conv.weight`),
    use_post_quant_conv: source.entries.has(`${head}post_quant_conv.weight`),
  };
}

/** The files of TAESD's authors: an encoder and a decoder, each a numbered list of layers. */
import { FormatError } from "../../errors.ts";

/** Shapes by name, as a checkpoint's header has them. */
type Shapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/**
 * The name in `AutoencoderTiny` of a tensor of the original files. The decoder's first layer there, a clamp without
 * parameters, has an index of its own.
 */
export function taesdKey(half: "encoder" | "decoder", name: string): string {
  const [, index, rest] = /^(\d+)\.(.+)$/.exec(name) ?? [];
  const shifted = Number(index) - (half === "decoder" ? 1 : 0);
  if (rest === undefined || shifted < 0)
    throw new FormatError(`TAESD ${half}: expected names such as "3.conv.0.weight", got "${name}"`);
  return `${half}.layers.${shifted}.${rest}`;
}

/** Weights under the names of `AutoencoderTiny`, from those of one or both of the original files. */
export function taesdWeights<T>(files: {
  readonly encoder?: ReadonlyMap<string, T>;
  readonly decoder?: ReadonlyMap<string, T>;
}): Map<string, T> {
  const renamed = (half: "encoder" | "decoder"): [string, T][] =>
    [...(files[half] ?? [])].map(([name, weight]) => [taesdKey(half, name), weight]);
  return new Map([...renamed("encoder"), ...renamed("decoder")]);
}

/** The configuration that the original files imply, told by names and shapes of the decoder (or encoder) alone. */
export function taesdConfig(weights: Shapes): Record<string, unknown> {
  const first = weights.get("decoder.layers.0.weight");
  const pooled = [...weights.keys()].some((name) => name.includes(".pool."));
  if (first?.shape.length !== 4)
    throw new FormatError(
      `TAESD: expected "decoder.layers.0.weight" with 4 axes, got ${first ? `[${first.shape.join(", ")}]` : "none"}`,
    );
  const [channels, latentChannels] = first.shape as [number, number];
  const levels = [channels, channels, channels, channels];
  return {
    latent_channels: latentChannels,
    encoder_block_out_channels: levels,
    decoder_block_out_channels: levels,
    use_midblock_gn: pooled,
  };
}

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

const shapeText = (shape: readonly number[] | undefined): string =>
  shape ? `[${shape.join(", ")}]` : "none";

/** Channels inside and of the latents, by the decoder's first layer or else the encoder's last. */
function channelsOf(weights: Shapes): [inner: number, latent: number] {
  const first = weights.get("decoder.layers.0.weight")?.shape;
  if (first?.length === 4) return [first[0]!, first[1]!];
  const layers = [...weights.keys()].map((name) =>
    Number(/^encoder\.layers\.(\d+)\.weight$/.exec(name)?.[1] ?? -1),
  );
  const last = weights.get(`encoder.layers.${Math.max(...layers)}.weight`)?.shape;
  if (!first && last?.length === 4) return [last[1]!, last[0]!];
  throw new FormatError(
    `TAESD: expected "decoder.layers.0.weight" with 4 axes, or an encoder, got ${shapeText(first)}`,
  );
}

/**
 * The configuration that the original files imply, told by names and shapes alone. A half that is missing is left out
 * (`halves`). Throws `FormatError` when there is neither.
 */
export function taesdConfig(weights: Shapes): Record<string, unknown> {
  const names = [...weights.keys()];
  const [channels, latentChannels] = channelsOf(weights);
  const levels = [channels, channels, channels, channels];
  const missing = (half: string): boolean => !names.some((name) => name.startsWith(`${half}.`));
  return {
    latent_channels: latentChannels,
    encoder_block_out_channels: levels,
    decoder_block_out_channels: levels,
    use_midblock_gn: names.some((name) => name.includes(".pool.")),
    ...(missing("encoder") && { halves: "decoder" }),
    ...(missing("decoder") && { halves: "encoder" }),
  };
}

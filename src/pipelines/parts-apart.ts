/** Networks of a pipeline that lie elsewhere: in place of its own, or because it brings none. */
import { dirname, join } from "#node";
import { ArgumentError } from "../errors.ts";
import type { Config } from "./components.ts";
import { readConfigIfThere } from "./model-files.ts";
import type { OpenNetwork, OpenPipeline } from "./open-pipeline.ts";
import { FAMILIES, type Family } from "./original-configs.ts";

/** Where parts of a pipeline are taken from that are not its own. */
export interface PartOptions {
  /** Autoencoder: a folder or a file, also of TAESD, or `hub:owner/name/folder`. */
  readonly vae?: string;
  /** Text encoders in the order of the pipeline's: folders, or files in the names of transformers. */
  readonly textEncoders?: readonly string[];
}

/** The paths by component. */
export function partsApart({ vae, textEncoders = [] }: PartOptions): ReadonlyMap<string, string> {
  const text = textEncoders.map((path, i) => [i === 0 ? "text_encoder" : `text_encoder_${i + 1}`, path]);
  return new Map([...(vae === undefined ? [] : [["vae", vae]]), ...text] as [string, string][]);
}

/** Opens one network by its path; what `openModel` is. */
export type OpenPart = (
  path: string,
  options: { readonly family?: Family; readonly config?: Config },
) => Promise<OpenNetwork>;

const count = (value: unknown, otherwise: number): number => (typeof value === "number" ? value : otherwise);

/** Channels of the latents that a pipeline's denoiser makes. */
function latentChannels({ networks }: OpenPipeline): number {
  const [unet, transformer] = [networks.get("unet"), networks.get("transformer")];
  return unet ? count(unet.config.out_channels, 4) : count(transformer?.config.in_channels, 4);
}

function checkVae(pipeline: OpenPipeline, { className, config }: OpenNetwork, path: string): void {
  if (!className.startsWith("Autoencoder"))
    throw new ArgumentError(`vae ${path}: expected an autoencoder, got a ${className}`);
  const [wanted, got] = [latentChannels(pipeline), count(config.latent_channels, 4)];
  if (wanted !== got)
    throw new ArgumentError(`vae ${path}: expected latents of ${wanted} channels for this model, got ${got}`);
}

const TEXT_ENCODERS = { sd: 1, sdxl: 2, dit: 0, unconditional: 0 } as const;

function checkTextEncoder({ className }: OpenNetwork, path: string): void {
  if (!className.startsWith("CLIPTextModel"))
    throw new ArgumentError(`text encoder ${path}: expected a text encoder, got a ${className}`);
}

/** The text that the denoiser attends to is as wide as that of all encoders together. */
function checkWidth({ networks, path }: OpenPipeline): void {
  const wanted = networks.get("unet")?.config.cross_attention_dim;
  const widths = [...networks]
    .filter(([name]) => name.startsWith("text_encoder"))
    .map(([, { config }]) => count(config.hidden_size, 0));
  const width = widths.reduce((a, b) => a + b, 0);
  if (typeof wanted === "number" && wanted !== width)
    throw new ArgumentError(
      `${path}: expected text of width ${wanted}, the text encoders have ${widths.join(" + ")}`,
    );
}

/** Configuration of a text encoder's file that has none beside it: its family's, told by the width of the text. */
async function textConfig(pipeline: OpenPipeline, name: string, path: string): Promise<Config | undefined> {
  const width = pipeline.networks.get("unet")?.config.cross_attention_dim;
  const family = Object.values(FAMILIES).find(({ unet }) => unet.cross_attention_dim === width);
  const beside = await readConfigIfThere(join(dirname(path), "config.json"));
  return beside ?? family?.textEncoders[name === "text_encoder" ? 0 : 1];
}

/**
 * A pipeline, which was opened without these parts, with them. @throws {ArgumentError} for networks of another kind, or that
 * do not fit its denoiser
 */
export async function withPartsApart(
  pipeline: OpenPipeline,
  apart: ReadonlyMap<string, string>,
  open: OpenPart,
): Promise<OpenPipeline> {
  const { kind, path: own } = pipeline;
  const texts = [...apart.keys()].filter((name) => name !== "vae").length;
  if (texts > TEXT_ENCODERS[kind])
    throw new ArgumentError(`${own}: this model has ${TEXT_ENCODERS[kind]} text encoders, got ${texts}`);
  const parts = new Map<string, OpenNetwork>();
  const close = async (): Promise<void> => {
    for (const { weights } of parts.values()) await weights.close();
  };
  try {
    for (const [name, path] of apart) {
      // A file in the original layout does not say the scale of its latents, which is that of the model's family.
      const family = kind === "sdxl" ? "sdxl" : undefined;
      const config = name === "vae" ? undefined : await textConfig(pipeline, name, path);
      const network = await open(path, { ...(family && { family }), ...(config && { config }) });
      parts.set(name, network);
      if (name === "vae") checkVae(pipeline, network, path);
      else checkTextEncoder(network, path);
    }
    const whole: OpenPipeline = {
      ...pipeline,
      networks: new Map([...pipeline.networks, ...parts]),
      close: async () => {
        await close();
        await pipeline.close();
      },
    };
    if (texts > 0) checkWidth(whole);
    return whole;
  } catch (error) {
    await close();
    throw error;
  }
}

/** Single files of one network, with the names of its authors' code: opened, and written back. */
import { ArgumentError } from "../../errors.ts";
import type { Config } from "../components.ts";
import type { FileKind } from "../detect.ts";
import { controlNetPlace, type Place, vaePlace } from "../key-maps/layouts.ts";
import { controlNetConfig, FAMILIES, type Family } from "../original-configs.ts";
import { renamed, type WeightSource } from "../weights.ts";
import { openDit, originalDit } from "./dit.ts";
import { openGuided } from "./guided.ts";
import type { OriginalNetwork } from "./original-network.ts";
import { openTaesd, originalTaesd } from "./taesd.ts";
import { vaeConfigOf } from "./vae.ts";
import { openMae, openVit } from "./vision.ts";

export interface OriginalOptions {
  readonly family?: Family;
  /** Configuration, or what of it the shapes do not tell. */
  readonly config?: Config;
  /** File of the other half of a tiny autoencoder. */
  readonly pair?: string;
}

/** Kinds of files that hold one network with its authors' names. */
export type OriginalKind = Exclude<FileKind, { kind: "checkpoint" | "diffusers" }>;

const CLASSES = {
  vae: "AutoencoderKL",
  controlnet: "ControlNetModel",
  dit: "DiTTransformer2DModel",
  vit: "VisionTransformer",
  mae: "MaskedAutoencoder",
  taesd: "AutoencoderTiny",
} as const;

/** Name of the class of a file's network. */
export const classOf = (kind: OriginalKind): string =>
  kind.kind === "guided" ? kind.className : CLASSES[kind.kind];

function placed(
  source: WeightSource,
  kind: OriginalKind & { prefix: string },
  config: Config,
  { rules }: Place,
): OriginalNetwork {
  const weights = renamed(source, { rules, to: "diffusers", from: kind.prefix });
  return { className: classOf(kind), config, weights, unknown: weights.unknown };
}

/** The network of a file. @throws {FormatError | ArgumentError} where its shapes are none, or do not tell enough */
export async function openOriginal(
  source: WeightSource,
  kind: OriginalKind,
  { family, config, pair }: OriginalOptions,
): Promise<OriginalNetwork> {
  switch (kind.kind) {
    case "vae": {
      const known = config ?? vaeConfigOf(source, kind.prefix, FAMILIES[family ?? "sd1"].vae);
      return placed(source, kind, known, vaePlace(known));
    }
    case "controlnet": {
      const known = config ?? controlNetConfig(FAMILIES[kind.family].unet);
      return placed(source, kind, known, controlNetPlace(known));
    }
    case "dit":
      return openDit(source, kind.prefix, config);
    case "vit":
      return openVit(source, kind.prefix, config);
    case "mae":
      return openMae(source, kind.prefix, config);
    case "guided":
      return openGuided(source, kind.className, config);
    case "taesd":
      return openTaesd(source, kind.half, { pair, config });
  }
}

/** Classes whose names are their authors' already. */
const SAME = /^(?:VisionTransformer|MaskedAutoencoder|GuidedDiffusion\w+)$/;

/**
 * The weights of a network under its authors' names, as a file of its own has them: an autoencoder without a prefix, a
 * ControlNet below `control_model`.
 *
 * @throws {ArgumentError} for a class without such files, or weights that have no place in them
 */
export async function originalWeights(
  source: WeightSource,
  className: string,
  config: Config,
): Promise<WeightSource> {
  if (SAME.test(className)) return source;
  switch (className) {
    case "AutoencoderKL":
      return fully(renamed(source, { rules: vaePlace(config).rules, to: "original" }), className);
    case "ControlNetModel": {
      const { rules, prefix } = controlNetPlace(config);
      return fully(renamed(source, { rules, to: "original", below: prefix }), className);
    }
    case "AutoencoderTiny":
      return originalTaesd(source);
    case "DiTTransformer2DModel":
    case "Transformer2DModel":
      return originalDit(source, config);
    default:
      throw new ArgumentError(
        `${source.path}: a ${className} alone has no original layout; AutoencoderKL, AutoencoderTiny, ControlNetModel, ` +
          "DiTTransformer2DModel and whole pipelines of Stable Diffusion have one",
      );
  }
}

function fully(source: ReturnType<typeof renamed>, className: string): WeightSource {
  if (source.unknown.length === 0) return source;
  throw new ArgumentError(
    `${source.path}: a ${className} with ${source.unknown.slice(0, 5).join(", ")} has no original layout`,
  );
}

/** Detects what a single file holds, by the names and shapes of its tensors; no value is read. */
import { FormatError } from "../errors.ts";
import type { Family } from "./original-configs.ts";
import type { WeightSource } from "./weights.ts";

/** Name of a network of guided-diffusion. */
export type GuidedClass = "GuidedDiffusionUNet" | "GuidedDiffusionClassifier";

/** What a weight file is. */
export type FileKind =
  /** A whole pipeline with CompVis' names, as A1111 and ComfyUI read it. */
  | { readonly kind: "checkpoint"; readonly family: Family; readonly inChannels: number }
  /** Its autoencoder alone, with or without `first_stage_model.`. */
  | { readonly kind: "vae"; readonly prefix: string }
  /** A ControlNet, with or without `control_model.`. */
  | { readonly kind: "controlnet"; readonly family: Family; readonly prefix: string }
  /** A diffusion transformer with its authors' names. */
  | { readonly kind: "dit"; readonly prefix: string }
  /** A vision transformer, or a masked autoencoder with its decoder. */
  | { readonly kind: "vit" | "mae"; readonly prefix: string }
  /** A network of guided-diffusion, which needs its configuration. */
  | { readonly kind: "guided"; readonly className: GuidedClass }
  /** A tiny autoencoder of its authors: a half, or with the names of halves before it both. */
  | { readonly kind: "taesd"; readonly half: "encoder" | "decoder" | "both" }
  /** A network of diffusers, which needs its `config.json`. */
  | { readonly kind: "diffusers"; readonly what: string };

export const UNET_PREFIX = "model.diffusion_model";
export const VAE_PREFIX = "first_stage_model";
export const CONTROL_PREFIX = "control_model";

/** Architectures that are recognised but not supported, by a piece of a name that only they have. */
const FOREIGN: readonly (readonly [piece: string, what: string])[] = [
  ["joint_blocks.0.x_block", "Stable Diffusion 3"],
  ["double_blocks.0.img_", "FLUX"],
  ["double_blocks.0.", "a double-stream transformer (FLUX, HunyuanVideo)"],
  ["caption_projection.", "PixArt"],
  ["effnet_mapper.", "Stable Cascade"],
  ["prior.", "a two-stage model (Stable Cascade, Kandinsky)"],
  ["transformer.layers.0.adaLN", "a multi-modal transformer"],
  ["temporal_transformer_blocks", "Stable Video Diffusion or AnimateDiff"],
  ["motion_modules.", "an AnimateDiff motion module"],
  ["ip_adapter.", "an IP-Adapter"],
  ["string_to_param", "a textual-inversion embedding"],
  ["emb_params", "a textual-inversion embedding"],
  ["clip_l", "a textual-inversion embedding of SDXL"],
];

const LORA = /\.lora_(?:up|down|A|B)\.|\.hada_w1|^lora_(?:unet|te)|\.lora\.(?:up|down)\./;

/** Names of diffusers, by a tensor that each of its networks has. */
const DIFFUSERS: readonly (readonly [name: string, what: string])[] = [
  ["controlnet_mid_block.weight", "a ControlNet"],
  ["encoder.down_blocks.0.resnets.0.conv1.weight", "an AutoencoderKL"],
  ["encoder.layers.0.weight", "an AutoencoderTiny"],
  ["down_blocks.0.resnets.0.conv1.weight", "a U-Net"],
  ["pos_embed.proj.weight", "a transformer"],
  ["text_model.embeddings.token_embedding.weight", "a text encoder"],
  ["embeddings.token_embedding.weight", "a text encoder"],
];

const CONTEXT_KEY = /(?:^|\.)transformer_blocks\.0\.attn2\.to_k\.weight$/;
const FAMILY_BY_CONTEXT = new Map<number, Family>([
  [768, "sd1"],
  [1024, "sd2"],
  [2048, "sdxl"],
]);

/** Width of the text embeddings that a U-Net attends to. */
function contextWidth(source: WeightSource, prefix: string): number | undefined {
  for (const [name, { shape }] of source.entries)
    if (name.startsWith(prefix) && CONTEXT_KEY.test(name)) return shape[1];
  return undefined;
}

const shown = (source: WeightSource, count = 6): string =>
  [...source.entries]
    .slice(0, count)
    .map(([name, { shape }]) => `  ${name} [${shape.join(", ")}]`)
    .join("\n");

const SUPPORTED =
  "Known single files are Stable Diffusion 1.x, 2.x and XL base (also for inpainting), ControlNets of them, " +
  "their autoencoders, TAESD, DiT, ViT, MAE and guided-diffusion; networks of diffusers are loaded from their folder, with its config.json";

function fail(source: WeightSource, why: string): never {
  throw new FormatError(
    `${source.path}: ${why}. ${SUPPORTED}. Its ${source.entries.size} tensors begin with\n${shown(source)}`,
  );
}

/** Text encoders of whole checkpoints, by the beginning of their names. */
const TEXT_ENCODERS: readonly (readonly [prefix: string, family: Family | "refiner"])[] = [
  ["conditioner.embedders.1.model.", "sdxl"],
  ["conditioner.embedders.0.model.", "refiner"],
  ["cond_stage_model.model.", "sd2"],
  ["cond_stage_model.transformer.", "sd1"],
];

/** The family that is told, that the text encoder's names show, or that the width of the text shows. */
function familyOf(source: WeightSource, prefix: string, told: Family | undefined): Family {
  if (told) return told;
  const names = [...source.entries.keys()];
  const text = TEXT_ENCODERS.find(([head]) => names.some((name) => name.startsWith(head)))?.[1];
  if (text === "refiner") return fail(source, "it is the SDXL refiner, which is not supported");
  if (text) return text;
  const width = contextWidth(source, prefix);
  if (width === undefined) return fail(source, "its U-Net has no cross-attention");
  const known = [...FAMILY_BY_CONTEXT.keys()].join(", ");
  return (
    FAMILY_BY_CONTEXT.get(width) ??
    fail(source, `its U-Net attends to text of width ${width}; known are ${known}`)
  );
}

/** The part of the names before `.tail`, for the first name that ends so. */
function prefixOf(source: WeightSource, tail: string, prefixes: readonly string[]): string | undefined {
  return prefixes.find((prefix) => source.entries.has(prefix ? `${prefix}.${tail}` : tail));
}

const TAESD_HALF = /^\d+\.(?:weight|bias|conv\.\d+\.\w+|pool\.\d+\.\w+)$/;

/** Which half of a tiny autoencoder: the decoder's first layer has no parameters. */
function taesdHalf(source: WeightSource): "encoder" | "decoder" | "both" | undefined {
  const names = [...source.entries.keys()];
  if (names.every((name) => TAESD_HALF.test(name))) {
    if (source.entries.has("0.weight") && source.entries.has("1.conv.0.weight")) return "encoder";
    return source.entries.has("1.weight") && source.entries.has("3.conv.0.weight") ? "decoder" : undefined;
  }
  const both = ["encoder.0.weight", "encoder.1.conv.0.weight", "decoder.1.weight", "decoder.3.conv.0.weight"];
  return both.every((name) => source.entries.has(name)) ? "both" : undefined;
}

/** Networks with their authors' names that are files of their own. */
function ownFile(source: WeightSource): FileKind | undefined {
  const { entries } = source;
  const wrapped = ["", "model"]; // training states have the network below "model"
  const dit = prefixOf(source, "x_embedder.proj.weight", wrapped);
  if (dit !== undefined && prefixOf(source, "y_embedder.embedding_table.weight", [dit]) !== undefined)
    return { kind: "dit", prefix: dit };
  const vit = prefixOf(source, "patch_embed.proj.weight", wrapped);
  if (vit !== undefined && prefixOf(source, "cls_token", [vit]) !== undefined)
    return {
      kind: prefixOf(source, "decoder_embed.weight", [vit]) === undefined ? "vit" : "mae",
      prefix: vit,
    };
  if (entries.has("input_blocks.0.0.weight") && entries.has("time_embed.0.weight")) {
    const isUNet = entries.has("output_blocks.0.0.in_layers.0.weight");
    return { kind: "guided", className: isUNet ? "GuidedDiffusionUNet" : "GuidedDiffusionClassifier" };
  }
  const half = taesdHalf(source);
  return half && { kind: "taesd", half };
}

/**
 * Says what a file is. `family` overrides the decision by the text's width, which a model of unusual size needs.
 *
 * @throws {FormatError} when it is nothing known, saying what it looks like
 */
export function detectFile(source: WeightSource, family?: Family): FileKind {
  if (source.entries.size === 0) fail(source, "it holds no tensors");
  const control = prefixOf(source, "input_hint_block.0.weight", [CONTROL_PREFIX, ""]);
  const unet = source.entries.get(`${UNET_PREFIX}.input_blocks.0.0.weight`);
  if (unet) {
    const known = familyOf(source, UNET_PREFIX, family);
    return { kind: "checkpoint", family: known, inChannels: unet.shape[1] ?? 0 };
  }
  if (control !== undefined)
    return { kind: "controlnet", family: familyOf(source, control, family), prefix: control };
  const vae = prefixOf(source, "encoder.down.0.block.0.conv1.weight", [VAE_PREFIX, ""]);
  if (vae !== undefined) return { kind: "vae", prefix: vae };
  const own = ownFile(source);
  if (own) return own;

  const names = [...source.entries.keys()];
  if (names.some((name) => LORA.test(name)))
    return fail(source, "it is a LoRA, which is given beside a model and not instead of one");
  for (const [name, what] of DIFFUSERS) if (source.entries.has(name)) return { kind: "diffusers", what };
  for (const [piece, what] of FOREIGN)
    if (names.some((name) => name.includes(piece)))
      return fail(source, `it looks like ${what}, which is not supported`);
  return fail(source, "its tensors are of no kind that is known here");
}

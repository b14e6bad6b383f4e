/** Where the components of a family lie in a single file, and by which rules their names become diffusers'. */
import { ArgumentError } from "../../errors.ts";
import type { Config } from "../components.ts";
import type { Family } from "../original-configs.ts";
import type { KeyRule } from "./engine.ts";
import {
  clipTextRules,
  controlNetRules,
  openClipRules,
  type UNetStructure,
  unetRules,
  vaeRules,
} from "./stable-diffusion.ts";

/** One component's place in a single file. */
export interface Place {
  readonly prefix: string;
  readonly rules: readonly KeyRule[];
}

function list(config: Config, name: string): readonly unknown[] {
  const value = config[name];
  if (!Array.isArray(value))
    throw new ArgumentError(`config: expected a list "${name}", got ${typeof value}`);
  return value;
}

function count(config: Config, name: string): number {
  const value = config[name];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 1000)
    throw new ArgumentError(`config: expected a whole number "${name}" from 1 to 1000, got ${String(value)}`);
  return value;
}

function structureOf(config: Config, up: boolean): UNetStructure {
  return {
    levels: list(config, "block_out_channels").length,
    layers: count(config, "layers_per_block"),
    upAttention: up ? list(config, "up_block_types").map((type) => String(type).includes("CrossAttn")) : [],
  };
}

/** Place of a U-Net, from its configuration. */
export const unetPlace = (config: Config): Place => ({
  prefix: "model.diffusion_model",
  rules: unetRules(structureOf(config, true)),
});

/** Place of a ControlNet, from its configuration. */
export const controlNetPlace = (config: Config): Place => {
  const hint = config.conditioning_embedding_out_channels;
  const widths = Array.isArray(hint) ? hint.length : 4;
  return {
    prefix: "control_model",
    rules: controlNetRules(structureOf(config, false), 2 * (widths - 1)),
  };
};

/** Place of an autoencoder, from its configuration. */
export const vaePlace = (config: Config): Place => ({
  prefix: "first_stage_model",
  rules: vaeRules(list(config, "block_out_channels").length, count(config, "layers_per_block")),
});

/** Places of the text encoders, from their configurations. */
export function textPlaces(family: Family, configs: readonly Config[]): Place[] {
  const layers = (i: number): number => count(configs[i] ?? {}, "num_hidden_layers");
  switch (family) {
    case "sd1":
      return [{ prefix: "cond_stage_model.transformer", rules: clipTextRules() }];
    case "sd2":
      return [{ prefix: "cond_stage_model.model", rules: openClipRules(layers(0), { projection: false }) }];
    case "sdxl":
      return [
        { prefix: "conditioner.embedders.0.transformer", rules: clipTextRules() },
        { prefix: "conditioner.embedders.1.model", rules: openClipRules(layers(1), { projection: true }) },
      ];
  }
}

/**
 * Names in single files that no component needs: schedules, averaged copies, the training loss, buffers, and (for SD2)
 * what lies behind the layer that is read.
 */
const UNUSED: readonly RegExp[] = [
  /^[^.]+$/,
  /^(?:model_ema|embedding_manager|denoiser|lora_te|optimizer)\./,
  /^(?:q_former|local_adapter|global_adapter)\./, // of AnyControl, which are read apart
  /^first_stage_model\.(?:loss|model_ema)\./,
  /^(?:cond_stage_model|conditioner)\..*\.(?:position_ids|logit_scale|attn_mask|text_projection(?:\.weight)?)$/,
  /^cond_stage_model\.(?:logit_scale|attn_mask)$/,
];

/** SD2 files keep the last layer of ViT-H, behind the one that is read. */
const LAST_LAYER = /^cond_stage_model\.model\.transformer\.resblocks\.(\d+)\./;

/** Whether a full name of a single file may stay unused. */
export function isUnused(name: string, textLayers: number): boolean {
  const layer = LAST_LAYER.exec(name)?.[1];
  return UNUSED.some((pattern) => pattern.test(name)) || (layer !== undefined && Number(layer) >= textLayers);
}

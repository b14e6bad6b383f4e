/** Layer names in LoRA files, which differ by tool. */
import { Conv, Linear, Lora, type Module, modules } from "../../nn/index.ts";

/** What a LoRA can adapt. */
export type LoraComponent = "unet" | "transformer" | "textEncoder" | "textEncoder2";

/** The networks of a pipeline, as far as they are there. */
export type LoraTargets = { readonly [C in LoraComponent]?: Module };

interface Prefixes {
  readonly diffusers: string;
  /** The first is the one that is written. */
  readonly kohya: readonly string[];
  readonly comfy: readonly string[];
}

/** What stands before a layer's name, by tool. */
export const PREFIXES: { readonly [C in LoraComponent]: Prefixes } = {
  unet: { diffusers: "unet.", kohya: ["lora_unet_"], comfy: ["diffusion_model."] },
  transformer: {
    diffusers: "transformer.",
    kohya: ["lora_transformer_", "lora_unet_"],
    comfy: ["diffusion_model."],
  },
  textEncoder: {
    diffusers: "text_encoder.",
    kohya: ["lora_te_", "lora_te1_"],
    comfy: ["text_encoders.clip_l.transformer.", "text_encoders.clip_h.transformer."],
  },
  textEncoder2: {
    diffusers: "text_encoder_2.",
    kohya: ["lora_te2_"],
    comfy: ["text_encoders.clip_g.transformer."],
  },
};
export const COMPONENTS = Object.keys(PREFIXES) as LoraComponent[];

/** Layers that can be adapted, by key; of one that is adapted already, the layer underneath. */
export function adaptableLayers(module: Module): Map<string, Linear | Conv> {
  const found = new Map<string, Linear | Conv>();
  const inside: string[] = [];
  for (const [key, layer] of modules(module)) {
    if (inside.some((prefix) => key.startsWith(prefix))) continue;
    if (layer instanceof Lora) {
      found.set(key, layer.base);
      inside.push(`${key}.`);
    } else if (layer instanceof Linear || layer instanceof Conv) found.set(key, layer);
  }
  return found;
}

/** Layers of a residual block in the original code of latent diffusion. */
const LDM_RESNET: Readonly<Record<string, string>> = {
  conv1: "in_layers.2",
  time_emb_proj: "emb_layers.1",
  conv2: "out_layers.3",
  conv_shortcut: "skip_connection",
};
const LDM_OUTER: Readonly<Record<string, string>> = {
  conv_in: "input_blocks.0.0",
  conv_out: "out.2",
  "time_embedding.linear_1": "time_embed.0",
  "time_embedding.linear_2": "time_embed.2",
  "add_embedding.linear_1": "label_emb.0.0",
  "add_embedding.linear_2": "label_emb.0.2",
};
const LDM_MIDDLE: Readonly<Record<string, string>> = {
  "resnets.0": "0",
  "attentions.0": "1",
  "resnets.1": "2",
};

/** Where each part of the down or up blocks sits in one list of blocks, by `blocks.i.part.j`. */
function ldmPlaces(keys: readonly string[], side: "down" | "up"): Map<string, string> {
  const places = new Map<string, string>();
  const prefix = `${side}_blocks`;
  const list = side === "down" ? "input_blocks" : "output_blocks";
  const has = (stem: string): boolean => keys.some((key) => key.startsWith(`${stem}.`));
  let next = side === "down" ? 1 : 0;
  for (let i = 0; has(`${prefix}.${i}`); i++) {
    const block = `${prefix}.${i}`;
    for (let j = 0; has(`${block}.resnets.${j}`); j++, next++) {
      places.set(`${block}.resnets.${j}`, `${list}.${next}.0`);
      places.set(`${block}.attentions.${j}`, `${list}.${next}.1`);
    }
    if (side === "down" && has(`${block}.downsamplers.0`))
      places.set(`${block}.downsamplers.0`, `${list}.${next++}.0`);
    if (side === "up")
      places.set(`${block}.upsamplers.0`, `${list}.${next - 1}.${has(`${block}.attentions.0`) ? 2 : 1}`);
  }
  return places;
}

/** Keys of a U-Net's layers in the original code of latent diffusion, by ours; layers that it does not have are absent. */
export function ldmNames(keys: readonly string[]): Map<string, string> {
  const places = new Map([...ldmPlaces(keys, "down"), ...ldmPlaces(keys, "up")]);
  const nameOf = (key: string): string | undefined => {
    if (LDM_OUTER[key]) return LDM_OUTER[key];
    const [, stem, inner] =
      /^((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.\w+\.\d+)\.(.+)$/.exec(key) ?? [];
    if (!stem || !inner) return undefined;
    const middle = stem.startsWith("mid_block.") ? LDM_MIDDLE[stem.slice("mid_block.".length)] : undefined;
    const place = middle ? `middle_block.${middle}` : places.get(stem);
    if (!place) return undefined;
    if (stem.includes(".resnets.")) return LDM_RESNET[inner] && `${place}.${LDM_RESNET[inner]}`;
    return `${place}.${stem.includes(".downsamplers.") ? "op" : inner}`;
  };
  return new Map(keys.flatMap((key) => (nameOf(key) ? [[key, nameOf(key)!] as const] : [])));
}

/** Older spellings of a layer's name in files of diffusers, and the one without `text_model.` of newer ones. */
function spellings(key: string): string[] {
  const names = [key];
  if (key.endsWith(".to_out.0")) names.push(key.slice(0, -2));
  const attention = /^(.*\.self_attn\.)(q|k|v|out)_proj$/.exec(key);
  if (attention) names.push(`${attention[1]}to_${attention[2]}`);
  return names.flatMap((name) => (name.startsWith("text_model.") ? [name, name.slice(11)] : [name]));
}

const flat = (name: string): string => name.replaceAll(".", "_");

/** A layer of a pipeline. */
export interface LayerName {
  readonly component: LoraComponent;
  readonly key: string;
}

/** Finds a layer by its name in a file, without the suffix that says which tensor it is. */
export type LayerIndex = (name: string) => LayerName | undefined;

/** The index of all layers of a pipeline, under every spelling. */
export function layerIndex(targets: LoraTargets): LayerIndex {
  const names = new Map<string, LayerName>();
  const add = (name: string, layer: LayerName): void => {
    if (!names.has(name)) names.set(name, layer);
  };
  for (const component of COMPONENTS) {
    const module = targets[component];
    if (!module) continue;
    const { diffusers, kohya, comfy } = PREFIXES[component];
    const keys = [...adaptableLayers(module).keys()];
    const ldm = component === "unet" ? ldmNames(keys) : new Map<string, string>();
    for (const key of keys) {
      const layer = { component, key };
      for (const name of spellings(key)) {
        for (const prefix of [diffusers, ...comfy]) add(prefix + name, layer);
        for (const prefix of kohya) add(prefix + flat(name), layer);
        if (component === "unet" || component === "transformer") add(name, layer); // the oldest files have no prefix
      }
      const original = ldm.get(key);
      if (original) {
        for (const prefix of kohya) add(prefix + flat(original), layer);
        for (const prefix of comfy) add(prefix + original, layer);
      }
    }
  }
  return (name) => names.get(name);
}

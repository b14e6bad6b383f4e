/**
 * The published checkpoint, as safetensors with the names of its authors' code (`q_former`, `local_adapter`; converted once
 * from their pickle, which is never read here). Its Stable Diffusion is read by the pipelines, as any single file is.
 */
import { FormatError, TreeError } from "../../errors.ts";
import { blankRng, loadParameters, parameters } from "../../nn/index.ts";
import {
  localAdapterRules,
  openWeights,
  renamed,
  selected,
  type WeightSource,
} from "../../pipelines/index.ts";
import { convertHost, fromHost, type Tensor } from "../../tensor/index.ts";
import { type AnyControl, createSteerer, kept, type SteererConfig, type SteeringModel } from "./model.ts";
import { TYPES } from "./types.ts";

/** The U-Net of Stable Diffusion 1.5, as far as an adapter needs to know it. */
const SD15 = {
  sample_size: 64,
  in_channels: 4,
  block_out_channels: [320, 640, 1280, 1280],
  cross_attention_dim: 768,
  attention_head_dim: 8,
  layers_per_block: 2,
};

/** What the published network is. */
export const PUBLISHED: SteererConfig = {
  ...{
    kind: "anycontrol",
    unet: SD15,
    size: 224,
    types: TYPES,
    vocabulary: 30523,
    textLength: 512,
    published: true,
  },
};

/** How the blocks of its U-Net are numbered. */
const STRUCTURE = { levels: SD15.block_out_channels.length, layers: SD15.layers_per_block, upAttention: [] };

/** Buffers, and what the release itself does not use. */
const isUnused = (name: string): boolean =>
  /(^|\.)position_ids$|^q_former\.(Qformer\.cls|temp|vision_proj|text_proj|itm_head)\b/.test(name);

/** The published names as those of our modules; encoder and adapter alone. */
export function officialSource(source: WeightSource): WeightSource {
  const named = selected(source, (name) => {
    const plain = name.replace(/^state_dict\./, "");
    return /^(q_former|local_adapter)\./.test(plain) && !isUnused(plain) ? plain : undefined;
  });
  const adapter = renamed(named, {
    rules: localAdapterRules(STRUCTURE),
    to: "diffusers",
    from: "local_adapter",
    below: "local_adapter",
  });
  const encoder = selected(named, (name) => (name.startsWith("q_former.") ? name : undefined));
  if (adapter.unknown.length > 0)
    throw new FormatError(`${source.path}: no place for ${adapter.unknown.slice(0, 5).join(", ")}`);
  return {
    ...source,
    entries: new Map([...encoder.entries, ...adapter.entries]),
    read: (name) => (name.startsWith("q_former.") ? encoder : adapter).read(name),
  };
}

/** Reads the published weights in single precision. @throws FormatError listing names that are missing, unexpected or mis-shaped */
export async function loadOfficial(path: string, config: SteererConfig = PUBLISHED): Promise<SteeringModel> {
  const file = await openWeights(path);
  try {
    const source = officialSource(file);
    const blank = createSteerer(config, blankRng) as AnyControl;
    const expected = parameters(blank);
    const weights = new Map<string, Tensor>();
    for (const [name, { shape }] of source.entries) {
      if (!expected.has(name)) throw new FormatError(`${path}: unexpected "${name}" [${shape.join(", ")}]`);
      const { dtype, data } = await source.read(name);
      weights.set(name, fromHost("f32", shape, convertHost(data, dtype, "f32")));
    }
    return kept(loadParameters(blank, weights), config);
  } catch (error) {
    if (error instanceof TreeError) throw new FormatError(`${path}: ${error.message}`, { cause: error });
    throw error;
  } finally {
    await file.close();
  }
}

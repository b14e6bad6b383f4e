/**
 * The published initial weights and checkpoints by their own names: the KL-f8 autoencoder, the denoiser of latent
 * diffusion on LSUN churches, and checkpoints of SDSeg's code. As safetensors; values are read one by one.
 */
import { FormatError } from "../../errors.ts";
import type { HostTensor } from "../../io/index.ts";
import { parameters, withFields } from "../../nn/index.ts";
import { vaeRules } from "../../pipelines/key-maps/stable-diffusion.ts";
import { loadWeights } from "../../pipelines/load-weights.ts";
import { modernAttention } from "../../pipelines/registry.ts";
import { merged, openWeights, renamed, selected, type WeightSource } from "../../pipelines/weights.ts";
import { convertHost } from "../../tensor/index.ts";
import {
  createSDSeg,
  PRESETS,
  type SDSeg,
  type SegmentationNetwork,
  type VisionEncoder,
  withParts,
} from "./model.ts";

const FIRST_STAGE = "first_stage_model.";
const DENOISER = "model.diffusion_model.";
const CONDITION = "cond_stage_model.";
const AVERAGE = "model_ema.";
/** The first convolution, which the fusion with the picture's latent widens. */
const FIRST_CONV = "input_blocks.0.0.weight";

/** Names below a prefix, without it; where none has it, all names. */
function below(source: WeightSource, prefix: string): WeightSource {
  const has = [...source.entries.keys()].some((name) => name.startsWith(prefix));
  return has
    ? selected(source, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : undefined))
    : source;
}

/** The coder's weights of a source in diffusers' names, whichever of both layouts it has. */
function coderWeights(source: WeightSource, { config }: SDSeg): WeightSource {
  const { channels, layers } = config.autoencoder;
  const coder = selected(source, (name) =>
    /^(?:encoder|decoder|quant_conv|post_quant_conv)\./.test(name) ? name : undefined,
  );
  if ([...coder.entries.keys()].some((name) => name.includes(".down_blocks.")))
    return selected(coder, modernAttention);
  const result = renamed(coder, { rules: vaeRules(channels.length, layers), to: "diffusers" });
  if (result.unknown.length > 0)
    throw new FormatError(
      `${source.path}: names that no autoencoder has: ${result.unknown.slice(0, 5).join(", ")}`,
    );
  return result;
}

const part = (source: WeightSource, prefix: string): WeightSource =>
  selected(source, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : undefined));

/**
 * The model with the published autoencoder: as its frozen autoencoder, and its encoder as the start of the vision
 * encoder. Takes CompVis' names, those of Stable Diffusion 1 (`first_stage_model.…`) and diffusers'.
 * @throws FormatError listing names that are missing, unexpected or mis-shaped; nothing is loaded then
 */
export async function withAutoencoderWeights(model: SDSeg, path: string): Promise<SDSeg> {
  const source = await openWeights(path);
  try {
    const weights = coderWeights(below(source, FIRST_STAGE), model);
    const autoencoder = await loadWeights(model.autoencoder, weights, "SDSeg's autoencoder", {
      precision: "f32",
    });
    const { vision } = model.network;
    const encoder = await loadWeights(vision.encoder, part(weights, "encoder."), "SDSeg's vision encoder", {
      precision: "f32",
    });
    const network = withFields<SegmentationNetwork>(model.network, {
      vision: withFields<VisionEncoder>(vision, { encoder }),
    });
    return withParts(model, { autoencoder, network });
  } finally {
    await source.close();
  }
}

/** A source whose first convolution has the wanted number of input channels, those that are new being zero. */
function widened(source: WeightSource, channels: number): WeightSource {
  const entry = source.entries.get(FIRST_CONV);
  if (entry?.shape.length !== 4 || entry.shape[1]! >= channels) return source;
  const [out, had, kh, kw] = entry.shape as [number, number, number, number];
  const shape = [out, channels, kh, kw];
  const widen = ({ dtype, data }: HostTensor): HostTensor => {
    const from = convertHost(data, dtype, "f32") as Float32Array;
    const values = new Float32Array(out * channels * kh * kw);
    const [row, wide] = [had * kh * kw, channels * kh * kw];
    for (let o = 0; o < out; o++) values.set(from.subarray(o * row, (o + 1) * row), o * wide);
    return { dtype: "f32", shape, data: values };
  };
  return {
    ...source,
    entries: new Map(source.entries).set(FIRST_CONV, { dtype: "F32", shape }),
    read: async (name) => (name === FIRST_CONV ? widen(await source.read(name)) : source.read(name)),
    close: async () => undefined,
  };
}

/** Label embeddings, which an unconditional denoiser lacks, as they are in the model. */
function withFreshLabels(source: WeightSource, model: SDSeg): WeightSource {
  const own = parameters(model.network.unet).get("label_emb.weight");
  if (!own || source.entries.has("label_emb.weight")) return source;
  const name = "label_emb.weight";
  const fresh: WeightSource = {
    ...source,
    entries: new Map([[name, { dtype: "F32", shape: own.shape }]]),
    read: async () => ({ dtype: "f32", shape: own.shape, data: await own.data() }),
  };
  return merged(source.path, [source, fresh]);
}

/** The model with the published denoiser of 4 input channels; the 4 of the picture begin as zeros. @throws FormatError */
export async function withDenoiserWeights(model: SDSeg, path: string): Promise<SDSeg> {
  const source = await openWeights(path);
  try {
    const channels = 2 * model.config.autoencoder.latentChannels;
    const weights = withFreshLabels(widened(below(source, DENOISER), channels), model);
    const unet = await loadWeights(model.network.unet, weights, "SDSeg's denoiser", { precision: "f32" });
    return withParts(model, { network: withFields<SegmentationNetwork>(model.network, { unet }) });
  } finally {
    await source.close();
  }
}

/** Averaged weights, in whose names the code leaves out the dots. */
function averagedDenoiser(source: WeightSource, model: SDSeg): WeightSource | undefined {
  const names = [...parameters(model.network.unet).keys()];
  const dotless = new Map(
    names.map((name) => [`${AVERAGE}diffusion_model${name.replaceAll(".", "")}`, name]),
  );
  if (![...dotless.keys()].some((name) => source.entries.has(name))) return undefined;
  return selected(source, (name) => dotless.get(name));
}

/** The model with a checkpoint of SDSeg's code: averaged denoiser where there is one, vision encoder, autoencoder, scale. */
export async function withTrainedWeights(model: SDSeg, path: string): Promise<SDSeg> {
  const source = await openWeights(path);
  try {
    const precision = { precision: "f32" } as const;
    const coder = coderWeights(part(source, FIRST_STAGE), model);
    const autoencoder = await loadWeights(model.autoencoder, coder, "SDSeg's autoencoder", precision);
    const denoiser = averagedDenoiser(source, model) ?? part(source, DENOISER);
    const unet = await loadWeights(model.network.unet, denoiser, "SDSeg's denoiser", precision);
    const condition = part(source, CONDITION);
    const encoder = coderWeights(condition, model);
    const out = selected(condition, (name) => (name.startsWith("out.") ? name : undefined));
    const both = merged(path, [encoder, out]);
    const vision = await loadWeights(model.network.vision, both, "SDSeg's vision encoder", precision);
    const scale = source.entries.has("scale_factor") ? await source.read("scale_factor") : undefined;
    if (!scale) throw new FormatError(`${path}: no scale_factor`);
    const [scaleFactor] = convertHost(scale.data, scale.dtype, "f32") as Float32Array;
    const network = withFields<SegmentationNetwork>(model.network, { unet, vision });
    return withParts(model, { autoencoder, network, scaleFactor: scaleFactor! });
  } finally {
    await source.close();
  }
}

/**
 * A checkpoint of SDSeg's code by its path, at the published sizes, with the classes that it has embeddings of; undefined
 * for other files. @throws FormatError for one of other sizes
 */
export async function openReleased(path: string): Promise<SDSeg | undefined> {
  const source = await openWeights(path);
  const [isReleased, classes] = [
    source.entries.has(`${CONDITION}out.weight`) && source.entries.has("scale_factor"),
    source.entries.get(`${DENOISER}label_emb.weight`)?.shape[0] ?? 2,
  ];
  await source.close();
  return isReleased ? withTrainedWeights(createSDSeg({ ...PRESETS.paper, classes }, 0), path) : undefined;
}

/**
 * Published MAE encoders, as safetensors with Meta's names: features of one, and a UMD encoder that begins as one. Published
 * DiTs are read by `loadModel` of the pipelines, as all of that kind are.
 */
import { type LabelledPictures, overPictures } from "../../data/index.ts";
import { ArgumentError, FormatError, TreeError } from "../../errors.ts";
import { isMetaDiT, VisionTransformer, type ViTConfig } from "../../networks/index.ts";
import { blankRng, loadParameters, mapParameters } from "../../nn/index.ts";
import { constant, type Tensor, zeros } from "../../tensor/index.ts";
import type { UMD } from "./model.ts";

export type Weights = ReadonlyMap<string, Tensor>;

function shapeOf(weights: Weights, key: string): readonly number[] {
  const weight = weights.get(key);
  if (!weight) throw new FormatError(`published weights: missing "${key}"`);
  return weight.shape;
}

const layersOf = (weights: Weights): number =>
  Math.max(-1, ...[...weights.keys()].map((key) => Number(/^blocks\.(\d+)\./.exec(key)?.[1] ?? -1))) + 1;

/** Side of the square grid of so many positions. */
function sideOf(positions: number): number {
  const side = Math.sqrt(positions);
  if (!Number.isInteger(side))
    throw new FormatError(`published weights: ${positions} positions are no square grid`);
  return side;
}

/** Width of a head by width of the model: 64, and 80 for H. */
const headDimOf = (dim: number): number => (dim === 1280 ? 80 : dim % 64 === 0 ? 64 : dim);

/** Sizes of an MAE encoder by the shapes of its weights. */
export function metaMAEConfig(weights: Weights, heads?: number): ViTConfig {
  const [dim, inChannels, patchSize] = shapeOf(weights, "patch_embed.proj.weight") as [
    number,
    number,
    number,
  ];
  const [, positions] = shapeOf(weights, "pos_embed") as [number, number];
  const [inner] = shapeOf(weights, "blocks.0.mlp.fc1.weight") as [number];
  return {
    imageSize: sideOf(positions - 1) * patchSize,
    patchSize,
    inChannels,
    dim,
    depth: layersOf(weights),
    heads: heads ?? dim / headDimOf(dim),
    mlpRatio: inner / dim,
    eps: 1e-6,
  };
}

/**
 * A published encoder from its weights; the decoder of a whole MAE is left out. `heads` where the width of a head is not the
 * published one. @throws FormatError for other weights, ArgumentError for a DiT
 */
export function publishedMAE(
  weights: Weights,
  { heads }: { readonly heads?: number } = {},
): VisionTransformer {
  if (isMetaDiT(weights.keys()))
    throw new ArgumentError("UMD: a published DiT is sampled by tweedie generate; only MAE is probed here");
  const names = ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"];
  if (!names.every((name) => weights.has(name)))
    throw new FormatError(
      `published weights: no MAE by their names (${[...weights.keys()].slice(0, 3).join(", ")}, …)`,
    );
  const blank = new VisionTransformer(metaMAEConfig(weights, heads), blankRng);
  try {
    const ignore = (key: string): boolean => key === "mask_token" || key.startsWith("decoder_");
    return loadParameters(blank, weights, { ignore });
  } catch (error) {
    if (error instanceof TreeError)
      throw new FormatError(`published weights: ${error.message}`, { cause: error });
    throw error;
  }
}

/** Mean and deviation of ImageNet's colours in [0, 1], which MAE was trained with. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** The class token behind the last norm, for pictures in [-1, 1] of the encoder's size: [N, D] flat. */
export async function maeFeatures(
  model: VisionTransformer,
  pictures: LabelledPictures,
  batch = 16,
): Promise<Float32Array> {
  const colours = (values: readonly number[]): Tensor => constant("f32", [1, 3, 1, 1], values);
  const features = (x: Tensor) => ({
    token: model.features(x.add(1).mul(0.5).sub(colours(MEAN)).div(colours(DEVIATION))),
  });
  return (await overPictures(pictures, features, { batch })).token.values;
}

const KINDS = ["weight", "bias"] as const;

/**
 * The patch embedding for pixels in [-1, 1], of one for colours standardised by ImageNet's: W (x - m) / d + b is one linear
 * map of x. Pictures of other than three channels have no such standardisation.
 */
function embeddingOfPixels(weight: Tensor, bias: Tensor): { weight: Tensor; bias: Tensor } {
  const colours = (of: (c: number) => number): Tensor => constant("f32", [1, 3, 1, 1], [0, 1, 2].map(of));
  const scaled = weight.mul(colours((c) => 0.5 / DEVIATION[c]!)); // [D, 3, P, P]
  const shift = weight.mul(colours((c) => (0.5 - MEAN[c]!) / DEVIATION[c]!));
  return { weight: scaled, bias: bias.add(shift.sum([1, 2, 3])) };
}

/** An encoder of a UMD from one of MAE, key by key. */
function encoderWeights(weights: Weights, { config, encoder }: UMD): Map<string, Tensor> {
  const take = (key: string): Tensor => {
    shapeOf(weights, key);
    return weights.get(key)!;
  };
  const positions = take("pos_embed");
  const cls = take("cls_token").add(positions.sliceAxis(1, 0, 1)); // [1, 1, D]
  const out = new Map<string, Tensor>([
    ["pos_embedding", positions.sliceAxis(1, 1)],
    ["cls", cls.broadcastTo([1, config.classTokens, config.dim])],
  ]);
  const embedding = embeddingOfPixels(take("patch_embed.proj.weight"), take("patch_embed.proj.bias"));
  for (const kind of KINDS) {
    out.set(`embedding.proj.${kind}`, embedding[kind]);
    out.set(`encoder_norm.${kind}`, take(`norm.${kind}`));
  }
  for (let i = 0; i < encoder.length; i++) {
    const [theirs, ours] = [`blocks.${i}`, `encoder.${i}`];
    for (const kind of KINDS) {
      const qkv = take(`${theirs}.attn.qkv.${kind}`).split(3, 0);
      for (const [k, name] of ["to_q", "to_k", "to_v"].entries())
        out.set(`${ours}.attn.${name}.${kind}`, qkv[k]!);
      out.set(`${ours}.attn.to_out.0.${kind}`, take(`${theirs}.attn.proj.${kind}`));
      out.set(`${ours}.norm1.${kind}`, take(`${theirs}.norm1.${kind}`));
      out.set(`${ours}.norm2.${kind}`, take(`${theirs}.norm2.${kind}`));
      out.set(`${ours}.mlp.layers.0.${kind}`, take(`${theirs}.mlp.fc1.${kind}`));
      out.set(`${ours}.mlp.layers.1.${kind}`, take(`${theirs}.mlp.fc2.${kind}`));
    }
  }
  return out;
}

/**
 * A UMD whose encoder is that of MAE: its gates open fully and its modulation does nothing yet, so that with one class
 * token and the exact GELU it computes of pictures in [-1, 1] what `maeFeatures` does.
 * @throws ArgumentError where sizes or the kind of conditioning differ
 */
export function withMAEEncoder(model: UMD, weights: Weights): UMD {
  const { config } = model;
  const theirs = metaMAEConfig(weights, config.heads);
  const ours = {
    imageSize: config.size,
    patchSize: config.patch,
    inChannels: config.channels,
    dim: config.dim,
    depth: config.depth,
  };
  for (const [name, value] of Object.entries(ours)) {
    const given = theirs[name as keyof typeof ours];
    if (given !== value)
      throw new ArgumentError(`UMD: the encoder of MAE has ${name} ${given}, this model has ${value}`);
  }
  if (config.channels !== 3)
    throw new ArgumentError(`UMD: an encoder of MAE is for 3 channels, this model has ${config.channels}`);
  if (config.conditioning !== "adaLN")
    throw new ArgumentError("UMD: an encoder of MAE has no token for the condition: use adaLN");
  const known = encoderWeights(weights, model);
  const { dim } = config;
  const open = (): Tensor =>
    zeros([2 * dim]).concat([zeros([dim]).add(1), zeros([2 * dim]), zeros([dim]).add(1)]);
  return mapParameters(model, (parameter, key) => {
    if (/^encoder\.\d+\.modulation\.bias$/.test(key)) return open();
    if (/^encoder\.\d+\.modulation\.weight$/.test(key)) return zeros(parameter.shape);
    return known.get(key) ?? parameter;
  });
}

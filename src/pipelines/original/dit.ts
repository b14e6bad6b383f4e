/** Diffusion transformers in single files with the names of their authors' code (Peebles and Xie 2022). */
import { ArgumentError } from "../../errors.ts";
import type { HostTensor } from "../../io/index.ts";
import { BLOCK_NAMES, EMBEDDER_NAMES, OUTER_NAMES, QKV } from "../../networks/dit/meta-keys.ts";
import { sinCosPositions2d } from "../../nn/index.ts";
import type { Config } from "../components.ts";
import { type KeyRule, renames } from "../key-maps/engine.ts";
import { merged, renamed, selected, type WeightSource, weightsInMemory } from "../weights.ts";
import type { OriginalNetwork } from "./original-network.ts";
import { countOf, gridOf, HEADS, headsOf, shapeOf } from "./shapes.ts";

const BLOCK: readonly KeyRule[] = [
  ...renames(Object.fromEntries(BLOCK_NAMES)),
  { original: "attn.qkv", diffusers: QKV.map((name) => `attn1.${name}`) },
];

/** The embedding of timestep and class is one for all blocks there; here it lies in the first, and copies in the others. */
function ditRules(layers: number): KeyRule[] {
  const blocks = Array.from({ length: layers }, (_, i): KeyRule => {
    return { original: `blocks.${i}`, diffusers: `transformer_blocks.${i}`, inner: BLOCK };
  });
  const embedders = EMBEDDER_NAMES.map(([theirs, ours]) => [theirs, `transformer_blocks.0.${ours}`]);
  return [...renames(Object.fromEntries([...OUTER_NAMES, ...embedders])), ...blocks];
}

const EMBEDDING = /^transformer_blocks\.(\d+)\.(norm1\.emb\..+)$/;
const firstName = (name: string): string => name.replace(EMBEDDING, "transformer_blocks.0.$2");

/** The first block's embedding in every block. All blocks get the same array, so that it is in memory once. */
function withEmbeddings(source: WeightSource, layers: number): WeightSource {
  const entries = new Map(source.entries);
  for (const [name, entry] of source.entries) {
    const inner = EMBEDDING.exec(name)?.[2];
    for (let i = 1; inner && i < layers; i++) entries.set(`transformer_blocks.${i}.${inner}`, entry);
  }
  const shared = new Map<string, Promise<HostTensor>>();
  return {
    ...source,
    entries,
    read: (name) => {
      if (!EMBEDDING.test(name)) return source.read(name);
      const first = firstName(name);
      if (!shared.has(first)) shared.set(first, source.read(first));
      return shared.get(first)!;
    },
    close: async () => shared.clear(),
  };
}

function configOf(source: WeightSource, head: string, layers: number, given: Config): Config {
  const [dim, channels, patch] = shapeOf(source, `${head}x_embedder.proj.weight`, 4) as [
    number,
    number,
    number,
  ];
  const [rows] = shapeOf(source, `${head}final_layer.linear.weight`, 2) as [number];
  const [labels] = shapeOf(source, `${head}y_embedder.embedding_table.weight`, 2) as [number];
  const heads = headsOf(source, dim, "num_attention_heads", given, HEADS.dit);
  const positions = `${head}pos_embed`;
  const tokens = source.entries.has(positions) && shapeOf(source, positions, 3)[1]!;
  return {
    _class_name: "DiTTransformer2DModel",
    sample_size: tokens ? patch * gridOf(source, positions, tokens) : 32,
    patch_size: patch,
    in_channels: channels,
    out_channels: rows / patch ** 2,
    num_layers: layers,
    num_attention_heads: heads,
    attention_head_dim: dim / heads,
    num_embeds_ada_norm: labels - 1, // the last stands for no class
    norm_type: "ada_norm_zero",
    norm_elementwise_affine: false,
    norm_eps: 1e-6,
    activation_fn: "gelu-approximate",
    attention_bias: true,
    freq_shift: 0,
  };
}

/** Opens a DiT with the numerics of its authors' code; what its shapes say is overruled by `given`. */
export function openDit(source: WeightSource, prefix: string, given: Config = {}): OriginalNetwork {
  const head = prefix && `${prefix}.`;
  const layers = countOf(source, /(?:^|\.)blocks\.(\d+)\.attn\.qkv\.weight$/);
  const part = renamed(source, { rules: ditRules(layers), to: "diffusers", from: prefix });
  const config = { ...configOf(source, head, layers, given), ...given };
  const unknown = part.unknown.filter((name) => name !== `${head}pos_embed`); // a table that is computed here
  return { className: "DiTTransformer2DModel", config, weights: withEmbeddings(part, layers), unknown };
}

/** @throws {ArgumentError} when the blocks' embeddings differ, which their layout has no place for */
async function checkEmbeddings(source: WeightSource): Promise<void> {
  for (const name of source.entries.keys()) {
    const first = firstName(name);
    if (first === name) continue;
    const [a, b] = [await source.read(first), await source.read(name)];
    if (a.data.length !== b.data.length || a.data.some((value, i) => value !== b.data[i]))
      throw new ArgumentError(
        `${source.path}: "${name}" differs from that of block 0; the original layout has one for all blocks`,
      );
  }
}

/** The weights of a DiT under the names of its authors' code, with the table of positions that it asks for. */
export async function originalDit(source: WeightSource, config: Config): Promise<WeightSource> {
  await checkEmbeddings(source);
  const layers = countOf(source, /^transformer_blocks\.(\d+)\./);
  const once = selected(source, (name) => (firstName(name) === name ? name : undefined));
  const part = renamed(once, { rules: ditRules(layers), to: "original" });
  const [dim, , patch] = shapeOf(source, "pos_embed.proj.weight", 4) as [number, number, number];
  const side = Number(config.sample_size ?? 32) / patch;
  const data = (await sinCosPositions2d(dim, side, side).data()) as Float32Array;
  const table: HostTensor = { dtype: "f32", shape: [1, side * side, dim], data };
  const positions = weightsInMemory(new Map([["pos_embed", table]]), ({ shape }) => ({
    dtype: "F32",
    shape,
  }));
  return merged(source.path, [part, positions]);
}

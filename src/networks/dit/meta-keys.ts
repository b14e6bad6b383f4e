/**
 * Weights of a DiT between two spellings: that of its authors (`x_embedder`, `blocks.0.attn.qkv`, `final_layer`) and
 * that of diffusers (`pos_embed.proj`, `transformer_blocks.0.attn1.to_q`, `proj_out_1`).
 */
import { FormatError, TreeError } from "../../errors.ts";
import { sinCosPositions2d } from "../../nn/index.ts";
import { fromHost, type HostArray, sizeOf, type Tensor } from "../../tensor/index.ts";

type Weights = ReadonlyMap<string, Tensor>;

/** Names within a block that differ, theirs first. */
export const BLOCK_NAMES: readonly (readonly [string, string])[] = [
  ["attn.proj", "attn1.to_out.0"],
  ["mlp.fc1", "ff.net.0.proj"],
  ["mlp.fc2", "ff.net.2"],
  ["adaLN_modulation.1", "norm1.linear"],
];
/** Names outside of blocks. */
export const OUTER_NAMES: readonly (readonly [string, string])[] = [
  ["x_embedder.proj", "pos_embed.proj"],
  ["final_layer.adaLN_modulation.1", "proj_out_1"],
  ["final_layer.linear", "proj_out_2"],
];
/** The condition's embedding: once there, in every block here. */
export const EMBEDDER_NAMES: readonly (readonly [string, string])[] = [
  ["t_embedder.mlp.0", "norm1.emb.timestep_embedder.linear_1"],
  ["t_embedder.mlp.2", "norm1.emb.timestep_embedder.linear_2"],
  ["y_embedder.embedding_table", "norm1.emb.class_embedder.embedding_table"],
];
export const QKV = ["to_q", "to_k", "to_v"] as const;
const KINDS = ["weight", "bias"] as const;

/** A key without its last part, and that part. */
function splitKey(key: string): [stem: string, kind: string] {
  const at = key.lastIndexOf(".");
  return [key.slice(0, at), key.slice(at + 1)];
}

/** Rows `from` to `to`; a view where the value is on the host. */
function rowsOf(x: Tensor, from: number, to: number): Tensor {
  const host = x.value?.host;
  if (!host) return x.sliceAxis(0, from, to);
  const row = sizeOf(x.shape.slice(1));
  return fromHost(
    x.dtype,
    [to - from, ...x.shape.slice(1)],
    host.subarray(from * row, to * row) as HostArray,
  );
}

/** Whether weights are spelled as by the authors of DiT. */
export const isMetaDiT = (keys: Iterable<string>): boolean =>
  [...keys].some((key) => key.startsWith("x_embedder.proj."));

const layersOf = (keys: Iterable<string>, pattern: RegExp): number =>
  Math.max(-1, ...[...keys].map((key) => Number(pattern.exec(key)?.[1] ?? -1))) + 1;

/**
 * From the authors' spelling to diffusers'. The embedding of timestep and class is repeated in every
 * block, or kept in the first alone for a model with `sharedEmbedding`. The table of positions is left out: it is
 * computed. Unknown names stay as they are, so that loading lists them. Throws `FormatError` for a qkv that does not
 * split into three.
 */
export function diffusersFromMeta(
  weights: Weights,
  options: { sharedEmbedding?: boolean } = {},
): Map<string, Tensor> {
  const layers = layersOf(weights.keys(), /^blocks\.(\d+)\./);
  const copies = options.sharedEmbedding ? 1 : layers;
  const out = new Map<string, Tensor>();
  const block = new Map(BLOCK_NAMES);
  const outer = new Map(OUTER_NAMES);
  const embedder = new Map(EMBEDDER_NAMES);
  for (const [key, value] of weights) {
    if (key === "pos_embed") continue;
    const [stem, kind] = splitKey(key);
    const [, layer, inner] = /^blocks\.(\d+)\.(.+)$/.exec(stem) ?? [];
    if (inner === "attn.qkv") {
      const third = value.shape[0]! / 3;
      if (!Number.isInteger(third))
        throw new FormatError(`${key}: expected three times as many rows as channels, got ${value}`);
      for (const [i, name] of QKV.entries())
        out.set(
          `transformer_blocks.${layer}.attn1.${name}.${kind}`,
          rowsOf(value, i * third, (i + 1) * third),
        );
    } else if (inner && block.has(inner))
      out.set(`transformer_blocks.${layer}.${block.get(inner)}.${kind}`, value);
    else if (embedder.has(stem)) {
      for (let i = 0; i < copies; i++)
        out.set(`transformer_blocks.${i}.${embedder.get(stem)}.${kind}`, value);
    } else out.set(outer.has(stem) ? `${outer.get(stem)}.${kind}` : key, value);
  }
  return out;
}

async function sameValues(a: Tensor, b: Tensor): Promise<boolean> {
  if (a === b) return true;
  const [x, y] = [await a.data(), await b.data()];
  return x.length === y.length && x.every((v, i) => v === y[i]);
}

/**
 * From diffusers' spelling to the authors', whose embedding of timestep and class is one for all blocks.
 * `gridSize` is that of the positions (sample size / patch size). Throws `TreeError` when the blocks' embeddings
 * differ, or a name is missing or unknown.
 */
export async function metaFromDiffusers(weights: Weights, gridSize: number): Promise<Map<string, Tensor>> {
  const layers = layersOf(weights.keys(), /^transformer_blocks\.(\d+)\./);
  const left = new Map(weights);
  const take = (key: string): Tensor => {
    const value = left.get(key);
    if (!value) throw new TreeError(`metaFromDiffusers: missing "${key}"`);
    left.delete(key);
    return value;
  };
  const out = new Map<string, Tensor>();
  for (const [theirs, ours] of OUTER_NAMES)
    for (const kind of KINDS) out.set(`${theirs}.${kind}`, take(`${ours}.${kind}`));
  const dim = out.get("x_embedder.proj.weight")!.shape[0]!;
  out.set("pos_embed", sinCosPositions2d(dim, gridSize, gridSize).unsqueeze(0));
  for (const [theirs, ours] of EMBEDDER_NAMES) {
    for (const kind of ours.endsWith("table") ? ["weight"] : KINDS) {
      const first = take(`transformer_blocks.0.${ours}.${kind}`);
      for (let i = 1; i < layers; i++) {
        const key = `transformer_blocks.${i}.${ours}.${kind}`;
        if (left.has(key) && !(await sameValues(first, take(key))))
          throw new TreeError(
            `metaFromDiffusers: "${key}" differs from that of block 0; their spelling has one for all`,
          );
      }
      out.set(`${theirs}.${kind}`, first);
    }
  }
  for (let i = 0; i < layers; i++) {
    const [theirs, ours] = [`blocks.${i}`, `transformer_blocks.${i}`];
    for (const kind of KINDS) {
      const [q, k, v] = QKV.map((name) => take(`${ours}.attn1.${name}.${kind}`)) as [Tensor, Tensor, Tensor];
      out.set(`${theirs}.attn.qkv.${kind}`, q.concat([k, v]));
      for (const [a, b] of BLOCK_NAMES) out.set(`${theirs}.${a}.${kind}`, take(`${ours}.${b}.${kind}`));
    }
  }
  if (left.size > 0) throw new TreeError(`metaFromDiffusers: unknown [${[...left.keys()].join(", ")}]`);
  return out;
}

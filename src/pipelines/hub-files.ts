/** Which files of a repository loading needs: configurations, tokenizers, and one set of safetensors weights a folder. */
import { WEIGHT_NAMES } from "./model-files.ts";

const TEXTS =
  /^(?:model_index|config|scheduler_config|tokenizer|tokenizer_config|vocab|special_tokens_map)\.json$|^merges\.txt$/;
/** Folders of components that are never loaded. */
const UNNEEDED = /^(?:safety_checker|feature_extractor|image_encoder|onnx|flax)(?:\/|$)/;

const folderOf = (path: string): string => path.slice(0, path.lastIndexOf("/") + 1);
const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

/** The weights of one folder: the variant's where it has them, else the plain ones, else those of half precision. */
function weightsOf(names: readonly string[], variant: string | undefined): string[] {
  const there = new Set(names);
  for (const wanted of [...(variant === undefined ? [] : [variant]), "", "fp16", "bf16"]) {
    const infix = wanted && `.${wanted}`;
    for (const base of WEIGHT_NAMES) {
      const whole = `${base}${infix}.safetensors`;
      if (there.has(whole)) return [whole];
      const indexes = [`${base}.safetensors.index${infix}.json`, `${base}${infix}.safetensors.index.json`];
      const index = indexes.find((name) => there.has(name));
      if (index === undefined) continue;
      const shard = new RegExp(
        `^${base}(?:${infix.replace(".", "\\.")})?-\\d{5}-of-\\d{5}(?:${infix.replace(".", "\\.")})?\\.safetensors$`,
      );
      const shards = names.filter((name) => shard.test(name) && (wanted === "" || name.includes(infix)));
      return [index, ...shards];
    }
  }
  return [];
}

/**
 * The files to download: everything that a pipeline or a network needs, or `path` when that names one file, with the
 * texts beside it. Pickles, other frameworks' weights and other variants are left out. Empty when there are no weights.
 */
export function wantedFiles(paths: readonly string[], path = "", variant?: string): string[] {
  if (paths.includes(path)) return paths.filter((p) => p === path || p === `${folderOf(path)}config.json`);
  const below = path === "" || path.endsWith("/") ? path : `${path}/`;
  const inside = paths.filter((p) => p.startsWith(below) && !UNNEEDED.test(p.slice(below.length)));
  // Deeper folders belong to no component.
  const near = inside.filter((p) => p.slice(below.length).split("/").length <= 2);
  const hasIndex = near.includes(`${below}model_index.json`);
  const byFolder = new Map<string, string[]>();
  for (const p of near) byFolder.set(folderOf(p), [...(byFolder.get(folderOf(p)) ?? []), nameOf(p)]);
  const wanted: string[] = [];
  let weights = 0;
  for (const [folder, names] of byFolder) {
    // Beside model_index.json lie single files of the same model; without it, only the folder itself counts.
    if (!hasIndex && folder !== below) continue;
    const files = hasIndex && folder === below ? [] : weightsOf(names, variant);
    weights += files.length;
    wanted.push(...[...names.filter((name) => TEXTS.test(name)), ...files].map((name) => folder + name));
  }
  return weights > 0 ? wanted : [];
}

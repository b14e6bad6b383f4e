/** Tiny autoencoders (TAESD and its kin) in their authors' files: an encoder and a decoder, or both in one. */
import { basename, dirname, join } from "#node";
import { ArgumentError, FormatError } from "../../errors.ts";
import { taesdConfig, taesdKey } from "../../networks/index.ts";
import type { Config } from "../components.ts";
import { detectFile } from "../detect.ts";
import { kindOfPath, merged, openWeights, selected, type WeightSource } from "../weights.ts";
import type { OriginalNetwork } from "./original-network.ts";

type Half = "encoder" | "decoder";

const other = (half: Half): Half => (half === "encoder" ? "decoder" : "encoder");

/** A half under the names of `AutoencoderTiny`. */
const halfOf = (source: WeightSource, half: Half): WeightSource =>
  selected(source, (name) => taesdKey(half, name));

/** Both halves of one file, whose names begin with those of the halves. */
const bothOf = (source: WeightSource): WeightSource =>
  selected(source, (name) => {
    const [, half, rest] = /^(encoder|decoder)\.(.+)$/.exec(name) ?? [];
    return half && rest ? taesdKey(half as Half, rest) : name;
  });

/** The file of the other half: the one that is given, or the one beside it that is called so. */
async function otherPath(path: string, half: Half, given: string | undefined): Promise<string | undefined> {
  if (given !== undefined) return given;
  const name = basename(path);
  const sibling = join(dirname(path), name.replace(half, other(half)));
  return name.includes(half) && (await kindOfPath(sibling)) === "file" ? sibling : undefined;
}

/** Opens the other half. @throws {FormatError} when the file holds something else */
async function openOther(path: string, half: Half): Promise<WeightSource> {
  const source = await openWeights(path);
  const kind = detectFile(source);
  if (kind.kind === "taesd" && kind.half === half) return source;
  await source.close();
  const got = kind.kind === "taesd" ? `the ${kind.half}` : `a file of another kind (${kind.kind})`;
  throw new FormatError(`${path}: expected the ${half} of a tiny autoencoder, got ${got}`);
}

/** Opens a tiny autoencoder from one half (and the other, where it is beside it or given), or from both in one file. */
export async function openTaesd(
  source: WeightSource,
  half: Half | "both",
  { pair, config }: { readonly pair?: string; readonly config?: Config },
): Promise<OriginalNetwork> {
  if (half === "both" && pair !== undefined)
    throw new ArgumentError(`${source.path}: this file holds both halves, but ${pair} is given as the other`);
  const path = half === "both" ? undefined : await otherPath(source.path, half, pair);
  const second = path === undefined || half === "both" ? undefined : await openOther(path, other(half));
  const parts =
    half === "both"
      ? [bothOf(source)]
      : [halfOf(source, half), ...(second ? [halfOf(second, other(half))] : [])];
  const weights = { ...merged(source.path, parts), close: async () => second?.close() };
  return {
    className: "AutoencoderTiny",
    config: { _class_name: "AutoencoderTiny", ...taesdConfig(weights.entries), ...config },
    weights,
    unknown: [],
  };
}

/** The weights of an `AutoencoderTiny` as one file of its authors, with the names of the halves. */
export const originalTaesd = (source: WeightSource): WeightSource =>
  selected(source, (name) => {
    const [, half, index, rest] = /^(encoder|decoder)\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
    // The decoder begins with a clamp there, which has an index and no parameters.
    return half ? `${half}.${Number(index) + (half === "decoder" ? 1 : 0)}.${rest}` : name;
  });

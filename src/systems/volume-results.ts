/** Results of a job over volumes: files of the kind and geometry of the source, which say what they were made from. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import {
  isNiftiName,
  niftiDescription,
  niftiLike,
  readBytes,
  tiffDescription,
  tiffStack,
  type WrittenSlice,
} from "../data/index.ts";
import { probePicture } from "../io/index.ts";
import type { BatchItem, ResultFormat } from "./batch.ts";

/** A header has 80 characters: of a stamp its hash. */
const hashed = (stamp: string): string => `tweedie-run ${createHash("sha256").update(stamp).digest("hex")}`;
const isHash = (text: string | undefined): boolean => /^tweedie-run [0-9a-f]{64}$/.test(text ?? "");

/** The format of the results of a volume; undefined for a picture, and where one page alone is meant. */
export async function volumeFormat(
  { path, page }: BatchItem,
  kinds: readonly string[],
): Promise<ResultFormat | undefined> {
  if (page !== undefined) return undefined;
  if (isNiftiName(path)) return niftiFormat(path, kinds);
  if (!/\.tiff?$/i.test(path)) return undefined;
  const { pages } = await probePicture(await readBytes(path), { name: path });
  return pages > 1 ? tiffFormat(kinds) : undefined;
}

/** What a file says, compared as the hash of the stamp. */
const known = (text: string | undefined): string | undefined => (isHash(text) ? text : undefined);

const niftiFormat = (path: string, kinds: readonly string[]): ResultFormat => ({
  kinds,
  ending: /\.gz$/i.test(path) ? ".nii.gz" : ".nii",
  stamp: hashed,
  encode: async (result, stamp) => {
    const bytes = niftiLike(await readFile(path), result as readonly WrittenSlice[], hashed(stamp), path);
    return /\.gz$/i.test(path) ? gzipSync(bytes) : bytes;
  },
  stampIn: async (bytes, name) => known(niftiDescription(bytes, name)),
});

const tiffFormat = (kinds: readonly string[]): ResultFormat => ({
  kinds,
  ending: ".tif",
  stamp: hashed,
  encode: async (result, stamp) => tiffStack(result as readonly WrittenSlice[], hashed(stamp)),
  stampIn: async (bytes, name) => {
    await probePicture(bytes, { name });
    return known(tiffDescription(bytes));
  },
});

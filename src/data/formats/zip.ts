/** Zip archives in memory, with a limit on what they grow to. */
import { unzipSync } from "fflate";
import { FormatError } from "../../errors.ts";
import { type DecodeOptions, decodePicture } from "../../io/picture-codec.ts";
import { type Dataset, dataset } from "../dataset.ts";
import { naturalOrder, readBytes } from "../files.ts";
import { isPictureName, type NamedPicture } from "../folders.ts";

/** Files of an archive by name, folders left out. @throws FormatError when damaged or larger than `maxBytes`. */
export function unzip(bytes: Uint8Array, name = "zip data", maxBytes = 1024 ** 3): Map<string, Uint8Array> {
  let total = 0;
  const filter = (file: { name: string; originalSize: number }): boolean => {
    total += file.originalSize;
    if (total > maxBytes)
      throw new FormatError(`${name}: unpacks to more than the limit of ${maxBytes} bytes`);
    return !file.name.endsWith("/");
  };
  try {
    return new Map(Object.entries(unzipSync(bytes, { filter })));
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    throw new FormatError(`${name}: is no zip archive, or damaged (${(cause as Error).message})`, { cause });
  }
}

/** The pictures of a zip archive, by name in natural order; the archive stays in memory, pictures decode when read. */
export async function openPictureArchive(
  path: string,
  options: DecodeOptions = {},
): Promise<Dataset<NamedPicture>> {
  const entries = [...unzip(await readBytes(path), path)]
    .filter(([name]) => isPictureName(name))
    .sort(([a], [b]) => naturalOrder(a, b));
  if (entries.length === 0) throw new FormatError(`${path}: holds no pictures`);
  return dataset(entries.length, async (i) => {
    const [name, bytes] = entries[i]!;
    return { name, image: await decodePicture(bytes, { name: `${path}/${name}`, ...options }) };
  });
}

/** IDX, the format of MNIST and its relatives: a magic number, sizes, then the values, big-endian. */
import { FormatError } from "../../errors.ts";
import type { Picture } from "../../io/picture-codec.ts";
import { type Dataset, dataset } from "../dataset.ts";
import { readBytes } from "../files.ts";

/** An array of the IDX format. */
export interface IdxArray {
  readonly shape: readonly number[];
  readonly data: Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array;
}

const TYPES = {
  8: Uint8Array,
  9: Int8Array,
  11: Int16Array,
  12: Int32Array,
  13: Float32Array,
  14: Float64Array,
} as const;

/** The array in an IDX file's bytes. @throws FormatError for another format or a wrong length. */
export function decodeIdx(bytes: Uint8Array, name = "IDX data"): IdxArray {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = TYPES[bytes[2] as keyof typeof TYPES];
  const rank = bytes[3] ?? 0;
  if (bytes.length < 4 || view.getUint16(0) !== 0 || !type)
    throw new FormatError(`${name}: does not begin with an IDX magic number`);
  const header = 4 + 4 * rank;
  if (bytes.length < header) throw new FormatError(`${name}: the IDX header is cut off`);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const expected = shape.reduce((product, d) => product * d, type.BYTES_PER_ELEMENT);
  if (bytes.length - header !== expected)
    throw new FormatError(
      `${name}: [${shape.join(", ")}] takes ${expected} bytes, but ${bytes.length - header} follow the header`,
    );
  const body = new Uint8Array(bytes.subarray(header));
  const width = type.BYTES_PER_ELEMENT;
  if (width > 1) for (let at = 0; at < body.length; at += width) body.subarray(at, at + width).reverse();
  return { shape, data: new type(body.buffer) };
}

/** Grey pictures with their labels from a pair of IDX files, gzip or not. */
export async function openIdxPictures(
  imagesPath: string,
  labelsPath: string,
): Promise<Dataset<{ image: Picture; label: number }>> {
  const images = decodeIdx(await readBytes(imagesPath), imagesPath);
  const labels = decodeIdx(await readBytes(labelsPath), labelsPath);
  const [count, height, width] = images.shape as [number, number, number];
  if (images.shape.length !== 3 || !(images.data instanceof Uint8Array))
    throw new FormatError(
      `${imagesPath}: expected bytes of shape [N, H, W], got [${images.shape.join(", ")}]`,
    );
  if (labels.shape.length !== 1 || labels.shape[0] !== count)
    throw new FormatError(`${labelsPath}: expected ${count} labels, got [${labels.shape.join(", ")}]`);
  const pixels = images.data;
  const size = width * height;
  return dataset(count, (i) => ({
    image: { width, height, channels: 1, data: pixels.subarray(i * size, (i + 1) * size) },
    label: Number(labels.data[i]),
  }));
}

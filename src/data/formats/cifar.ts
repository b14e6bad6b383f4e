/** CIFAR: the binary batches, and PNG sheets with one picture a row. */
import { FormatError } from "../../errors.ts";
import { decodePicture, type Picture } from "../../io/picture-codec.ts";
import { concatDatasets, type Dataset, dataset } from "../dataset.ts";
import { readBytes } from "../files.ts";

/** A picture and its label. */
export interface LabelledPicture {
  readonly image: Picture;
  readonly label: number;
}

const SIDE = 32;
const PIXELS = SIDE * SIDE;

/** Batches of the binary version. `labelBytes` is 1 for CIFAR-10, 2 for CIFAR-100 (coarse, fine: the last counts). */
export async function openCifarBinary(
  paths: readonly string[],
  labelBytes = 1,
): Promise<Dataset<LabelledPicture>> {
  const record = labelBytes + 3 * PIXELS;
  const batches = await Promise.all(
    paths.map(async (path) => {
      const bytes = await readBytes(path);
      if (bytes.length === 0 || bytes.length % record !== 0)
        throw new FormatError(`${path}: ${bytes.length} bytes are no whole number of records of ${record}`);
      return dataset(bytes.length / record, (i) => {
        const start = i * record + labelBytes;
        const data = new Uint8Array(3 * PIXELS);
        for (let c = 0; c < 3; c++)
          for (let p = 0; p < PIXELS; p++) data[3 * p + c] = bytes[start + c * PIXELS + p]!;
        return { image: { width: SIDE, height: SIDE, channels: 3, data }, label: bytes[start - 1]! };
      });
    }),
  );
  return concatDatasets(...batches);
}

/** A PNG sheet of 1024 columns: row i holds the pixels of picture i in raster order. */
export async function openCifarSheet(
  path: string,
  labels: readonly number[],
): Promise<Dataset<LabelledPicture>> {
  const sheet = await decodePicture(await readBytes(path), { name: path });
  if (sheet.width !== PIXELS)
    throw new FormatError(`${path}: expected ${PIXELS} columns, got ${sheet.width}`);
  if (labels.length !== sheet.height)
    throw new FormatError(`${path}: ${sheet.height} pictures but ${labels.length} labels`);
  const row = 3 * PIXELS;
  return dataset(sheet.height, (i) => ({
    image: {
      width: SIDE,
      height: SIDE,
      channels: 3,
      data: (sheet.data as Uint8Array).subarray(i * row, (i + 1) * row),
    },
    label: labels[i]!,
  }));
}

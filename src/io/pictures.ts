/** Pictures as tensors: any format that sharp reads comes in, 8-bit PNG goes out. */
import sharp from "#sharp";
import { ShapeError } from "../errors.ts";
import { fromHost, type Tensor } from "../tensor/index.ts";
import { decodePicture, type PictureSize, pictureMetadata } from "./picture-codec.ts";
import { readFileBytes } from "./read-bytes.ts";

/** Options of `pictureSize`, `readPicture` and `readMask`. */
export interface ReadPictureOptions {
  /** Scaled (Lanczos) and cut at the edges to this size. Default: as it is. */
  readonly size?: PictureSize;
}

/** Most pixels of a picture that is read as a tensor: sharp's own limit. */
const MAX_TENSOR_PIXELS = 0x3fff ** 2;

/** Width and height of a picture the way it is looked at. @throws {FormatError} when it is none */
export async function pictureSize(path: string): Promise<PictureSize> {
  const { width, height } = (await pictureMetadata(await readFileBytes(path), path)).autoOrient;
  return { width, height };
}

/** Bytes of a picture in colours, [H, W, 3]; of a file with several pages the first. */
async function readPixels(path: string, { size }: ReadPictureOptions) {
  const rules = { background: "none", page: 0, maxPixels: MAX_TENSOR_PIXELS, name: path } as const;
  const { width, height, channels, data } = await decodePicture(await readFileBytes(path), {
    ...rules,
    ...(size && { size }),
  });
  if (channels === 3) return { width, height, rgb: data };
  const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => data[Math.floor(i / 3) * channels]!);
  return { width, height, rgb };
}

/** A picture as [1, 3, H, W] with values in [-1, 1]; transparency is left out. @throws {FormatError} when it is none */
export async function readPicture(path: string, options: ReadPictureOptions = {}): Promise<Tensor> {
  const { width, height, rgb } = await readPixels(path, options);
  const plane = width * height;
  const values = Float32Array.from(
    { length: 3 * plane },
    (_, i) => rgb[(i % plane) * 3 + Math.floor(i / plane)]! / 127.5 - 1,
  );
  return fromHost("f32", [1, 3, height, width], values);
}

/** A picture's brightness (ITU-R 601) as [1, 1, H, W] with values in [0, 1]. @throws {FormatError} when it is none */
export async function readMask(path: string, options: ReadPictureOptions = {}): Promise<Tensor> {
  const { width, height, rgb } = await readPixels(path, options);
  const luma = (i: number): number =>
    (rgb[3 * i]! * 19595 + rgb[3 * i + 1]! * 38470 + rgb[3 * i + 2]! * 7471 + 0x8000) >> 16;
  const values = Float32Array.from({ length: width * height }, (_, i) => luma(i) / 255);
  return fromHost("f32", [1, 1, height, width], values);
}

/** Sample `index` of x [N, 3 or 1, H, W] with values in [-1, 1] as 8-bit [H, W, 3]. @throws {ShapeError} for another shape */
export async function toPixels(x: Tensor, index = 0): Promise<Uint8Array> {
  const [n, channels, h, w] = x.shape as [number, number, number, number];
  if (x.rank !== 4 || (channels !== 1 && channels !== 3) || index >= n)
    throw new ShapeError(`toPixels: expected [N, 1 or 3, H, W] with N above ${index}, got [${x.shape}]`);
  const values = (await x.data()) as Float32Array;
  const plane = h * w;
  const start = index * channels * plane;
  const rgb = new Uint8Array(plane * 3);
  for (let c = 0; c < 3; c++) {
    const from = start + (c % channels) * plane;
    for (let i = 0; i < plane; i++)
      rgb[3 * i + c] = Math.min(255, Math.max(0, Math.round((values[from + i]! + 1) * 127.5)));
  }
  return rgb;
}

/** Bytes of a PNG of pixels [H, W, 3], scaled to another size when one is given. The same pixels give the same bytes. */
export function encodePng(rgb: Uint8Array, size: PictureSize, shownAs?: PictureSize): Promise<Buffer> {
  const picture = sharp(rgb, { raw: { width: size.width, height: size.height, channels: 3 } });
  const scaled = shownAs ? picture.resize({ ...shownAs, fit: "fill", kernel: "cubic" }) : picture;
  return scaled.png().toBuffer();
}

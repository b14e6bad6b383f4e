/** Pictures as files have them through a network that restores: any size by tiles, any depth, gray and alpha. */
import {
  cropPlanes,
  type FloatPicture,
  padded,
  picturesToTensor,
  sizeFor,
  toFloatPicture,
} from "../data/index.ts";
import { ArgumentError, NonFiniteError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import { mapTiles, type Restorer, type TileProgress } from "../networks/index.ts";
import { fromHost, jit, type Tensor } from "../tensor/index.ts";

/** How pictures of any size are restored. */
export interface RestoreOptions {
  /** Side of a tile in pixels; pictures that fit go through as a whole. Default 512. */
  readonly tile?: number;
  /**
   * Pixels that neighbouring tiles share. Default: so many that tiles are as the whole, which is twice what a pixel depends
   * on and a seam of 16. Fewer make seams.
   */
  readonly overlap?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A network made ready to restore pictures. Close it when done. */
export interface Restoring {
  readonly net: Restorer;
  /** A batch in [0, 1], any size; not cut off. // [N, C, H, W] */
  restoreTensor(y: Tensor, options?: RestoreOptions): AsyncGenerator<TileProgress, Tensor>;
  /**
   * A picture of its own size, depth and number of channels. Gray goes through a network of colours three times alike and
   * comes back as the mean; alpha stays as it is. @throws ArgumentError for colours through a network of gray pictures,
   * NonFiniteError for NaN and infinities
   */
  restore(picture: Picture, options?: RestoreOptions): AsyncGenerator<TileProgress, Picture>;
  /** Frees what is compiled. */
  close(): Promise<void>;
}

/** Colours of a picture without its alpha. // [H, W, C] */
function colours({ data, channels, ...size }: FloatPicture): FloatPicture {
  const kept = channels >= 3 ? 3 : 1;
  if (kept === channels) return { data, channels, ...size };
  const out = new Float32Array(size.width * size.height * kept);
  for (let i = 0; i < out.length; i++) out[i] = data[Math.floor(i / kept) * channels + (i % kept)]!;
  return { ...size, channels: kept, data: out };
}

/** What a network takes of a picture. // [1, C, H, W] */
function inputOf(picture: FloatPicture, net: Restorer): Tensor {
  const seen = colours(picture);
  const at = seen.data.findIndex((v) => !Number.isFinite(v));
  if (at >= 0) throw new NonFiniteError(`the picture has ${seen.data[at]} at element ${at}`);
  if (seen.channels === net.channels) return picturesToTensor([seen], "unit");
  if (seen.channels === 3)
    throw new ArgumentError(
      `the network restores pictures of ${net.channels} channel, got ${picture.channels}; make the picture gray`,
    );
  const data = Float32Array.from({ length: 3 * seen.data.length }, (_, i) => seen.data[Math.floor(i / 3)]!);
  return picturesToTensor([{ ...seen, channels: 3, data }], "unit");
}

/** Values back in the kind of a picture: its depth, its channels, its alpha. */
function likePicture(picture: Picture, values: Float32Array, netChannels: number): Picture {
  const { width, height, channels, data } = picture;
  const plane = width * height;
  const most = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65_535 : 1;
  const out = data.slice() as typeof data;
  const shown = channels >= 3 ? 3 : 1;
  for (let i = 0; i < plane; i++)
    for (let c = 0; c < shown; c++) {
      let value = values[c * plane + i]!;
      if (netChannels > shown) value = (value + values[plane + i]! + values[2 * plane + i]!) / 3;
      const cut = most * Math.min(1, Math.max(0, value));
      out[i * channels + c] = most === 1 ? cut : Math.round(cut);
    }
  return { ...picture, data: out };
}

/** Compiles a network with its weights; `threads` of each run. */
export function openRestoring(net: Restorer, settings: { readonly threads?: number } = {}): Restoring {
  const run = jit((y: Tensor) => net.restore(y), settings);
  const { sizeFactor, reach } = net;
  const seam = sizeFactor * Math.ceil(reach / sizeFactor);

  async function* restoreTensor(
    y: Tensor,
    options: RestoreOptions = {},
  ): AsyncGenerator<TileProgress, Tensor> {
    const { tile = 512, overlap = 2 * seam + 16, signal } = options;
    const [n, c, height, width] = y.shape as [number, number, number, number];
    const whole = await padded(y, sizeFactor);
    const units = {
      tile: Math.max(1, Math.ceil(tile / sizeFactor)),
      overlap: Math.ceil(overlap / sizeFactor),
      signal,
    };
    if (units.overlap >= units.tile)
      throw new ArgumentError(
        `tiles of ${tile} pixels are too small to overlap by ${overlap}; make them larger, or the overlap smaller`,
      );
    // Less overlap than the network sees is the caller's choice: then all of it is faded over.
    const margin = 2 * seam < overlap ? seam / sizeFactor : 0;
    const scales = { input: sizeFactor, output: sizeFactor };
    const single = height <= tile && width <= tile;
    const restored = yield* mapTiles(
      run,
      whole,
      scales,
      single ? { tile: Infinity, signal } : { ...units, margin },
    );
    const values = (await restored.data()) as Float32Array;
    const own = cropPlanes(values, sizeFor([height, width], sizeFactor), [height, width]);
    return fromHost("f32", [n, c, height, width], own);
  }

  async function* restore(
    picture: Picture,
    options: RestoreOptions = {},
  ): AsyncGenerator<TileProgress, Picture> {
    const restored = yield* restoreTensor(inputOf(toFloatPicture(picture), net), options);
    return likePicture(picture, (await restored.data()) as Float32Array, net.channels);
  }

  return { net, restoreTensor, restore, close: () => run.close() };
}

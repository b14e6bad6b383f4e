/**
 * Images of any size through an autoencoder in memory that does not grow with them: sample by sample, in tiles that
 * overlap and are blended. Norms see one tile at a time, so the result is not exactly that of the whole.
 */
import { AbortError, ArgumentError } from "../../errors.ts";
import { fromHost, jit, type Tensor } from "../../tensor/index.ts";
import type { AutoencoderKL } from "../autoencoder-kl.ts";
import type { AutoencoderTiny } from "../autoencoder-tiny.ts";
import { checkMap } from "../check-map.ts";
import type { SpaceToDepth } from "../space-to-depth.ts";

/** Options of `tileCount`, `mapTiles` and `decodeTiles`. */
export interface TileOptions {
  /** Height and width of a tile in latent points; `Infinity`: only the samples are taken one by one. Default 64. */
  readonly tile?: number;
  /** Latent points that neighbours share at least, over which one fades into the other. Default a quarter of a tile. */
  readonly overlap?: number;
  /**
   * Points at the inner edges of a tile that are left out, because what lies beyond them would count: as many as the network
   * sees to each side make tiles equal to the whole. Less than half of the overlap. Default 0.
   */
  readonly margin?: number;
  /** Ends the work with an `AbortError` before the next tile. */
  readonly signal?: AbortSignal;
  /** The compiled coder for maps [1, C, H, W]; default: it is compiled here, once, and closed at the end. */
  readonly run?: (tile: Tensor) => Promise<Tensor>;
}

/** What is yielded after each tile. */
export interface TileProgress {
  readonly done: number;
  readonly total: number;
}

/** Position of a tile along one axis, in latent points, and the weight of each of its points. */
interface Span {
  readonly start: number;
  readonly size: number;
  /** Weight of each output point; the weights of all tiles add up to 1. */
  readonly weights: Float32Array;
}

/** Tiles of equal size, evenly spread from end to end. */
function spans(length: number, tile: number, overlap: number, margin: number, scale: number): Span[] {
  const size = Math.min(length, tile);
  const count = length <= tile ? 1 : Math.ceil((length - overlap) / (tile - overlap));
  const starts = Array.from({ length: count }, (_, k) =>
    count === 1 ? 0 : Math.round((k * (length - size)) / (count - 1)),
  );
  const fade = Math.max(1, overlap - 2 * margin) * scale;
  const at = (i: number): number => Math.max(0, (i + 0.5 - margin * scale) / fade);
  const ramps = starts.map((_, k) =>
    Float32Array.from({ length: size * scale }, (_, i) => {
      const left = k === 0 ? 1 : at(i);
      const right = k === count - 1 ? 1 : at(size * scale - i - 1);
      return Math.min(1, left, right);
    }),
  );
  const sums = new Float64Array(length * scale);
  starts.forEach((start, k) => {
    ramps[k]!.forEach((w, i) => {
      sums[start * scale + i]! += w;
    });
  });
  return starts.map((start, k) => ({
    start,
    size,
    weights: ramps[k]!.map((w, i) => w / sums[start * scale + i]!),
  }));
}

/** A map [N, C, H, W] on the host. */
interface HostMap {
  readonly values: Float32Array;
  readonly shape: readonly [number, number, number, number];
}

/** The part of one sample below two spans, `scale` points of the map to a latent point. */
function cut(
  { values, shape: [, c, h, w] }: HostMap,
  sample: number,
  rows: Span,
  columns: Span,
  scale: number,
) {
  const [height, width] = [rows.size * scale, columns.size * scale];
  const part = new Float32Array(c * height * width);
  for (let channel = 0; channel < c; channel++) {
    for (let row = 0; row < height; row++) {
      const from = ((sample * c + channel) * h + rows.start * scale + row) * w + columns.start * scale;
      part.set(values.subarray(from, from + width), (channel * height + row) * width);
    }
  }
  return fromHost("f32", [1, c, height, width], part);
}

/** Adds a tile, weighted, to one sample. */
function blend(into: HostMap, sample: number, tile: Float32Array, rows: Span, columns: Span, scale: number) {
  const [, c, h, w] = into.shape;
  const [height, width] = [rows.weights.length, columns.weights.length];
  for (let channel = 0; channel < c; channel++) {
    for (let row = 0; row < height; row++) {
      const to = ((sample * c + channel) * h + rows.start * scale + row) * w + columns.start * scale;
      const from = (channel * height + row) * width;
      const weight = rows.weights[row]!;
      for (let i = 0; i < width; i++) into.values[to + i]! += weight * columns.weights[i]! * tile[from + i]!;
    }
  }
}

/** Points of input and of output to a latent point. */
export interface TileScales {
  readonly input: number;
  readonly output: number;
}

/** How many tiles `mapTiles` makes of maps [N, C, H, W]. */
export function tileCount(
  [n, , h, w]: Tensor["shape"],
  { input, output }: TileScales,
  options: Omit<TileOptions, "run"> = {},
): number {
  const { tile = 64, overlap = defaultOverlap(tile), margin = 0 } = options;
  const count = (size: number): number => spans(size / input, tile, overlap, margin, output).length;
  return n! * count(h!) * count(w!);
}

const defaultOverlap = (tile: number): number => (Number.isFinite(tile) ? Math.floor(tile / 4) : 0);

/**
 * Maps x [N, C, H, W] by `run`, which is given [1, C, h, w] of one size, and blends what it returns: any network that
 * works at a fixed ratio of sizes. Height and width are multiples of `input`; `tile` and `overlap` count in units of it.
 */
export async function* mapTiles(
  run: (tile: Tensor) => Promise<Tensor>,
  x: Tensor,
  { input, output }: TileScales,
  options: Omit<TileOptions, "run"> = {},
): AsyncGenerator<TileProgress, Tensor> {
  checkTiles(options);
  const { tile = 64, margin = 0, signal } = options;
  const { overlap = defaultOverlap(tile) } = options;
  const [n, , h, w] = x.shape as [number, number, number, number];
  const rows = spans(h / input, tile, overlap, margin, output);
  const columns = spans(w / input, tile, overlap, margin, output);
  const source: HostMap = { values: (await x.data()) as Float32Array, shape: x.shape as HostMap["shape"] };
  const total = n * rows.length * columns.length;
  let result: HostMap | undefined;
  let done = 0;
  for (let sample = 0; sample < n; sample++) {
    for (const row of rows) {
      for (const column of columns) {
        if (signal?.aborted) throw new AbortError();
        const tile = await run(cut(source, sample, row, column, input));
        const shape = [n, tile.shape[1]!, (h / input) * output, (w / input) * output] as const;
        result ??= { values: new Float32Array(shape.reduce((a, b) => a * b)), shape };
        blend(result, sample, (await tile.data()) as Float32Array, row, column, output);
        yield { done: ++done, total };
      }
    }
  }
  return fromHost("f32", result!.shape, result!.values);
}

function checkTiles({ tile = 64, overlap = 0, margin = 0 }: TileOptions): void {
  const whole = (v: number): boolean => Number.isInteger(v) || v === Number.POSITIVE_INFINITY;
  if (!whole(tile) || tile < 1)
    throw new ArgumentError(`tile: expected a positive integer or Infinity, got ${tile}`);
  if (!Number.isInteger(overlap) || overlap < 0 || overlap >= tile)
    throw new ArgumentError(
      `overlap: expected an integer from 0 to below the tile of ${tile}, got ${overlap}`,
    );
  if (!Number.isInteger(margin) || margin < 0 || (margin > 0 && 2 * margin >= overlap))
    throw new ArgumentError(
      `margin: expected an integer from 0 to below half of the overlap of ${overlap}, got ${margin}`,
    );
}

type Autoencoder = AutoencoderKL | AutoencoderTiny | SpaceToDepth;

/** `mapTiles` by a method of an autoencoder, compiled unless the caller brings it. */
async function* coded(
  vae: Autoencoder,
  method: (vae: Autoencoder, x: Tensor) => Tensor,
  x: Tensor,
  scales: TileScales,
  options: TileOptions,
): AsyncGenerator<TileProgress, Tensor> {
  checkTiles(options);
  if (options.run) return yield* mapTiles(options.run, x, scales, options);
  const compiled = jit(method);
  try {
    return yield* mapTiles((tile) => compiled(vae, tile), x, scales, options);
  } finally {
    await compiled.close();
  }
}

/**
 * Decodes latents z [N, Z, h, w] (not scaled) sample by sample and tile by tile; yields after each, returns images
 * [N, C, f h, f w]. Throws `ArgumentError` for tiles that do not fit, `ShapeError` for other latents.
 */
export async function* decodeTiles(
  vae: Autoencoder,
  z: Tensor,
  options: TileOptions = {},
): AsyncGenerator<TileProgress, Tensor> {
  checkMap("decodeTiles", z, vae.latentChannels);
  return yield* coded(vae, (v, t) => v.decode(t), z, { input: 1, output: vae.sizeFactor }, options);
}

/**
 * Encodes images x [N, C, H, W] in [-1, 1] sample by sample and tile by tile; yields after each, returns the moments
 * of `AutoencoderKL` (see `gaussianOf`) or the latents of the others, [N, *, H / f, W / f].
 */
export async function* encodeTiles(
  vae: Autoencoder,
  x: Tensor,
  options: TileOptions = {},
): AsyncGenerator<TileProgress, Tensor> {
  checkMap("encodeTiles", x, vae.inChannels, vae.sizeFactor);
  const method = (v: Autoencoder, t: Tensor): Tensor => ("moments" in v ? v.moments(t) : v.encode(t));
  return yield* coded(vae, method, x, { input: vae.sizeFactor, output: 1 }, options);
}

async function last<T>(steps: AsyncGenerator<unknown, T>): Promise<T> {
  for (;;) {
    const { done, value } = await steps.next();
    if (done) return value as T;
  }
}

/** The result of `decodeTiles`. */
export const decodeTiled = (vae: Autoencoder, z: Tensor, options?: TileOptions): Promise<Tensor> =>
  last(decodeTiles(vae, z, options));

/** The result of `encodeTiles`. */
export const encodeTiled = (vae: Autoencoder, x: Tensor, options?: TileOptions): Promise<Tensor> =>
  last(encodeTiles(vae, x, options));

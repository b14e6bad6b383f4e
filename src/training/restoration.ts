/** Training of networks that restore pictures: crops of pairs, pixel losses, and a place for a further loss on what is restored. */
import {
  createDraw,
  type Dataset,
  type Degradation,
  type Draw,
  type FloatPicture,
  picturesToTensor,
  type RestorationPair,
  toFloatPicture,
} from "../data/index.ts";
import { ArgumentError, NonFiniteError, ShapeError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import type { Restorer } from "../networks/index.ts";
import { charbonnier, constantDecay, type LossParts, type TrainState } from "../nn/index.ts";
import { jit, type Seed, type Tensor } from "../tensor/index.ts";
import type { Work } from "../work.ts";
import { epochIndices } from "./batches.ts";
import { type PhaseResult, type PhaseSettings, runPhase } from "./phase.ts";

/** A square part of a picture, turned and mirrored in one of eight ways. */
function part(picture: FloatPicture, size: number, left: number, top: number, way: number): FloatPicture {
  const { width, channels, data } = picture;
  const out = new Float32Array(size * size * channels);
  const [turned, mirrored, upside] = [way & 1, way & 2, way & 4];
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const [u, v] = turned ? [y, x] : [x, y];
      const [sx, sy] = [left + (mirrored ? size - 1 - u : u), top + (upside ? size - 1 - v : v)];
      const from = (sy * width + sx) * channels;
      const to = (y * size + x) * channels;
      for (let c = 0; c < channels; c++) out[to + c] = data[from + c]!;
    }
  return { width: size, height: size, channels, data: out };
}

/** Crops of one size from pictures or pairs of them. */
export interface CropSource {
  readonly length: number;
  /** A random crop of sample `index`; `epoch` draws it anew. */
  crop(index: number, epoch: number, size: number): Promise<Omit<RestorationPair, "name">>;
}

function placeOf({ width, height }: FloatPicture, size: number, draw: Draw, name: string) {
  if (width < size || height < size)
    throw new ShapeError(
      `${name}: a picture of ${width}x${height} is smaller than the crop of ${size}; choose a smaller crop, or enlarge it`,
    );
  return [draw.integer(width - size + 1), draw.integer(height - size + 1), draw.integer(8)] as const;
}

const finite = (picture: FloatPicture, name: string): FloatPicture => {
  const at = picture.data.findIndex((v) => !Number.isFinite(v));
  if (at >= 0) throw new NonFiniteError(`${name}: the picture has ${picture.data[at]} at element ${at}`);
  return picture;
};

/** Crops of clean pictures, degraded on the spot. */
export const degradedCrops = (
  source: Dataset<{ readonly image: Picture; readonly name?: string }>,
  { step }: Degradation,
  seed: Seed,
): CropSource => ({
  length: source.length,
  async crop(index, epoch, size) {
    const { image, name = `picture ${index}` } = await source.get(index, epoch);
    const picture = finite(toFloatPicture(image), name);
    const draw = createDraw(seed, index, epoch, "degraded crop");
    const clean = part(picture, size, ...placeOf(picture, size, draw, name));
    const { image: degraded } = await step({ image: { ...clean, data: clean.data.slice() } }, draw);
    return { clean, degraded };
  },
});

/** Crops at one place of both sides of pairs. */
export const pairedCrops = (source: Dataset<RestorationPair>, seed: Seed): CropSource => ({
  length: source.length,
  async crop(index, epoch, size) {
    const { name, clean, degraded } = await source.get(index, epoch);
    if (clean.width !== degraded.width || clean.height !== degraded.height)
      throw new ShapeError(
        `${name}: the degraded picture is ${degraded.width}x${degraded.height}, its truth ${clean.width}x${clean.height}`,
      );
    const place = placeOf(finite(clean, name), size, createDraw(seed, index, epoch, "paired crop"), name);
    return { clean: part(clean, size, ...place), degraded: part(finite(degraded, name), size, ...place) };
  },
});

/** Degraded crops and their truth in [0, 1]. // [N, C, S, S] */
export interface RestorationBatch {
  readonly degraded: Tensor;
  readonly clean: Tensor;
}

/** Batches of crops: a pure function of the step. @throws ArgumentError for an empty source or a batch below 1 */
export function restorationBatches(
  source: CropSource,
  { batch, crop, seed }: { readonly batch: number; readonly crop: number; readonly seed: Seed },
): (step: number) => Promise<RestorationBatch> {
  const indices = epochIndices(source.length, batch, seed);
  return async (step) => {
    const crops = await Promise.all(
      // The number of the draw is that of the step: no two crops of a run are degraded alike.
      Array.from(indices(step), (index, i) => source.crop(index, step * batch + i, crop)),
    );
    return {
      degraded: picturesToTensor(
        crops.map(({ degraded }) => degraded),
        "unit",
      ),
      clean: picturesToTensor(
        crops.map(({ clean }) => clean),
        "unit",
      ),
    };
  };
}

/** Distances between restored and clean pictures, both in [-1, 1]. */
export const PIXEL_LOSSES = {
  l1: (z: Tensor, x: Tensor): Tensor => z.sub(x).abs().mean(),
  mse: (z: Tensor, x: Tensor): Tensor => z.sub(x).square().mean(),
  charbonnier: (z: Tensor, x: Tensor): Tensor => charbonnier(z, x),
} as const;
/** Name of a loss of pixels. */
export type PixelLoss = keyof typeof PIXEL_LOSSES;

/** A loss beside that of the pixels. */
export interface FurtherLoss<Extra> {
  /** What it needs beside the pictures: its random parts of a step, networks that are not trained. A pure function. */
  extra(step: number, shape: readonly number[]): Extra;
  /** Of restored pictures (not clipped) and the truth, both in [-1, 1]. Weights are included. */
  loss(restored: Tensor, clean: Tensor, extra: Extra): LossParts;
}

export interface RestorerSettings extends PhaseSettings {
  /** Side of the crops in pixels. */
  readonly crop: number;
  readonly seed: number;
  readonly pixel: PixelLoss;
  /** EMA decay; absent: none. */
  readonly ema?: number;
}

/** A batch with what the further loss needs. */
export type FurtherBatch<Extra> = RestorationBatch & { readonly extra?: Extra };

const signed = (t: Tensor): Tensor => t.mul(2).sub(1);

/** L = pixel(z, x) + further(z, x), with z = 2 R(y) - 1 and x = 2 clean - 1. */
export const restorationLoss =
  <Extra>(pixel: PixelLoss, further?: FurtherLoss<Extra>) =>
  (net: Restorer, { degraded, clean, extra }: FurtherBatch<Extra>): LossParts => {
    const [z, x] = [signed(net.restore(degraded)), signed(clean)];
    const pixels = PIXEL_LOSSES[pixel](z, x);
    if (!further) return { loss: pixels, metrics: { [pixel]: pixels } };
    const other = further.loss(z, x, extra as Extra);
    return { loss: pixels.add(other.loss), metrics: { [pixel]: pixels, ...other.metrics } };
  };

/** What the training of a restoration network needs. */
export interface RestorerTraining<Extra> {
  readonly stage: string;
  readonly net: Restorer;
  readonly source: CropSource;
  readonly settings: RestorerSettings;
  readonly further?: FurtherLoss<Extra> | undefined;
  /** What else decides the further loss, plain data: a run that goes on must have the same. */
  readonly furtherSettings?: object | undefined;
  /** Pairs of one size whose PSNR is a curve. */
  readonly heldOut?: RestorationBatch | undefined;
  readonly look?: ((net: Restorer) => Work<void>) | undefined;
  readonly lookEvery?: number | undefined;
  readonly folder?: string | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const kept = ({ model, ema }: TrainState<Restorer>): Restorer => ema ?? model;

/** Mean PSNR of restored pictures, in dB, cut off to [0, 1]. */
function judge(heldOut: RestorationBatch, threads: number | undefined) {
  const run = jit(
    (net: Restorer, { degraded, clean }: RestorationBatch) =>
      net
        .restore(degraded)
        .clip(0, 1)
        .sub(clean)
        .square()
        .mean([1, 2, 3])
        .log()
        .mul(-10 / Math.LN10)
        .mean(),
    threads === undefined ? {} : { threads },
  );
  return {
    close: () => run.close(),
    validate: async (state: TrainState<Restorer>) => ({
      "held-out PSNR": await (await run(kept(state), heldOut)).item(),
    }),
  };
}

/** Trains a network; `final` is the one to keep. @throws as `runPhase` does, and as crops do for pictures that do not fit */
export async function* trainRestorer<Extra = undefined>(
  training: RestorerTraining<Extra>,
): Work<PhaseResult<Restorer>> {
  const { stage, net, source, settings, further, furtherSettings, heldOut, look, ...rest } = training;
  const { crop, ema } = settings;
  if (!Number.isInteger(crop) || crop < 1 || crop % net.sizeFactor !== 0)
    throw new ArgumentError(
      `${stage}: the crop must be a multiple of the network's ${net.sizeFactor}, got ${crop}`,
    );
  if (ema !== undefined && !(ema >= 0 && ema < 1))
    throw new ArgumentError(`${stage}: expected an EMA decay in [0, 1), got ${ema}`);
  const batches = restorationBatches(source, settings);
  const held = heldOut && judge(heldOut, rest.threads);
  try {
    return yield* runPhase<Restorer, FurtherBatch<Extra>>({
      stage,
      settings: { ...settings, ...(furtherSettings && { further: furtherSettings }) } as PhaseSettings,
      model: net,
      loss: restorationLoss(settings.pixel, further),
      batch: async (step) => {
        const batch = await batches(step);
        return further ? { ...batch, extra: further.extra(step, batch.clean.shape) } : batch;
      },
      ...(ema !== undefined && { ema: constantDecay(ema) }),
      ...(held && { validate: held.validate }),
      ...(look && { look: (state: TrainState<Restorer>) => look(kept(state)) }),
      validateEvery: rest.lookEvery,
      folder: rest.folder,
      threads: rest.threads,
      signal: rest.signal,
    });
  } finally {
    await held?.close();
  }
}

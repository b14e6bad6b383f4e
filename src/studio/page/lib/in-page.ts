/** Inference wholly in the page: the model and onnxruntime-web are fetched once; after that no server is needed. */
import type * as Ort from "onnxruntime-web";
import { webThreads } from "../../../tensor/runtime/web-threads.ts";
import { browserModelUrl } from "./api.ts";

export type InPageDevice = "webgpu" | "wasm";

export interface InPageModel {
  readonly device: InPageDevice;
  readonly size: number;
  readonly bytes: number;
  /** The model's output, plane by plane: one of probabilities, or three of colours in [0, 1]. // [C, size, size] */
  run(pixels: ImageData): Promise<Float32Array>;
}

/** `navigator.gpu` alone promises nothing: there may be no adapter behind it. */
async function hasGpu(): Promise<boolean> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  return (await gpu?.requestAdapter().catch(() => null)) != null;
}

/** RGBA bytes as planes in [0, 1]. // [1, 3, size, size] */
export function planesOf({ data }: Pick<ImageData, "data">): Float32Array {
  const plane = data.length / 4;
  const values = new Float32Array(3 * plane);
  for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) values[c * plane + i] = data[4 * i + c]! / 255;
  return values;
}

async function openOn(device: InPageDevice, model: Uint8Array, size: number): Promise<InPageModel> {
  const address = `/ort/ort.${device}.min.mjs`; // served as it is; a bundler must not follow it
  const ort = (await import(/* @vite-ignore */ address)) as typeof Ort;
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = webThreads();
  const session = await ort.InferenceSession.create(model, { executionProviders: [device] });
  const run = async (planes: Float32Array): Promise<Float32Array> => {
    const image = new ort.Tensor("float32", planes, [1, 3, size, size]);
    const [output] = Object.values(await session.run({ image }));
    return (await output!.getData()) as Float32Array;
  };
  await run(new Float32Array(3 * size * size)); // compiles kernels and loads what is loaded late
  return { device, size, bytes: model.length, run: (pixels) => run(planesOf(pixels)) };
}

/** Fetches a model and makes it ready, on the graphics card where there is one that can run it. */
export async function openInPage(tool: string, size: number, checkpoint?: string): Promise<InPageModel> {
  const response = await fetch(browserModelUrl(tool, size, checkpoint));
  if (!response.ok) throw new Error(((await response.json()) as { error: string }).error);
  const model = new Uint8Array(await response.arrayBuffer());
  if (await hasGpu()) {
    try {
      return await openOn("webgpu", model, size);
    } catch (error) {
      console.warn("WebGPU cannot run this model, wasm does", error);
    }
  }
  return openOn("wasm", model, size);
}

/** Most pixels of a picture that is computed in the page. */
const MOST_PIXELS = 16_000_000;

/** Browsers that guard against tracking give back other pixels than were drawn: one that does is found out by a few. */
function checkCanvas(): void {
  const canvas = new OffscreenCanvas(8, 8);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  const known = new ImageData(8, 8);
  for (let i = 0; i < known.data.length; i++) known.data[i] = i % 4 === 3 ? 255 : (37 * i) % 256;
  context.putImageData(known, 0, 0);
  const read = context.getImageData(0, 0, 8, 8).data;
  if (read.some((v, i) => v !== known.data[i]))
    throw new Error(
      "This browser changes the pixels that a page reads (protection against fingerprinting). Use Run, or allow canvas data for this page.",
    );
}

/** All pixels of a picture. @throws Error for what the browser cannot decode, or changes */
export async function pixelsOf(picture: Blob): Promise<ImageData> {
  checkCanvas();
  const bitmap = await createImageBitmap(picture).catch(() => {
    throw new Error("This browser cannot decode that picture. PNG, JPEG and WebP go here; Run takes TIFF as well.");
  });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS)
    throw new Error(`${width} x ${height} pixels are too many for the page; Run takes them.`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** Beginnings of tiles along a side: each overlaps its neighbour by an eighth or more, the last ends with the side. */
export function tileStarts(side: number, tile: number): number[] {
  if (side <= tile) return [0];
  const count = Math.ceil((side - tile) / (tile - Math.ceil(tile / 8))) + 1;
  return Array.from({ length: count }, (_, i) => Math.round((i * (side - tile)) / (count - 1)));
}

/** A square of a picture; beyond its edges, its mirror image. */
function square({ data, width, height }: ImageData, left: number, top: number, size: number): ImageData {
  const mirrored = (at: number, side: number): number => {
    const period = Math.max(1, 2 * side - 2);
    const place = at % period;
    return place < side ? place : period - place;
  };
  const out = new ImageData(size, size);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const from = 4 * (mirrored(top + y, height) * width + mirrored(left + x, width));
      out.data.set(data.subarray(from, from + 4), 4 * (y * size + x));
    }
  return out;
}

/**
 * What a model gives for a picture of any size, at its own scale: tile by tile, those that overlap in mean, weighed less
 * towards their edges. // [planes, height, width]
 */
export async function inTiles(
  model: Pick<InPageModel, "size" | "run">,
  pixels: ImageData,
  planes: 1 | 3,
  onTile: (done: number, total: number) => void = () => {},
): Promise<Float32Array> {
  const { width, height } = pixels;
  const { size } = model;
  const [rows, columns] = [tileStarts(height, size), tileStarts(width, size)];
  const plane = width * height;
  const [sum, weights] = [new Float32Array(planes * plane), new Float32Array(plane)];
  const towardsEdge = (at: number): number => Math.min(at + 1, size - at) / size;
  let done = 0;
  for (const top of rows)
    for (const left of columns) {
      const found = await model.run(square(pixels, left, top, size));
      for (let y = 0; y < Math.min(size, height - top); y++)
        for (let x = 0; x < Math.min(size, width - left); x++) {
          const weight = towardsEdge(x) * towardsEdge(y);
          const at = (top + y) * width + left + x;
          for (let c = 0; c < planes; c++)
            sum[c * plane + at]! += weight * found[c * size * size + y * size + x]!;
          weights[at]! += weight;
        }
      onTile(++done, rows.length * columns.length);
    }
  return sum.map((v, i) => v / weights[i % plane]!);
}

/** Colours in [0, 1] as a picture, with the alpha of the one that was given. // [3, height, width] */
export function pictureOf(planes: Float32Array, { data, width, height }: ImageData): ImageData {
  const out = new ImageData(width, height);
  const plane = width * height;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) out.data[4 * i + c] = Math.round(255 * planes[c * plane + i]!);
    out.data[4 * i + 3] = data[4 * i + 3]!;
  }
  return out;
}

/** The picture with what was found in colour on it. */
export function painted(pixels: ImageData, probability: Float32Array): ImageData {
  const out = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  probability.forEach((p, i) => {
    const strength = 0.6 * Math.max(0, Math.min(1, p));
    const colour = [78, 121, 167] as const; // of label 1 where the server draws
    for (let c = 0; c < 3; c++)
      out.data[4 * i + c] = (1 - strength) * pixels.data[4 * i + c]! + strength * colour[c]!;
  });
  return out;
}

/** White where something was found. */
export function maskOf(probability: Float32Array, width: number, height: number): ImageData {
  const out = new ImageData(width, height);
  for (let i = 0; i < probability.length; i++) {
    const value = probability[i]! > 0.5 ? 255 : 0;
    out.data.set([value, value, value, 255], 4 * i);
  }
  return out;
}

/** Values as a NumPy file: what was computed, for other programs. // [height, width] */
export function npyFile(values: Float32Array, height: number, width: number): Blob {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${height}, ${width}), }`;
  const padded = text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11, " ");
  const header = new Uint8Array(10);
  header.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0]);
  new DataView(header.buffer).setUint16(8, padded.length + 1, true);
  return new Blob([header, `${padded}\n`, new Uint8Array(values.slice().buffer)]);
}

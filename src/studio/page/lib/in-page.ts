/** Inference wholly in the page: the model and onnxruntime-web are fetched once; after that no server is needed. */
import type * as Ort from "onnxruntime-web";
import { webThreads } from "../../../tensor/runtime/web-threads.ts";
import { browserModelUrl } from "./api.ts";

export type InPageDevice = "webgpu" | "wasm";

export interface InPageModel {
  readonly device: InPageDevice;
  readonly size: number;
  readonly bytes: number;
  /** Probability of every pixel, row by row. // [size, size] */
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
    const { probability } = await session.run({ image });
    return (await probability!.getData()) as Float32Array;
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

/** The middle of a picture, scaled to a square. */
export async function squarePixels(picture: Blob, size: number): Promise<ImageData> {
  const bitmap = await createImageBitmap(picture);
  const side = Math.min(bitmap.width, bitmap.height);
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.imageSmoothingEnabled = side !== size;
  context.imageSmoothingQuality = "high";
  context.drawImage(
    bitmap,
    (bitmap.width - side) / 2,
    (bitmap.height - side) / 2,
    side,
    side,
    0,
    0,
    size,
    size,
  );
  bitmap.close();
  return context.getImageData(0, 0, size, size);
}

/** The picture with what was found in colour on it. */
export function painted(pixels: ImageData, probability: Float32Array): ImageData {
  const out = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  probability.forEach((p, i) => {
    const strength = 0.6 * Math.max(0, Math.min(1, p));
    const colour = [240, 80, 60] as const;
    for (let c = 0; c < 3; c++)
      out.data[4 * i + c] = (1 - strength) * pixels.data[4 * i + c]! + strength * colour[c]!;
  });
  return out;
}

/** Values as a NumPy file: what was computed, for other programs. // [size, size] */
export function npyFile(values: Float32Array, size: number): Blob {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${size}, ${size}), }`;
  const padded = text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11, " ");
  const header = new Uint8Array(10);
  header.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0]);
  new DataView(header.buffer).setUint16(8, padded.length + 1, true);
  return new Blob([header, `${padded}\n`, new Uint8Array(values.slice().buffer)]);
}

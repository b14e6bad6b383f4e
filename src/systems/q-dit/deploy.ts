/** The real face: packed models and layers, their bytes, memory and time, and how well they agree with their simulation. */
import { stat } from "node:fs/promises";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import {
  createRng,
  IntegerLinear,
  isQuantized,
  Linear,
  type Module,
  modules,
  PackedLinear,
  packMatrix,
  parameters,
  quantizeMatrix,
  replaceLayers,
  SimulatedLinear,
  signalToNoiseDecibels,
  transposedCodes,
  unpackedWeight,
  withQuantized,
} from "../../nn/index.ts";
import { inTurns, type Times } from "../../study/index.ts";
import { exportOnnx, fromHost, jit, type Tensor } from "../../tensor/index.ts";
import { ONNX_RUNTIME } from "../../tensor/onnx/builder.ts";
import { type CalibrationBatch, type Groups, packedScheme, quantizeBlocks } from "./method.ts";
import { loadDiT } from "./model.ts";
import { peakMemory } from "./peak-memory.ts";

/** Packs a DiT with GPTQ block by block. */
export async function packDiT(
  model: DiTTransformer2DModel,
  bits: { readonly weights: number; readonly activations: 8 | 16 },
  groups: Groups,
  batches: readonly CalibrationBatch[],
): Promise<DiTTransformer2DModel> {
  const scheme = packedScheme(bits, groups, model.transformerBlocks.length);
  return withQuantized(model, await quantizeBlocks(model, scheme, batches), "packed");
}

/** A packed model in floats: the same codes and scales, inputs rounded as the kernel rounds them. */
async function simulationOf(packed: DiTTransformer2DModel): Promise<DiTTransformer2DModel> {
  const layers = new Map<string, SimulatedLinear>();
  for (const [key, layer] of modules(packed)) {
    if (!(layer instanceof PackedLinear)) continue;
    const { outFeatures, inFeatures, blockSize: granularity, bias, activations } = layer;
    const weight = fromHost("f32", [outFeatures, inFeatures], await unpackedWeight(layer));
    const grid = { bits: 8, granularity, symmetric: true, range: "dynamic" } as const;
    layers.set(key, new SimulatedLinear(weight, bias, activations === 8 ? grid : undefined));
  }
  return replaceLayers(packed, layers);
}

/** What a model weighs, as it is read from its file. */
export interface Deployed {
  /** Bytes of the file, and as a share of the floats in 32 bits. */
  readonly fileBytes: number;
  readonly share: number;
  /** Bytes of all tensors in memory. */
  readonly memoryBytes: number;
  /** Peak of a process that reads the file and draws a batch, Node and the runtime included. */
  readonly peakBytes: number;
  /** Bytes of the exported ONNX file with the runtime's integer operators. */
  readonly onnxBytes: number;
  /** Agreement of predictions with those of its simulation, and of the floats, in decibels. */
  readonly agreement: number | undefined;
  readonly ratio: number;
}

/** Noisy pictures of every class at the middle of the schedule. */
function middleBatch(model: DiTTransformer2DModel, count: number): CalibrationBatch {
  const { sampleSize: size, inChannels: channels, classes } = model.config;
  return {
    x: createRng(0).normal([count, channels, size, size]),
    timestep: fromHost("f32", [count], new Float32Array(count).fill(500)),
    labels: fromHost(
      "i32",
      [count],
      Int32Array.from({ length: count }, (_, i) => i % classes),
    ),
  };
}

const compiled = (model: DiTTransformer2DModel, threads: number | undefined) =>
  jit((x: Tensor, t: Tensor, y: Tensor) => model.call(x, t, y), threads ? { threads } : {});

async function predicted(
  model: DiTTransformer2DModel,
  { x, timestep, labels }: CalibrationBatch,
  threads: number | undefined,
): Promise<Float32Array> {
  const predict = compiled(model, threads);
  try {
    return ((await (await predict(x, timestep, labels)).data()) as Float32Array).slice();
  } finally {
    await predict.close();
  }
}

const tensorBytes = (model: object): number =>
  [...parameters(model).values()].reduce((n, t) => n + t.bytes, 0);

export interface WeighOptions {
  /** Pictures at once. */
  readonly batch: number;
  readonly threads?: number | undefined;
}

/** Weighs the model of a file against the full-precision one, and against the simulation of its codes and scales. */
export async function weigh(
  file: string,
  original: DiTTransformer2DModel,
  { batch: count, threads }: WeighOptions,
): Promise<Deployed> {
  const { model } = await loadDiT(file);
  const isPacked = [...modules(model).values()].some(isQuantized);
  const batch = middleBatch(model, count);
  const own = await predicted(model, batch, threads);
  const against = async (other: DiTTransformer2DModel): Promise<number> =>
    signalToNoiseDecibels(await predicted(other, batch, threads), own);
  const onnx = await exportOnnx(
    (x: Tensor, t: Tensor, y: Tensor) => model.call(x, t, y),
    [batch.x, batch.timestep, batch.labels],
    { capabilities: ONNX_RUNTIME },
  );
  const fileBytes = (await stat(file)).size;
  return {
    fileBytes,
    share: fileBytes / tensorBytes(original),
    memoryBytes: tensorBytes(model),
    peakBytes: await peakMemory(file, count),
    onnxBytes: onnx.length,
    agreement: isPacked ? await against(await simulationOf(model)) : undefined,
    ratio: await against(original),
  };
}

/** Plain data: what a time depends on beside the code and the machine. */
export interface TimingSettings {
  readonly rounds: number;
  readonly threads: number;
}

export interface StepSettings extends TimingSettings {
  /** Pictures at once. */
  readonly batch: number;
}

/** Times by name, and what they are of: plain data. */
export type TimesOf = Readonly<Record<string, Times>>;

/** Times of a step of the models of several files, in turns. */
export async function stepTimes(
  files: Readonly<Record<string, string>>,
  { rounds, threads, batch: count }: StepSettings,
): Promise<TimesOf> {
  const closing: (() => Promise<void>)[] = [];
  const cases: Record<string, () => Promise<unknown>> = {};
  for (const [name, file] of Object.entries(files)) {
    const { model } = await loadDiT(file);
    const { x, timestep, labels } = middleBatch(model, count);
    const step = compiled(model, threads);
    closing.push(() => step.close());
    cases[name] = async () => (await step(x, timestep, labels)).data();
  }
  const times = await inTurns(cases, rounds, { warmups: 2 });
  for (const close of closing) await close();
  return times;
}

/** Inputs and outputs of a linear layer, for so many tokens: plain data. */
export interface LayerShape {
  readonly tokens: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

export interface LayerTime {
  readonly name: string;
  readonly times: Times;
  /** Bytes of the layer as an ONNX file. */
  readonly bytes: number;
}

type Callable = Module & { call(x: Tensor): Tensor };

/** The forms of a layer that are compared, the float one first. */
async function formsOf({ inFeatures, outFeatures }: LayerShape): Promise<Readonly<Record<string, Callable>>> {
  const float = new Linear(inFeatures, outFeatures, createRng(0));
  const weight = (await float.weight.data()) as Float32Array;
  const { bias } = float;
  const packed = (bits: number, group: number, activations: 8 | 16 = 8): PackedLinear => {
    const grid = { bits, granularity: group, symmetric: false };
    return new PackedLinear(
      packMatrix(quantizeMatrix(weight, outFeatures, inFeatures, grid, "benchmark")),
      bias,
      activations,
    );
  };
  const bytes = transposedCodes(weight, outFeatures);
  return {
    fp32: float,
    "W4A8 groups of 32": packed(4, 32),
    "W4A8 groups of 64": packed(4, 64),
    "W4A8 groups of 128": packed(4, 128),
    "W4A16 groups of 64": packed(4, 64, 16),
    "W8A8 groups of 64": packed(8, 64),
    "W8A8 groups of 128": packed(8, 128),
    "W8A8 per channel, one activation scale": new IntegerLinear(bytes, bias, "tensor"),
    "W8A8 per channel, per token": new IntegerLinear(bytes, bias, "token"),
  };
}

/** Times every form of a layer, in turns. */
export async function timeLayers(
  shape: LayerShape,
  { rounds, threads }: TimingSettings,
): Promise<LayerTime[]> {
  const x = createRng(1).normal([shape.tokens, shape.inFeatures]);
  await x.eval();
  const forms = Object.entries(await formsOf(shape));
  const runs = forms.map(([, layer]) => jit((input: Tensor) => layer.call(input), { threads }));
  const cases = forms.map(([name], i) => [name, () => runs[i]!(x)] as const);
  const times = await inTurns(Object.fromEntries(cases), rounds, { warmups: 2 });
  for (const run of runs) await run.close();
  const found: LayerTime[] = [];
  for (const [name, layer] of forms) {
    const file = await exportOnnx((input: Tensor) => layer.call(input), [x], {
      capabilities: ONNX_RUNTIME,
    });
    found.push({ name, times: times[name]!, bytes: file.length });
  }
  return found;
}

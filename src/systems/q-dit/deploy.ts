/** The real face: packed models, their bytes, memory and time, and how well they agree with their simulation. */
import { stat } from "node:fs/promises";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { parameters, signalToNoiseDecibels, withQuantized } from "../../nn/index.ts";
import { exportOnnx, fromHost, jit, type Tensor, tensor } from "../../tensor/index.ts";
import { CPU_CAPABILITIES } from "../../tensor/onnx/builder.ts";
import { saveDiT } from "./checkpoint.ts";
import { peakMemory } from "./peak-memory.ts";
import { quantizeStaged } from "./quantize.ts";
import type { NoisyBatch } from "./sample.ts";
import { type Groups, packedScheme } from "./schemes.ts";

export interface Deployed {
  readonly name: string;
  /** Bytes of the checkpoint, and as a share of the same in f32. */
  readonly fileBytes: number;
  readonly share: number;
  /** Bytes of all tensors in memory. */
  readonly memoryBytes: number;
  /** Peak of a process that reads the file and draws a batch, Node and the runtime included. */
  readonly peakBytes: number;
  /** Bytes of the exported ONNX file with the runtime's integer operators. */
  readonly onnxBytes: number;
  /** Milliseconds for a step of `batch` pictures: median of interleaved runs. */
  readonly milliseconds: number;
  /** Agreement of real and simulated predictions, in decibels; null for floats. */
  readonly agreement: number | null;
  /** Agreement with the float model, in decibels; null for itself. */
  readonly ratio: number | null;
}

const tensorBytes = (model: object): number =>
  [...parameters(model).values()].reduce((n, t) => n + t.bytes, 0);

const finite = (x: number): number | null => (Number.isFinite(x) ? x : null);

/** Packs a DiT with GPTQ in stages, and the simulation of the same codes. */
export async function packDiT(
  model: DiTTransformer2DModel,
  weights: number,
  groups: Groups | number,
  batches: readonly NoisyBatch[],
): Promise<{ packed: DiTTransformer2DModel; simulated: DiTTransformer2DModel }> {
  const scheme = packedScheme(weights, groups, model.transformerBlocks.length, "gptq");
  const layers = await quantizeStaged(model, scheme, batches);
  return {
    packed: withQuantized(model, layers, "packed"),
    simulated: withQuantized(model, layers, "simulated"),
  };
}

/** Measures models on one noisy batch; the first is the float model. `files` are where they were saved. */
export async function measureDeployed(
  models: readonly {
    readonly name: string;
    readonly model: DiTTransformer2DModel;
    readonly simulated?: DiTTransformer2DModel;
    readonly file: string;
  }[],
  { x, timestep, labels }: NoisyBatch,
  { runs = 20, threads }: { runs?: number; threads?: number } = {},
): Promise<Deployed[]> {
  const compile = (model: DiTTransformer2DModel) =>
    jit((a: Tensor, t: Tensor, y: Tensor) => model.call(a, t, y), threads ? { threads } : {});
  const compiled = models.map(({ model }) => compile(model));
  const times = models.map((): number[] => []);
  const outputs: Float32Array[] = [];
  for (let run = -1; run < runs; run++) {
    for (const [i, f] of compiled.entries()) {
      const from = performance.now();
      const y = (await (await f(x, timestep, labels)).data()) as Float32Array;
      if (run < 0) outputs.push(y.slice());
      else times[i]!.push(performance.now() - from);
    }
  }
  await Promise.all(compiled.map((f) => f.close()));
  const whole = tensorBytes(models[0]!.model);
  const results: Deployed[] = [];
  for (const [i, { name, model, simulated, file }] of models.entries()) {
    const onnx = await exportOnnx(
      (a: Tensor, t: Tensor, y: Tensor) => model.call(a, t, y),
      [x, timestep, labels],
      {
        capabilities: CPU_CAPABILITIES,
      },
    );
    let agreement: number | null = null;
    if (simulated) {
      const f = compile(simulated);
      agreement = finite(
        signalToNoiseDecibels((await (await f(x, timestep, labels)).data()) as Float32Array, outputs[i]!),
      );
      await f.close();
    }
    const fileBytes = (await stat(file)).size;
    const sorted = times[i]!.sort((a, b) => a - b);
    results.push({
      name,
      fileBytes,
      share: fileBytes / whole,
      memoryBytes: tensorBytes(model),
      peakBytes: await peakMemory(file, labels.size),
      onnxBytes: onnx.length,
      milliseconds: sorted[Math.floor(sorted.length / 2)]!,
      agreement,
      ratio: i === 0 ? null : finite(signalToNoiseDecibels(outputs[0]!, outputs[i]!)),
    });
  }
  return results;
}

/** Saves a packed model with a note on how it was made. */
export const savePacked = (
  path: string,
  model: DiTTransformer2DModel,
  notes: Readonly<Record<string, string>>,
  quantized: string,
): Promise<void> => saveDiT(path, model, { ...notes, quantized });

/** A pure-noise batch for timing a step. */
export function timingBatch(model: DiTTransformer2DModel, count: number): NoisyBatch {
  const { sampleSize: size, inChannels: channels, classes } = model.config;
  const x = Float32Array.from(
    { length: count * channels * size * size },
    (_, i) => Math.sin(12.9898 * i) * 1.4,
  );
  return {
    x: fromHost("f32", [count, channels, size, size], x),
    timestep: tensor(new Float32Array(count).fill(500)),
    labels: fromHost(
      "i32",
      [count],
      Int32Array.from({ length: count }, (_, i) => i % classes),
    ),
  };
}

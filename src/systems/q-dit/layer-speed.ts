/** Time of one linear layer in floats and in each packed form, interleaved so that other load hits all alike. */
import {
  createRng,
  IntegerLinear,
  Linear,
  type Module,
  PackedLinear,
  packMatrix,
  quantizeMatrix,
  transposedCodes,
} from "../../nn/index.ts";
import { exportOnnx, jit, type Tensor } from "../../tensor/index.ts";
import { CPU_CAPABILITIES } from "../../tensor/onnx/builder.ts";

export interface LayerShape {
  readonly tokens: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

export interface LayerTime {
  readonly name: string;
  /** Milliseconds: median, and the quartiles. */
  readonly median: number;
  readonly quartiles: readonly [number, number];
  /** Median of the float layer over this one's. */
  readonly speedup: number;
  /** Bytes of the layer as an ONNX file. */
  readonly bytes: number;
}

type Callable = Module & { call(x: Tensor): Tensor };

const packed = (weight: Float32Array, { inFeatures, outFeatures }: LayerShape, bits: number, group: number) =>
  packMatrix(
    quantizeMatrix(
      weight,
      outFeatures,
      inFeatures,
      { bits, granularity: group, symmetric: false },
      "benchmark",
    ),
  );

/** The layers that are compared, the float one first. */
async function contenders(shape: LayerShape, seed: number): Promise<[name: string, layer: Callable][]> {
  const { inFeatures, outFeatures } = shape;
  const float = new Linear(inFeatures, outFeatures, createRng(seed));
  const weight = (await float.weight.data()) as Float32Array;
  const { bias } = float;
  const bytes = transposedCodes(weight, outFeatures);
  return [
    ["fp32", float],
    ["W4A8 groups of 32", new PackedLinear(packed(weight, shape, 4, 32), bias, 8)],
    ["W4A8 groups of 64", new PackedLinear(packed(weight, shape, 4, 64), bias, 8)],
    ["W4A8 groups of 128", new PackedLinear(packed(weight, shape, 4, 128), bias, 8)],
    ["W4A16 groups of 64", new PackedLinear(packed(weight, shape, 4, 64), bias, 16)],
    ["W8A8 groups of 64", new PackedLinear(packed(weight, shape, 8, 64), bias, 8)],
    ["W8A8 groups of 128", new PackedLinear(packed(weight, shape, 8, 128), bias, 8)],
    ["W8A8 per channel, one activation scale", new IntegerLinear(bytes, bias, "tensor")],
    ["W8A8 per channel, per token", new IntegerLinear(bytes, bias, "token")],
  ];
}

const quantileOf = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;

/** Times every form of a layer `runs` times, in turn. Two threads unless told otherwise. */
export async function timeLayers(
  shape: LayerShape,
  { runs = 30, threads = 2, seed = 0 } = {},
): Promise<LayerTime[]> {
  const x = createRng(seed + 1).normal([shape.tokens, shape.inFeatures]);
  await x.eval();
  const layers = await contenders(shape, seed);
  const compiled = layers.map(([, layer]) => jit((input: Tensor) => layer.call(input), { threads }));
  const times = layers.map((): number[] => []);
  for (let run = -2; run < runs; run++) {
    for (const [i, f] of compiled.entries()) {
      const start = performance.now();
      await f(x);
      if (run >= 0) times[i]!.push(performance.now() - start);
    }
  }
  await Promise.all(compiled.map((f) => f.close()));
  const sorted = times.map((t) => t.sort((a, b) => a - b));
  const results: LayerTime[] = [];
  for (const [i, [name, layer]] of layers.entries()) {
    const file = await exportOnnx((input: Tensor) => layer.call(input), [x], {
      capabilities: CPU_CAPABILITIES,
    });
    const t = sorted[i]!;
    const median = quantileOf(t, 0.5);
    const quartiles = [quantileOf(t, 0.25), quantileOf(t, 0.75)] as const;
    results.push({
      name,
      median,
      quartiles,
      speedup: quantileOf(sorted[0]!, 0.5) / median,
      bytes: file.length,
    });
  }
  return results;
}

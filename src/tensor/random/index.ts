/** Random numbers on the host: addressed Philox for our own use, and torch's two generators for parity with it. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { sizeOf } from "../dtype.ts";
import { checkU32, fillNormal, fillUniform, type RandomAddress, type Seed, seedWords } from "./philox.ts";
import { TorchCpuGenerator, type TorchCpuState } from "./torch-cpu.ts";
import { parseSeed, TorchCudaGenerator, type TorchCudaState } from "./torch-cuda.ts";

export {
  fillIntegers,
  fillNormal,
  fillPermutation,
  fillUniform,
  fnv1a32,
  philox4x32,
  type RandomAddress,
  type Seed,
} from "./philox.ts";
export { TorchCpuGenerator, type TorchCpuState } from "./torch-cpu.ts";
export { TorchCudaGenerator, type TorchCudaOptions, type TorchCudaState } from "./torch-cuda.ts";

/**
 * How noise is made: `philox`, addressed, where every sample of a batch is its own stream; `torch-cpu` and
 * `torch-cuda`, which give what `torch.Generator` gives on that device, one stream in the order of the calls.
 */
export type NoiseMode = "philox" | "torch-cpu" | "torch-cuda";

/** Where noise is wanted for. Only `philox` uses it; torch's generators know nothing but the order of the calls. */
export type NoiseAddress = Omit<RandomAddress, "seed">;

/** Number of elements, or a shape whose first axis counts the samples of a batch. */
export type NoiseShape = number | readonly number[];

/** A source of noise that samplers and training draw from without knowing its mode. */
export interface NoiseSource {
  readonly mode: NoiseMode;
  /** Standard normals, row-major. @throws ShapeError unless the shape is of non-negative integers. */
  normal(shape: NoiseShape, at?: NoiseAddress): Float32Array;
  /** Uniforms in [0, 1), row-major. @throws ShapeError unless the shape is of non-negative integers. */
  uniform(shape: NoiseShape, at?: NoiseAddress): Float32Array;
  /** Plain-JSON snapshot for `resumeNoise`. */
  state(): NoiseState;
}

/** Snapshot of a philox source: its seed, in decimal, and how many draws it has numbered by itself. */
export interface PhiloxState {
  readonly mode: "philox";
  readonly seed: string;
  readonly draws: number;
}

/** Snapshot of a source that has one generator per sample. */
export interface PerSampleState {
  readonly mode: "per-sample";
  readonly samples: readonly NoiseState[];
}

/** Snapshot of any source, told apart by `mode`. */
export type NoiseState = PhiloxState | TorchCpuState | TorchCudaState | PerSampleState;

/** A noise source of the given mode. @throws ArgumentError for an unknown mode or an invalid seed. */
export function createNoise(mode: NoiseMode, seed: Seed): NoiseSource {
  switch (mode) {
    case "philox":
      return philoxNoise(seed, 0);
    case "torch-cpu":
      return torchNoise(new TorchCpuGenerator(seed));
    case "torch-cuda":
      return torchNoise(new TorchCudaGenerator(seed));
    default:
      throw unknownMode(mode);
  }
}

/** The source that a snapshot was taken of, to draw on from there. @throws ArgumentError for a malformed snapshot. */
export function resumeNoise(state: NoiseState): NoiseSource {
  switch (state.mode) {
    case "philox":
      return philoxNoise(parseSeed(state.seed), state.draws);
    case "torch-cpu":
      return torchNoise(TorchCpuGenerator.fromState(state));
    case "torch-cuda":
      return torchNoise(TorchCudaGenerator.fromState(state));
    case "per-sample":
      return perSampleNoise(state.samples.map(resumeNoise));
    default:
      throw unknownMode((state as NoiseState).mode);
  }
}

/** A torch generator as a noise source, e.g. a `TorchCudaGenerator` with the thread limit of a certain GPU. */
export function torchNoise(generator: TorchCpuGenerator | TorchCudaGenerator): NoiseSource {
  return {
    mode: generator.mode,
    normal: (shape) => generator.normal(batchOf(shape).total),
    uniform: (shape) => generator.uniform(batchOf(shape).total),
    state: () => generator.state(),
  };
}

/**
 * One source for each sample of a batch: row b is what source b gives for a batch of one. All are of one mode.
 * Shapes must have as many samples as there are sources.
 */
export function perSampleNoise(sources: readonly NoiseSource[]): NoiseSource {
  const mode = sources[0]?.mode;
  if (!mode || sources.some((s) => s.mode !== mode))
    throw new ArgumentError(
      `perSampleNoise: expected sources of one mode, got [${sources.map((s) => s.mode)}]`,
    );
  const draw = (kind: "normal" | "uniform", shape: NoiseShape, at?: NoiseAddress): Float32Array => {
    const [rows, ...rest] = typeof shape === "number" ? [1, shape] : shape;
    if (rows !== sources.length)
      throw new ShapeError(`this noise is of ${sources.length} samples, got shape [${shape}]`);
    const out = new Float32Array(batchOf([rows, ...rest]).total);
    const size = out.length / rows;
    for (const [b, source] of sources.entries()) {
      out.set(source[kind]([1, ...rest], at && { ...at, sample: 0 }), b * size);
    }
    return out;
  };
  return {
    mode,
    normal: (shape, at) => draw("normal", shape, at),
    uniform: (shape, at) => draw("uniform", shape, at),
    state: () => ({ mode: "per-sample", samples: sources.map((s) => s.state()) }),
  };
}

/**
 * Row b of a batch is drawn at sample `at.sample + b`. A draw without `at.step` takes the number of such draws so
 * far as its step, so repeated draws differ, as they do with torch; do not mix both styles under one purpose.
 */
function philoxNoise(seed: Seed, drawsBefore: number): NoiseSource {
  seedWords(seed);
  let draws = checkU32("draws", drawsBefore);
  const draw = (fill: typeof fillNormal, shape: NoiseShape, at: NoiseAddress = {}): Float32Array => {
    const { rows, total } = batchOf(shape);
    const out = new Float32Array(total);
    const { sample = 0, purpose = 0, step = draws } = at;
    const size = total / rows;
    for (let b = 0; b < rows; b++) {
      fill(out.subarray(b * size, (b + 1) * size), { seed, sample: sample + b, purpose, step });
    }
    if (at.step === undefined) draws++;
    return out;
  };
  return {
    mode: "philox",
    normal: (shape, at) => draw(fillNormal, shape, at),
    uniform: (shape, at) => draw(fillUniform, shape, at),
    state: () => ({ mode: "philox", seed: String(seed), draws }),
  };
}

/** Samples and elements of a shape; a plain number is one sample. */
function batchOf(shape: NoiseShape): { rows: number; total: number } {
  const dims = typeof shape === "number" ? [1, shape] : shape;
  if (!dims.every((d) => Number.isSafeInteger(d) && d >= 0)) {
    throw new ShapeError(`noise needs a shape of non-negative integers, got [${dims.join(", ")}]`);
  }
  return { rows: dims[0] ?? 1, total: sizeOf(dims) };
}

const unknownMode = (mode: unknown): ArgumentError =>
  new ArgumentError(`noise mode must be "philox", "torch-cpu" or "torch-cuda", got ${JSON.stringify(mode)}`);

/** The self-test of `tweedie doctor`: each check compares what the runtime gives with what is known to be right. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { euler } from "../../diffusion/index.ts";
import { AbortError } from "../../errors.ts";
import { adamW, initialState, makeTrainStep, type TrainState, train } from "../../nn/index.ts";
import {
  conv,
  fillNormal,
  fromHost,
  matmulInteger,
  type Tensor,
  tensor,
  treeLeaves,
  valueAndGrad,
} from "../../tensor/index.ts";

/** Something that must hold on this machine. */
export interface Check {
  readonly name: string;
  /** Returns what was found. Throws when it does not hold. */
  run(): Promise<string>;
}

/** Normal numbers, the same on every machine. */
const numbers = (length: number, purpose: string): Float32Array =>
  fillNormal(new Float32Array(length), { seed: 1, sample: 0, purpose });

const normal = (shape: readonly number[], purpose: string): Tensor =>
  fromHost(
    "f32",
    shape,
    numbers(
      shape.reduce((a, b) => a * b, 1),
      purpose,
    ),
  );

function expectBelow(value: number, limit: number, what: string): string {
  const text = `${what} ${value.toExponential(1)}`;
  if (!(value < limit)) throw new Error(`${text}, expected less than ${limit}`);
  return text;
}

/** Largest difference over the largest value. */
function difference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length)
    throw new Error(`expected ${expected.length} values, got ${found.length}`);
  let [worst, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const apart = Math.abs(found[i]! - expected[i]!);
    worst = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : Math.max(worst, apart);
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return worst / largest;
}

const matmulCheck: Check = {
  name: "matrix product against host arithmetic",
  async run() {
    const [m, k, n] = [97, 130, 61];
    const [a, b] = [normal([m, k], "a"), normal([k, n], "b")];
    const [x, y] = [await a.toArray(), await b.toArray()];
    const expected = Float64Array.from({ length: m * n }, (_, at) => {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[Math.floor(at / n) * k + i]! * y[i * n + (at % n)]!;
      return sum;
    });
    return expectBelow(difference(await a.matmul(b).toArray(), expected), 1e-4, "relative difference");
  },
};

const convCheck: Check = {
  name: "convolution against host arithmetic",
  async run() {
    const [channels, size, filters] = [5, 17, 6];
    const out = 9; // stride 2, padding 1
    const [x, w] = [normal([1, channels, size, size], "x"), normal([filters, channels, 3, 3], "w")];
    const [image, kernel] = [await x.toArray(), await w.toArray()];
    const expected = Float64Array.from({ length: filters * out * out }, (_, at) => {
      const [f, row, column] = [Math.floor(at / out / out), Math.floor(at / out) % out, at % out];
      let sum = 0;
      for (let c = 0; c < channels; c++)
        for (let tap = 0; tap < 9; tap++) {
          const [i, j] = [2 * row + Math.floor(tap / 3) - 1, 2 * column + (tap % 3) - 1];
          if (i < 0 || j < 0 || i >= size || j >= size) continue;
          sum += image[(c * size + i) * size + j]! * kernel[(f * channels + c) * 9 + tap]!;
        }
      return sum;
    });
    const found = await conv(x, w, undefined, { stride: 2, padding: 1 }).toArray();
    return expectBelow(difference(found, expected), 1e-4, "relative difference");
  },
};

const halfCheck: Check = {
  name: "half precision in and out",
  async run() {
    const [a, b] = [tensor([1, -2, 65504], { dtype: "f16" }), tensor([3, 4.5, 0], { dtype: "f16" })];
    const sum = a.add(b);
    const [first, second] = [await sum.toArray(), await sum.mul(0.5).toArray()]; // made on the host, then by the runtime
    const [wanted, halved] = [
      [4, 2.5, 65504],
      [2, 1.25, 32752],
    ];
    if (first.join() !== wanted.join() || second.join() !== halved.join())
      throw new Error(`expected ${wanted} and ${halved}, got ${first} and ${second}`);
    return "equal to the last bit";
  },
};

/** Sums of the largest products of bytes, which kernels for bytes may cut off at 16 bits. */
const integerCheck: Check = {
  name: "integer products at their extremes",
  async run() {
    const [rows, inner, columns] = [8, 64, 16];
    const codes = fromHost("u8", [rows, inner], new Uint8Array(rows * inner).fill(255));
    for (const [weight, dtype] of [
      [-128, "i8"],
      [127, "i8"],
      [255, "u8"],
    ] as const) {
      const values = new (dtype === "i8" ? Int8Array : Uint8Array)(inner * columns).fill(weight);
      const sums = await matmulInteger(codes, fromHost(dtype, [inner, columns], values)).toArray();
      const expected = 255 * weight * inner;
      const wrong = sums.find((sum) => sum !== expected);
      if (wrong !== undefined)
        throw new Error(`${inner} products of 255 by ${weight}: expected ${expected}, got ${wrong}`);
    }
    return "exact";
  },
};

const gradientCheck: Check = {
  name: "gradient against finite differences",
  async run() {
    const [x, w, v] = [normal([8, 6], "x"), normal([6, 4], "w"), normal([6, 4], "direction")];
    const loss = (weights: Tensor, inputs: Tensor): Tensor => inputs.matmul(weights).tanh().square().mean();
    const [, gradient] = valueAndGrad(loss)(w, x);
    const slope = await gradient.mul(v).sum().item();
    const h = 1e-2;
    const [above, below] = [await loss(w.add(v.mul(h)), x).item(), await loss(w.sub(v.mul(h)), x).item()];
    const measured = (above - below) / (2 * h);
    return expectBelow(Math.abs(slope - measured) / Math.abs(measured), 1e-2, "relative difference");
  },
};

interface Line {
  readonly w: Tensor;
  readonly b: Tensor;
}

/** A line with noise-free points: the loss has one minimum, at zero. */
const line = () => ({
  model: { w: fromHost("f32", [4, 1], new Float32Array(4)), b: fromHost("f32", [1], new Float32Array(1)) },
  optimizer: adamW({ learningRate: 0.1, weightDecay: 0 }),
  batch: { x: normal([32, 4], "points"), w: normal([4, 1], "answer") },
  loss: (model: Line, batch: { readonly x: Tensor; readonly w: Tensor }): Tensor =>
    batch.x.matmul(model.w).add(model.b).sub(batch.x.matmul(batch.w).add(1)).square().mean(),
});

const trainingCheck: Check = {
  name: "training steps lower the loss",
  async run() {
    const { model, optimizer, batch, loss } = line();
    const step = makeTrainStep({ loss, optimizer, clipNorm: 10 });
    try {
      let state = initialState<Line>(model, optimizer);
      let [first, last] = [0, 0];
      for (let i = 0; i < 100; i++) {
        const out = await step(state, batch);
        state = out.state;
        last = await out.loss.item();
        if (i === 0) first = last;
      }
      return expectBelow(last / first, 1e-2, "loss after 100 steps over the first:");
    } finally {
      await step.close();
    }
  },
};

/** Trains in a folder; `until` stops it as Ctrl-C does. */
async function trainLine(directory: string, until?: number): Promise<TrainState<Line> | undefined> {
  const stop = new AbortController();
  try {
    for await (const event of train({
      ...line(),
      batch: () => line().batch,
      steps: 6,
      directory,
      signal: stop.signal,
    })) {
      if (event.type === "step" && event.step === until) stop.abort();
      if (event.type === "done") return event.state;
    }
  } catch (error) {
    if (!(error instanceof AbortError)) throw error;
  }
  return undefined;
}

const checkpointCheck: Check = {
  name: "a stopped training goes on as if it had not been",
  async run() {
    const folder = await mkdtemp(join(tmpdir(), "tweedie-doctor-"));
    try {
      const whole = await trainLine(join(folder, "whole"));
      await trainLine(join(folder, "stopped"), 3);
      const resumed = await trainLine(join(folder, "stopped"));
      if (!whole || !resumed) throw new Error("the training did not end");
      const [a, b] = [treeLeaves(whole), treeLeaves(resumed)] as [Tensor[], Tensor[]];
      for (const [i, t] of a.entries()) {
        const [x, y] = [await t.toArray(), await b[i]!.toArray()];
        if (x.some((value, k) => value !== y[k])) throw new Error("weights differ after resuming");
      }
      return `${a.length} tensors equal to the last bit`;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

const samplerCheck: Check = {
  name: "sampler against the known solution",
  async run() {
    // Data of deviation s about 0 has the best guess x s² / (s² + σ²), and a sample goes with sqrt(s² + σ²).
    const [s, from, to] = [0.5, 2, 1.9];
    const x = normal([2, 3, 8, 8], "start");
    const steps = 20;
    const sigmas = Array.from({ length: steps + 1 }, (_, i) => from + ((to - from) * i) / steps);
    const run = euler((noisy, sigma) => noisy.mul(s ** 2 / (s ** 2 + sigma ** 2)), x, sigmas);
    let step = await run.next();
    while (!step.done) step = await run.next();
    const scale = Math.sqrt((s ** 2 + to ** 2) / (s ** 2 + from ** 2));
    const expected = (await x.toArray()).map((v) => v * scale);
    return expectBelow(difference(await step.value.toArray(), expected), 1e-3, "relative difference");
  },
};

/** In the order of what they stand on. */
export const CHECKS: readonly Check[] = [
  matmulCheck,
  convCheck,
  gradientCheck,
  trainingCheck,
  checkpointCheck,
  samplerCheck,
];

/** Element types that graphics devices need not have. */
export const PROCESSOR_CHECKS: readonly Check[] = [halfCheck, integerCheck];

export interface CheckResult {
  readonly name: string;
  readonly passed: boolean;
  readonly seconds: number;
  /** What was found, or what went wrong. */
  readonly detail: string;
}

/** Runs checks one after the other; a failed one does not keep the others from running. */
export async function* runChecks(checks: readonly Check[]): AsyncGenerator<CheckResult> {
  for (const { name, run } of checks) {
    const startedAt = performance.now();
    const [passed, detail] = await run().then(
      (found) => [true, found] as const,
      (error: Error) => [false, error.message.split("\n")[0]!] as const,
    );
    yield { name, passed, seconds: (performance.now() - startedAt) / 1000, detail };
  }
}

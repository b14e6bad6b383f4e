/** `npm start`: trains a small denoising network on pictures made on the spot, samples from it, and shows the result. */
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { writeGrid } from "../io/png.ts";
import { adamW, createRng, parameterCount, powerDecay, type TrainState, train, warmup } from "../nn/index.ts";
import { concat, defaultDevice, fillNormal, formatBytes, fromHost, type Tensor } from "../tensor/index.ts";
import { formatSeconds, progressBar } from "./progress.ts";
import { Denoiser, type DenoisingBatch, denoisingLoss, karrasSigmas, sample } from "./start/denoiser.ts";
import { SIZE, shapes } from "./start/shapes.ts";

const HELP = `Trains a small denoising diffusion model on generated pictures and samples from it.

  npm start -- [options]

  --steps N   training steps (default 500)
  --batch N   pictures per step (default 64)
  --seed N    seed of everything (default 0)
  --out DIR   where the picture goes (default out/start)
  --help      this text`;

const positive = (name: string, text: string): number => {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  console.error(`--${name} needs a positive integer, got "${text}"`);
  process.exit(2);
};

function readOptions() {
  const options = {
    steps: { type: "string", default: "500" },
    batch: { type: "string", default: "64" },
    seed: { type: "string", default: "0" },
    out: { type: "string", default: "out/start" },
    help: { type: "boolean", default: false },
  } as const;
  try {
    const { values } = parseArgs({ options });
    if (values.help) {
      console.log(HELP);
      process.exit(0);
    }
    const seed = Number(values.seed);
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new Error(`--seed needs a whole number from 0, got "${values.seed}"`);
    return {
      steps: positive("steps", values.steps),
      batch: positive("batch", values.batch),
      seed,
      out: values.out,
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}

const normals = (shape: readonly number[], seed: number, purpose: string, step: number): Tensor =>
  fromHost(
    "f32",
    shape,
    fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed, purpose, step }),
  );

/** Pictures, noise and noise levels of one step: a pure function of the step, so that runs resume exactly. */
function denoisingBatch(seed: number, step: number, count: number): DenoisingBatch {
  const shape = [count, 3, SIZE, SIZE];
  return {
    clean: fromHost("f32", shape, shapes(seed, step * count, count)),
    noise: normals(shape, seed, "noise", step),
    sigma: normals([count, 1, 1, 1], seed, "sigma", step).mul(1.2).sub(1).exp(), // log-normal, as in EDM
  };
}

const { steps, batch, seed, out } = readOptions();
const startedAt = performance.now();
const model = new Denoiser(createRng(seed));
const heldOut = denoisingBatch(seed + 1, 0, 256);
const error = (m: Denoiser): Promise<number> => denoisingLoss(m, heldOut).item();
console.log(
  `Training a denoising network of ${parameterCount(model).toLocaleString("en")} parameters on ${await defaultDevice()}:`,
);
console.log(`${steps} steps of ${batch} generated ${SIZE}x${SIZE} pictures, seed ${seed}.`);
const before = await error(model);

const bar = progressBar("train", steps);
let state: TrainState<Denoiser> | undefined;
let peak = 0;
for await (const event of train({
  model,
  loss: denoisingLoss,
  optimizer: adamW({ learningRate: warmup(50, 3e-3), weightDecay: 0 }),
  clipNorm: 1,
  ema: powerDecay(0.75, 1, 0.995),
  steps,
  batch: (step) => denoisingBatch(seed, step, batch),
})) {
  if (event.type === "done") state = event.state;
  if (event.type !== "step") continue;
  peak = Math.max(peak, event.memoryBytes ?? 0);
  const speed = `${(event.stepsPerSecond * batch).toFixed(0)} pictures/s`;
  bar.update(event.step, `loss ${event.loss.toFixed(3)}  ${speed}  ${formatSeconds(event.secondsLeft)} left`);
}
bar.finish();

const trained = state!.ema!;
const count = 48;
const sigmas = karrasSigmas(18);
const sampling = progressBar("sample", sigmas.length - 1);
let x = normals([count, 3, SIZE, SIZE], seed, "sample", 0);
let done = 0;
for await (x of sample(trained, x, sigmas)) sampling.update(++done, `sigma ${sigmas[done]!.toFixed(3)}`);
sampling.finish();

await mkdir(out, { recursive: true });
const examples = fromHost("f32", [16, 3, SIZE, SIZE], shapes(seed, 0, 16));
await writeGrid(`${out}/samples.png`, concat(examples, x, 0), { columns: 8, scale: 4 });
const after = await error(trained);
console.log(
  `Denoising error on 256 pictures it has not seen: ${before.toFixed(3)} before, ${after.toFixed(3)} after training.`,
);
console.log(
  `${out}/samples.png: two rows of training pictures, then six rows of new ones, made from noise in ${sigmas.length - 1} Heun steps.`,
);
console.log(
  `${formatSeconds((performance.now() - startedAt) / 1000)} in all, at most ${formatBytes(peak)} of memory.`,
);

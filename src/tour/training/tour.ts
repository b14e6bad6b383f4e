/** A denoising model trained from nothing in the tour: its curve, what it removes of noise, and what it draws from noise. */
import { tensorToPictures } from "../../data/index.ts";
import { heun, karrasSigmas, withZero } from "../../diffusion/index.ts";
import type { Picture } from "../../io/index.ts";
import { psnr } from "../../metrics/index.ts";
import { adamW, createRng, powerDecay, train, warmup } from "../../nn/index.ts";
import { lineChart, smoothed } from "../../report/index.ts";
import type { Tour, TourContext, TourResult } from "../../systems/tour.ts";
import { fillNormal, fromHost, jit, type Tensor, tensor } from "../../tensor/index.ts";
import type { WorkEvent } from "../../work.ts";
import { Denoiser, type DenoisingBatch, denoisingLoss } from "./denoiser.ts";
import { SIZE, shapes } from "./shapes.ts";

/** Pictures per training step. */
const BATCH = 32;
/** Shown in a row, and rows of new ones. */
const [COLUMNS, ROWS] = [12, 3];
/** Heun steps from noise. */
const SAMPLING = 18;
/** Noise level at which the denoiser is judged: as much noise as picture. */
const SIGMA = 0.5;
const HELD_OUT = 256;

const normals = (shape: readonly number[], seed: number, purpose: string, step: number): Tensor =>
  fromHost(
    "f32",
    shape,
    fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed, purpose, step }),
  );

const cleanPictures = (seed: number, first: number, count: number): Tensor =>
  fromHost("f32", [count, 3, SIZE, SIZE], shapes(seed, first, count));

/** Pictures, noise and noise levels of one step: a pure function of the step. */
function denoisingBatch(seed: number, step: number, count: number): DenoisingBatch {
  return {
    clean: cleanPictures(seed, step * count, count),
    noise: normals([count, 3, SIZE, SIZE], seed, "noise", step),
    sigma: normals([count, 1, 1, 1], seed, "sigma", step).mul(1.2).sub(1).exp(), // log-normal, as in EDM
  };
}

function curve(losses: readonly number[]): WorkEvent {
  const x = losses.map((_, i) => i + 1);
  return {
    type: "chart",
    name: "loss",
    caption: `Loss of every training step of ${BATCH} pictures, on a logarithmic scale.`,
    svg: lineChart(
      [
        { name: "each step", x, y: losses },
        { name: "smoothed", x, y: smoothed(losses) },
      ],
      { xLabel: "step", yLabel: "loss", logY: true },
    ),
  };
}

const mean = async (perPicture: Tensor): Promise<number> => perPicture.mean().item();

/** What the denoiser makes of pictures with noise that it has not seen. */
async function* denoised(
  denoise: (x: Tensor, sigma: number) => Promise<Tensor>,
  seed: number,
): AsyncGenerator<WorkEvent, { before: number; after: number }> {
  const clean = cleanPictures(seed + 1, 0, HELD_OUT);
  const noise = normals([HELD_OUT, 3, SIZE, SIZE], seed + 1, "held out", 0);
  const noisy = await clean.add(noise.mul(SIGMA)).eval();
  const guess = await denoise(noisy, SIGMA);
  const rows = [clean, noisy, guess].map((x) => tensorToPictures(x.slice([0], [COLUMNS])));
  yield {
    type: "figure",
    name: "denoised",
    caption: `Pictures that training has not seen, the same with noise as strong as the picture, and the model's guess of the picture.`,
    pictures: (await Promise.all(rows)).flat(),
    columns: COLUMNS,
    rows: ["picture", "noisy", "denoised"],
    scale: 4,
  };
  return { before: await mean(psnr(noisy, clean, 2)), after: await mean(psnr(guess, clean, 2)) };
}

/** Trains, draws, measures, shows. */
async function* tourTraining(
  steps: number,
  { seed, threads, signal }: TourContext,
): AsyncGenerator<WorkEvent, TourResult> {
  const settings = threads ? { threads } : {};
  const total = steps + SAMPLING;
  const losses: number[] = [];
  const training = train({
    model: new Denoiser(createRng(seed)),
    loss: denoisingLoss,
    optimizer: adamW({ learningRate: warmup(Math.min(25, steps), 3e-3), weightDecay: 0 }),
    clipNorm: 1,
    ema: powerDecay(0.75, 1, 0.995),
    steps,
    batch: (step) => denoisingBatch(seed, step, BATCH),
    jit: settings,
    ...(signal && { signal }),
  });
  let trained: Denoiser | undefined;
  for await (const event of training) {
    if (event.type === "done") trained = event.state.ema ?? event.state.model;
    if (event.type !== "step") continue;
    losses.push(event.loss);
    const stage = `training, loss ${event.loss.toFixed(3)}`;
    yield { type: "progress", stage, done: event.step, total };
  }
  yield curve(losses);

  const network = jit(
    (model: Denoiser, x: Tensor, sigma: Tensor) => model.call(x, sigma.broadcastTo([x.shape[0]!, 1, 1, 1])),
    settings,
  );
  const denoise = (x: Tensor, sigma: number): Promise<Tensor> => network(trained!, x, tensor([[[[sigma]]]]));
  try {
    const { before, after } = yield* denoised(denoise, seed);
    const sigmas = withZero(karrasSigmas(SAMPLING, { min: 0.02, max: 20 }));
    const count = COLUMNS * ROWS;
    const start = normals([count, 3, SIZE, SIZE], seed, "sample", 0).mul(sigmas[0]!);
    const run = heun(denoise, start, sigmas, signal && { signal });
    let drawn: Picture[] = [];
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        drawn = await tensorToPictures(value);
        break;
      }
      yield { type: "progress", stage: "drawing", done: steps + value.step + 1, total };
    }
    const known = await tensorToPictures(cleanPictures(seed, 0, COLUMNS));
    yield {
      type: "figure",
      name: "samples",
      caption: `A row of training pictures, then new ones, made from noise in ${SAMPLING} Heun steps.`,
      pictures: [...known, ...drawn],
      columns: COLUMNS,
      rows: ["training", ...Array.from({ length: ROWS }, () => "new")],
      scale: 4,
    };
    return {
      did: `trained a denoising network from nothing for ${steps} steps, and drew ${count} pictures with it`,
      quality: [
        {
          name: "denoised pictures",
          value: after,
          unit: "dB",
          better: "higher",
          baseline: { name: "with the noise", value: before },
        },
      ],
    };
  } finally {
    await network.close();
  }
}

/** A denoising diffusion model, trained from nothing in so many steps. */
export const trainingTour = (steps: number): Tour => ({
  about: `trains a denoising model from nothing, on pictures made on the spot (${steps} steps)`,
  files: [],
  next: [
    "tweedie train umd --data my-pictures --out out/my-model",
    "npm start -- --only training --steps 2000",
  ],
  run: (context) => tourTraining(steps, context),
});

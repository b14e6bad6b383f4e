/** Pictures by their class: a U-Net with labels that are dropped now and then, drawn with classifier-free guidance. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { createNoise, fromHost, full, type Tensor } from "tweedie";
import { gather, shapes10 } from "tweedie/data";
import {
  alphasCumprod,
  betas,
  type DiffusionBatch,
  diffusionLoss,
  drawSamples,
  dropCondition,
  epsilonObjective,
  schedulerFromConfig,
} from "tweedie/diffusion";
import { writeGrid } from "tweedie/io";
import { createUNet2D } from "tweedie/networks";
import { adamW, constantDecay, createRng, parameterCount, train } from "tweedie/nn";
import { alphaBarLevels, diffusionBatch, epochIndices } from "tweedie/training";
import { drained } from "tweedie/work";

const [steps, out] = [Number(process.argv[2] ?? 24), process.argv[3] ?? "out/examples/classes.png"];
const [BATCH, CLASSES] = [8, 10]; // the eleventh label stands for none
const pictures = shapes10({ seed: 1, count: 300, size: 16 });
const { channels, size } = pictures;
const source = createNoise("philox", 7);
const indices = epochIndices(pictures.count, BATCH, 3);
const levels = alphaBarLevels(alphasCumprod(betas()));
const labelsOf = (at: ArrayLike<number>): Tensor =>
  fromHost(
    "i32",
    [at.length],
    Int32Array.from(at, (i) => pictures.labels![i]!),
  );

const blank = createUNet2D(createRng(0), {
  inChannels: channels,
  outChannels: channels,
  channels: [16, 32],
  downBlocks: ["DownBlock2D", "AttnDownBlock2D"],
  upBlocks: ["AttnUpBlock2D", "UpBlock2D"],
  layers: 1,
  groups: 8,
  classes: CLASSES + 1,
});
console.log(`${parameterCount(blank)} parameters`);
let model = blank;
for await (const event of train({
  model: blank,
  optimizer: adamW({ learningRate: 1e-3 }),
  steps,
  clipNorm: 1,
  ema: constantDecay(0.95),
  batch: (step): DiffusionBatch<Tensor> => {
    const at = indices(step);
    const x0 = fromHost("f32", [BATCH, channels, size, size], gather(pictures, at));
    const { dropped, ...draws } = diffusionBatch(x0.shape, { source, step, levels, dropRate: 0.1 });
    return { x0, condition: dropCondition(labelsOf(at), full([BATCH], CLASSES, "i32"), dropped!), ...draws };
  },
  loss: (net, batch: DiffusionBatch<Tensor>) =>
    diffusionLoss((x, t, classLabels) => net.call(x, t, { classLabels }), batch, {
      objective: epsilonObjective,
    }),
})) {
  if (event.type === "step" && (event.step === 1 || event.step % 12 === 0))
    console.log(`step ${event.step}: loss ${event.loss.toFixed(3)}`);
  if (event.type === "done") model = event.state.ema!;
}

const run = drawSamples<Tensor>((x, t, classLabels) => model.call(x, t, { classLabels }), {
  scheduler: schedulerFromConfig({ _class_name: "DDIMScheduler" }, { steps: 6 }),
  count: CLASSES,
  shape: [channels, size, size],
  noise: createNoise("philox", 8),
  condition: (first, n) =>
    fromHost(
      "i32",
      [n],
      Int32Array.from({ length: n }, (_, i) => first + i),
    ),
  negative: (_, n) => full([n], CLASSES, "i32"),
  guidance: 2,
});
await mkdir(dirname(out), { recursive: true });
await writeGrid(out, fromHost("f32", [CLASSES, channels, size, size], await drained(run)), { scale: 4 });
console.log(`one picture of each class: ${out}`);

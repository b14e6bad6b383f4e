/**
 * Trains the feature networks behind FID-like numbers: `npx tsx tools/train-features.ts fashion|rooms|shapes [--steps N]
 * [--data DIR] [--out FILE]`. Rooms and shapes are drawn here; Fashion-MNIST's four files lie in DIR.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  COLOUR_NAMES,
  drawCameras,
  drawScene,
  drawShapeScene,
  GROUNDS,
  openIdxPictures,
  renderShapes,
  renderView,
  SHAPE_COLOURS,
  SHAPES,
} from "../src/data/index.ts";
import {
  extractFeatures,
  type FeatureNetworkConfig,
  headsOf,
  labelAgreement,
  saveFeatureNetwork,
  trainFeatureNetwork,
} from "../src/metrics/index.ts";
import { fillIntegers, fromHost } from "../src/tensor/index.ts";

/** Pictures in [-1, 1], channels first, with one label per question. */
interface Examples {
  readonly values: Float32Array;
  readonly labels: Int32Array;
}
interface Task {
  readonly config: FeatureNetworkConfig;
  readonly about: string;
  /** Training examples of seed 0, test examples of seed 1. */
  examples(split: "train" | "test"): Promise<Examples>;
}

const SIZE = 32;
const COUNTS = { train: 20_000, test: 1_000 } as const;

/** Interleaved values in [0, 1] as planes in [-1, 1]. */
function writePlanes(out: Float32Array, image: Float32Array): void {
  const plane = out.length / 3;
  for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) out[c * plane + i] = image[3 * i + c]! * 2 - 1;
}

function drawn(
  heads: readonly number[],
  about: string,
  draw: (seed: number, index: number) => { image: Float32Array; labels: readonly number[] },
): Task {
  const classes = heads.reduce((sum, n) => sum + n, 0);
  return {
    config: { size: SIZE, channels: 3, classes, heads },
    about,
    async examples(part) {
      const count = COUNTS[part];
      const values = new Float32Array(count * 3 * SIZE * SIZE);
      const labels = new Int32Array(count * heads.length);
      for (let i = 0; i < count; i++) {
        const sample = draw(part === "train" ? 0 : 1, i);
        writePlanes(values.subarray(i * 3 * SIZE * SIZE, (i + 1) * 3 * SIZE * SIZE), sample.image);
        labels.set(sample.labels, i * heads.length);
      }
      return { values, labels };
    },
  };
}

/** Colours of walls and floor, and how many objects can be seen, three standing for more. */
const rooms = drawn(
  [COLOUR_NAMES.length, COLOUR_NAMES.length, 4],
  "rooms of the scene world, 32x32: colours of walls and floor, number of visible objects",
  (seed, index) => {
    const scene = drawScene(seed, index, { light: "flat" });
    const camera = drawCameras(scene, seed, index, { size: SIZE, frames: 1 })[0]!;
    const view = renderView(scene, camera);
    const seen = scene.objects.filter((_, k) => view.instances.filter((i) => i === 6 + k).length >= 8);
    const colour = (name: (typeof COLOUR_NAMES)[number]): number => COLOUR_NAMES.indexOf(name);
    const { wallColour, floorColour } = scene.room;
    return { image: view.image, labels: [colour(wallColour), colour(floorColour), Math.min(3, seen.length)] };
  },
);

/** Ground, and the shape and colour of the near and of the far thing, the last class standing for none. */
const shapes = drawn(
  [4, SHAPES.length, 6, SHAPES.length + 1, 7],
  "shape world, 32x32: ground, shape and colour of both things",
  (seed, index) => {
    const scene = drawShapeScene(seed, index);
    const [near, far] = [...scene.shapes].reverse();
    const colours = Object.keys(SHAPE_COLOURS);
    const labels = [
      Object.keys(GROUNDS).indexOf(scene.ground),
      SHAPES.indexOf(near!.name),
      colours.indexOf(near!.colour),
      far ? SHAPES.indexOf(far.name) : SHAPES.length,
      far ? colours.indexOf(far.colour) : colours.length,
    ];
    return { image: renderShapes(scene, SIZE).image, labels };
  },
);

const fashion = (folder: string): Task => ({
  config: { size: 28, channels: 1, classes: 10 },
  about: "Fashion-MNIST, 60000 training pictures",
  async examples(part) {
    const name = part === "train" ? "train" : "t10k";
    const [images, labels] = ["images-idx3", "labels-idx1"].map((kind) =>
      join(folder, `${name}-${kind}-ubyte.gz`),
    );
    const set = await openIdxPictures(images!, labels!);
    const samples = await Promise.all(Array.from({ length: set.length }, (_, i) => set.get(i)));
    const values = new Float32Array(set.length * 784);
    samples.forEach(({ image }, i) => {
      for (let k = 0; k < 784; k++) values[i * 784 + k] = image.data[k]! / 127.5 - 1;
    });
    return { values, labels: Int32Array.from(samples, (s) => s.label) };
  },
});

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: "string", default: "3000" },
    data: { type: "string", default: "fashion-mnist" },
    out: { type: "string" },
    threads: { type: "string", default: "2" },
  },
});
const name = positionals[0] ?? "";
const task = { rooms, shapes, fashion: fashion(options.data) }[name];
if (!task) {
  console.error(`expected fashion, rooms or shapes, got "${name}"`);
  process.exit(2);
}
const [steps, batch, seed] = [Number(options.steps), 128, 0];
const { config } = task;
const heads = headsOf(config);
const [train, test] = [await task.examples("train"), await task.examples("test")];
const pixels = config.channels * config.size ** 2;

/** The batch of a step: drawn with replacement, a function of seed and step alone. */
function batchOf(step: number) {
  const picked = fillIntegers(new Int32Array(batch), 0, train.labels.length / heads.length, {
    seed,
    sample: 0,
    purpose: 0,
    step,
  });
  const x = new Float32Array(batch * pixels);
  const labels = new Int32Array(batch * heads.length);
  picked.forEach((from, i) => {
    x.set(train.values.subarray(from * pixels, (from + 1) * pixels), i * pixels);
    labels.set(train.labels.subarray(from * heads.length, (from + 1) * heads.length), i * heads.length);
  });
  return {
    x: fromHost("f32", [batch, config.channels, config.size, config.size], x),
    labels: fromHost("i32", heads.length === 1 ? [batch] : [batch, heads.length], labels),
  };
}

for await (const event of trainFeatureNetwork({
  config,
  batch: batchOf,
  steps,
  seed,
  threads: Number(options.threads),
})) {
  if (event.type === "step" && event.step % 100 === 0)
    console.log(
      `step ${event.step}: loss ${event.loss.toFixed(4)}, ${event.stepsPerSecond.toFixed(1)} steps/s`,
    );
  if (event.type === "done") {
    const found = await extractFeatures(event.state.model, test.values);
    const right = heads.map((_, k) => labelAgreement(found, test.labels, k));
    const out = options.out ?? `checkpoints/${name}-features.safetensors`;
    await saveFeatureNetwork(out, event.state.model, {
      command: `npx tsx tools/train-features.ts ${name} --steps ${steps}`,
      data: task.about,
      steps: String(steps),
      batch: String(batch),
      seed: String(seed),
      testAccuracy: right.map((r) => r.toFixed(4)).join(" "),
    });
    console.log(`${out}: test accuracy ${right.map((r) => r.toFixed(4)).join(", ")}`);
  }
}

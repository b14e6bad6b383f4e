/** How well pictures follow their conditions: a small network that reads classes and depth off them, trained on real scenes. */
import type { Dataset, ShapeSample } from "../../data/index.ts";
import { iou, overlapCounts, SampleTable } from "../../metrics/index.ts";
import {
  activate,
  adamW,
  Conv2d,
  cosineDecay,
  createRng,
  crossEntropy,
  Module,
  type Rng,
} from "../../nn/index.ts";
import { concat, createNoise, fromHost, jit, resize, type Tensor, tensor } from "../../tensor/index.ts";
import { epochIndices, modelFile, runPhase } from "../../training/index.ts";
import type { Work } from "../../work.ts";
import { picturesOf, type Unaligned } from "./data.ts";

/** Wall, floor and the four shapes. */
export const CLASSES = 6;
const WIDTHS = [24, 48, 64] as const;

/** What the reader sees in a picture. */
interface Seen {
  readonly classes: Tensor; // [N, 6, S, S], scores
  readonly depth: Tensor; // [N, S, S]
  readonly features: Tensor; // [N, 64]
}

/** Reads classes and depth of every pixel; its pooled features stand for whole pictures. */
export class Reader extends Module {
  readonly first: Conv2d;
  readonly second: Conv2d;
  readonly third: Conv2d;
  readonly deep: Conv2d;
  readonly up: Conv2d;
  readonly last: Conv2d;
  readonly head: Conv2d;

  constructor(rng: Rng) {
    super();
    const [a, b, c] = WIDTHS;
    const conv = (i: number, o: number, stride = 1): Conv2d =>
      new Conv2d(i, o, 3, rng, { padding: 1, stride });
    this.first = conv(3, a);
    this.second = conv(a, b, 2);
    this.third = conv(b, c, 2);
    this.deep = conv(c, c);
    this.up = conv(b + c, b);
    this.last = conv(a + b, a);
    this.head = new Conv2d(a, CLASSES + 1, 1, rng);
  }

  /** Pictures in [-1, 1]. // [N, 3, S, S] */
  call(x: Tensor): Seen {
    const larger = (t: Tensor): Tensor => resize(t, [2 * t.shape[2]!, 2 * t.shape[3]!], { mode: "nearest" });
    const a = activate("relu", this.first.call(x));
    const b = activate("relu", this.second.call(a));
    const c = activate("relu", this.deep.call(activate("relu", this.third.call(b))));
    const d = activate("relu", this.up.call(concat(larger(c), b, 1)));
    const out = this.head.call(activate("relu", this.last.call(concat(larger(d), a, 1))));
    return { classes: out.sliceAxis(1, 0, CLASSES), depth: out.select(1, CLASSES), features: c.mean([2, 3]) };
  }
}

/** Files of readers. */
export const readerFile = modelFile<Reader>({
  format: "tweedie.scene-reader",
  name: "scene reader",
  describe: () => ({}),
  blank: () => new Reader(createRng(0)),
});

interface ReaderBatch {
  readonly x: Tensor;
  readonly classes: Tensor; // [N, S, S]
  readonly depth: Tensor; // [N, S, S]
}

/** How a reader is trained: on real scenes with a little noise, since it will read pictures that are not quite real. */
export interface ReaderSettings {
  readonly steps: number;
  readonly seed: number;
}

/** Trains a reader on scenes of 32 pixels. */
export async function* trainReader(
  scenes: Dataset<ShapeSample>,
  { steps, seed }: ReaderSettings,
  {
    folder,
    threads,
    signal,
  }: {
    readonly folder?: string;
    readonly threads?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  } = {},
): Work<Reader> {
  const batch = 32;
  const indices = epochIndices(scenes.length, batch, seed);
  const noise = createNoise("philox", seed);
  const rate = 2e-3;
  const result = yield* runPhase<Reader, ReaderBatch>({
    stage: "reader of scenes",
    settings: { steps, batch, learningRate: rate, warmup: 20, schedule: "cosine", clip: 1 },
    model: new Reader(createRng(seed)),
    optimizer: adamW({ learningRate: cosineDecay(rate, steps) }),
    loss: (net, { x, classes, depth }) => {
      const seen = net.call(x);
      return crossEntropy(seen.classes, classes).add(seen.depth.sub(depth).square().mean().mul(10));
    },
    async batch(step) {
      const samples = await Promise.all(Array.from(indices(step), (i) => scenes.get(i)));
      const x = picturesOf(samples, 32);
      const sway = tensor(noise.normal(x.shape, { purpose: "reader", step }), { shape: x.shape }).mul(0.1);
      const shape = [batch, 32, 32];
      return {
        x: await x.add(sway).eval(),
        classes: fromHost("i32", shape, Int32Array.from(samples.flatMap((s) => Array.from(s.classes)))),
        depth: fromHost("f32", shape, Float32Array.from(samples.flatMap((s) => Array.from(s.depth)))),
      };
    },
    folder,
    threads,
    signal,
  });
  return result.model;
}

/** What was read of many pictures. */
export interface Read {
  readonly classes: Int32Array; // [N, S, S]
  readonly depth: Float32Array; // [N, S, S]
  readonly features: SampleTable;
}

/** Reads pictures in [-1, 1], cut off there. // [N, 3, S, S] */
export async function read(reader: Reader, pictures: Tensor, threads?: number): Promise<Read> {
  const run = jit(
    (net: Reader, x: Tensor) => {
      const { classes, depth, features } = net.call(x.clip(-1, 1));
      return { classes: classes.argmax(1).cast("i32"), depth, features };
    },
    threads === undefined ? {} : { threads },
  );
  try {
    const seen = await run(reader, pictures);
    const features = new SampleTable(WIDTHS[2]).addAll(0, (await seen.features.data()) as Float32Array);
    return {
      classes: (await seen.classes.data()) as Int32Array,
      depth: (await seen.depth.data()) as Float32Array,
      features,
    };
  } finally {
    await run.close();
  }
}

/** Scores of each picture, in the order of the scenes. */
export interface ControlScores {
  /** Overlap of what is read as the near thing's class with its silhouette, and within its region. */
  readonly foreground: readonly number[];
  /** Mean overlap of all classes outside of the near thing's region, against the scene without it. */
  readonly background: readonly number[];
  /** Root mean square error of depth there. */
  readonly depth: readonly number[];
  /** F1 of outlines within the region, one pixel off allowed. */
  readonly edges: readonly number[];
}

const average = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Pixels whose right or lower neighbour is another class. */
const outlines = (classes: ArrayLike<number>, size: number): boolean[] =>
  Array.from({ length: size * size }, (_, i) => {
    const [right, below] = [(i + 1) % size !== 0, i + size < size * size];
    return (right && classes[i + 1] !== classes[i]) || (below && classes[i + size] !== classes[i]);
  });

/** Share of the pixels of `a` in a region that have one of `b` at most one pixel away; 1 when there are none. */
function near(a: readonly boolean[], b: readonly boolean[], region: ArrayLike<number>, size: number): number {
  let [hits, all] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    if (!a[i] || region[i] === 0) continue;
    all++;
    for (let k = 0; k < 9; k++) {
      const [x, y] = [(i % size) + (k % 3) - 1, Math.floor(i / size) + Math.floor(k / 3) - 1];
      if (x >= 0 && x < size && y >= 0 && y < size && b[y * size + x]) {
        hits++;
        break;
      }
    }
  }
  return all === 0 ? 1 : hits / all;
}

/** Scores of pictures that were to follow a background and a thing before it. */
export function controlScores(
  seen: Pick<Read, "classes" | "depth">,
  scenes: readonly Unaligned[],
  size = 32,
): ControlScores {
  const plane = size * size;
  const rows = scenes.map(({ full, background, region }, n) => {
    const classes = seen.classes.subarray(n * plane, (n + 1) * plane);
    const depth = seen.depth.subarray(n * plane, (n + 1) * plane);
    const nearest = 1 + full.scene.shapes.length;
    const own = full.classes[full.instances.indexOf(nearest)] ?? -1;
    const silhouette = Array.from(full.instances, (v) => Number(v === nearest));
    const inside = Array.from(region, (v, i) => Number(v > 0 && classes[i] === own));
    const outside = (values: ArrayLike<number>): number[] =>
      Array.from({ length: plane }, (_, i) => i).flatMap((i) => (region[i] === 0 ? [values[i]!] : []));
    const counts = overlapCounts(outside(classes), outside(background.classes), CLASSES);
    const present = counts.filter(({ both, truthOnly }) => both + truthOnly > 0);
    let [error, pixels] = [0, 0];
    for (let i = 0; i < plane; i++)
      if (region[i] === 0) [error, pixels] = [error + (depth[i]! - background.depth[i]!) ** 2, pixels + 1];
    const [drawn, wanted] = [outlines(classes, size), outlines(full.classes, size)];
    const [precision, recall] = [near(drawn, wanted, region, size), near(wanted, drawn, region, size)];
    return {
      foreground: iou(overlapCounts(inside, silhouette, 2)[1]!),
      background: average(present.map(iou)),
      depth: Math.sqrt(error / Math.max(1, pixels)),
      edges: precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0,
    };
  });
  const list = (key: keyof ControlScores): number[] => rows.map((row) => row[key]);
  return {
    foreground: list("foreground"),
    background: list("background"),
    depth: list("depth"),
    edges: list("edges"),
  };
}

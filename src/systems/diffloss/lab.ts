/** What the study makes and measures: arms of a task, their scores, how their rooms are recognised. */
import { join } from "node:path";
import {
  type Dataset,
  DEGRADATIONS,
  type DegradationName,
  dataset,
  degradedPairs,
  folderPictures,
  isRoom,
  mapDataset,
  middleOf,
  openRestorationPairs,
  ownPictures,
  picturesToTensor,
  type RestorationPair,
  toFloatPicture,
} from "../../data/index.ts";
import {
  extractFeatures,
  type FeatureNetwork,
  headsOf,
  type Lpips,
  type Restore,
  scored,
  unchanged,
  wayOf,
} from "../../metrics/index.ts";
import type { Restorer } from "../../networks/index.ts";
import { parameters } from "../../nn/index.ts";
import { avgPool, concat, jit, type Tensor } from "../../tensor/index.ts";
import { degradedCrops, restorationBatches, trainRestorer } from "../../training/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { openRestoring } from "../restoring.ts";
import { type Arm, type ArmName, furtherOf, type Judges } from "./arms.ts";
import type { Recognition, SetName, SetScores } from "./rules.ts";
import { priorErrors } from "./train.ts";

/** Everything that decides an arm beside the arm itself. */
export interface ArmPlan {
  readonly task: DegradationName;
  readonly steps: number;
  readonly batch: number;
  readonly crop: number;
  readonly learningRate: number;
  readonly strength: number;
  /** Our own pictures that it learns from. */
  readonly pictures: number;
  readonly seed: number;
}

/** What is asked for, from the options. */
export interface Plan {
  readonly tasks: readonly DegradationName[];
  readonly arms: readonly ArmName[];
  readonly seeds: readonly number[];
  readonly settings: Omit<ArmPlan, "task" | "seed">;
  readonly test: number;
  readonly sets: readonly SetName[];
  /** Off: what is not there stays unmeasured. */
  readonly makes: boolean;
}

export interface LabOptions {
  readonly judges: Judges;
  readonly start: Readonly<Partial<Record<DegradationName, Restorer>>>;
  readonly lpips: Lpips | undefined;
  /** Folder with `bsds500` and `rain100h`. */
  readonly data: string | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Batches on which weights are measured. */
const CALIBRATION = 4;
/** Of noise on photographs: they are degraded once. */
const TEST_SEED = 1;
/** The middle of photographs, so that a score takes a second. */
const WINDOW = 192;

/** Twelve photographs of BSDS500 that are in CBSD68, by their numbers. */
const PHOTOGRAPHS = 12;

export interface Lab {
  /** The network that arms of a task begin with. */
  start(task: DegradationName): Restorer;
  /** Error of the prior's noise on rooms, by band of timesteps. */
  gate(count: number): Promise<Record<string, number>>;
  /** Trains an arm from the network that ships. */
  train(arm: Arm, plan: ArmPlan, folder: string): Work<Restorer>;
  /** Scores of a network, or of the degraded pictures, on every test picture. */
  score(net: Restorer | undefined, task: DegradationName, set: SetName, count: number): Work<SetScores>;
  /** How its rooms are recognised. */
  recognise(net: Restorer | undefined, task: DegradationName, count: number): Promise<Recognition>;
  /** Largest difference between two networks' weights. */
  gap(a: Restorer, b: Restorer): Promise<number>;
}

const silent = (): WorkEvent | undefined => undefined;

/** The lab of some models. */
export function openLab(options: LabOptions): Lab {
  const { judges, start, lpips, data, threads, signal } = options;
  const settings = threads === undefined ? {} : { threads };

  async function pairsOf(
    task: DegradationName,
    set: SetName,
    count: number,
  ): Promise<Dataset<RestorationPair>> {
    if (set === "our own pictures")
      return degradedPairs(ownPictures("test", count), DEGRADATIONS[task], TEST_SEED);
    if (task === "rain")
      return mapDataset(await openRestorationPairs(join(data!, "rain100h")), (pair) =>
        middleOf(pair, WINDOW),
      );
    const photographs = await folderPictures(join(data!, "bsds500", "image"));
    const every = Math.floor(photographs.length / PHOTOGRAPHS);
    const some = dataset(PHOTOGRAPHS, (i) => photographs.get(i * every));
    return mapDataset(degradedPairs(some, DEGRADATIONS[task], TEST_SEED), (pair) => middleOf(pair, WINDOW));
  }

  /** Answers of the classifier to rooms [N, 3, 64, 64] in [0, 1]. */
  async function answers(pictures: Tensor) {
    const half = jit((x: Tensor) => avgPool(x.clip(0, 1), 2).mul(2).sub(1), settings);
    const values = (await (await half(pictures)).data()) as Float32Array;
    await half.close();
    return extractFeatures(judges.classifier, values.slice(), 64, threads);
  }

  return {
    start: (task) => start[task]!,

    async gate(count) {
      const rooms = await roomsOf(count);
      return priorErrors(judges.prior, rooms.mul(2).sub(1), { threads });
    },

    async *train(arm, plan, folder) {
      const { task, pictures, seed, strength, steps, batch, crop, learningRate } = plan;
      const net = start[task]!;
      const source = degradedCrops(ownPictures("restorer", pictures), DEGRADATIONS[task], seed);
      const next = restorationBatches(source, { batch, crop, seed: seed + 1000 });
      const batches = await Promise.all(Array.from({ length: CALIBRATION }, (_, i) => next(i)));
      const given = { pixel: "l1", strength, seed, threads } as const;
      const further = await furtherOf(arm, judges, (y) => net.restore(y), batches, given);
      const { final } = yield* trainRestorer({
        stage: folder.split("/").at(-1)!,
        net,
        source,
        settings: {
          ...{ steps: steps * (arm.longer ?? 1), batch, crop, learningRate, seed },
          ...{ warmup: 20, schedule: "cosine", clip: 0, pixel: "l1" },
        },
        further,
        folder,
        threads,
        signal,
      });
      return final;
    },

    async *score(net, task, set, count) {
      const pairs = await pairsOf(task, set, count);
      const restoring = net && openRestoring(net, settings);
      try {
        const way: Restore = restoring ? wayOf(restoring) : unchanged;
        const work = scored(`${task}, ${set}`, { way }, pairs, { lpips, threads, signal });
        const { way: found } = yield* told(work, silent);
        const column = (name: "psnr" | "ssim" | "detail"): number[] => found.map((one) => one[name]);
        return {
          psnr: column("psnr"),
          ssim: column("ssim"),
          detail: column("detail"),
          ...(lpips && { lpips: found.map((one) => one.lpips!) }),
        };
      } finally {
        await restoring?.close();
      }
    },

    async recognise(net, task, count) {
      const clean = await roomsOf(count);
      const source = roomsAsPictures(count);
      const pairs = degradedPairs(source, DEGRADATIONS[task], TEST_SEED);
      const degraded = await Promise.all(Array.from({ length: count }, (_, i) => pairs.get(i)));
      let seen = picturesToTensor(
        degraded.map((pair) => pair.degraded),
        "unit",
      );
      if (net) {
        const restoring = openRestoring(net, settings);
        const parts: Tensor[] = [];
        for (let i = 0; i < count; i++) parts.push(await wayOf(restoring)(seen.sliceAxis(0, i, i + 1)));
        seen = concat(parts[0]!, parts.slice(1), 0);
        await restoring.close();
      }
      return compared(judges.classifier, await answers(clean), await answers(seen));
    },

    async gap(a, b) {
      const other = parameters(b);
      let most = 0;
      for (const [key, t] of parameters(a))
        most = Math.max(most, await t.sub(other.get(key)!).abs().max().item());
      return most;
    },
  };
}

/** Test pictures that are rooms. */
function roomsAsPictures(count: number) {
  const all = ownPictures("test", 3 * count);
  const rooms = Array.from({ length: 3 * count }, (_, i) => i).filter((i) => isRoom("test", i));
  return dataset(count, (i) => all.get(rooms[i]!));
}

async function roomsOf(count: number): Promise<Tensor> {
  const source = roomsAsPictures(count);
  const pictures = await Promise.all(Array.from({ length: count }, (_, i) => source.get(i)));
  return picturesToTensor(
    pictures.map(({ image }) => toFloatPicture(image)),
    "unit",
  );
}

type Answers = Awaited<ReturnType<typeof extractFeatures>>;

/** Divergence and agreement of the answers to each picture, over all questions. */
function compared(classifier: FeatureNetwork, clean: Answers, seen: Answers): Recognition {
  const { classes } = clean;
  const heads = headsOf(classifier.config);
  const count = clean.probabilities.length / classes;
  const [divergence, agreement]: [number[], number[]] = [[], []];
  for (let i = 0; i < count; i++) {
    let [sum, same, at] = [0, 0, i * classes];
    for (const n of heads) {
      const [p, q] = [clean, seen].map(({ probabilities }) => probabilities.subarray(at, at + n)) as [
        Float32Array,
        Float32Array,
      ];
      for (let k = 0; k < n; k++) sum += p[k]! * Math.log(Math.max(p[k]!, 1e-12) / Math.max(q[k]!, 1e-12));
      if (p.indexOf(Math.max(...p)) === q.indexOf(Math.max(...q))) same++;
      at += n;
    }
    divergence.push(sum / heads.length);
    agreement.push(same / heads.length);
  }
  return { divergence, agreement };
}

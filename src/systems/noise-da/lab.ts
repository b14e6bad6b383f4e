/** What the study makes and measures: the network that all arms begin with, arms, their scores, how the losses pull. */
import { type Lpips, scored, unchanged, wayOf } from "../../metrics/index.ts";
import { createRestorer, type Restorer } from "../../networks/index.ts";
import { createRng } from "../../nn/index.ts";
import { RESTORER_SIZES } from "../../training/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { openRestoring } from "../restoring.ts";
import { type Arm, type ArmName, armSettings, wayOfArm } from "./arms.ts";
import { aheadLoss, strongWay } from "./baselines.ts";
import { DOMAINS, type DomainName } from "./domains.ts";
import type { DiffusionSize, NoiseGuesser } from "./model.ts";
import { type JointSettings, type JointTraining, trainJoint, type Way } from "./train.ts";
import { judgedPairs, type SetName, sourcesOf, TRANSFER, transferPairs, type World } from "./worlds.ts";

/** Everything that decides a training of the study beside its arm. */
export interface ArmPlan {
  readonly world: World;
  readonly domain: DomainName;
  readonly seed: number;
  readonly steps: number;
  readonly batch: number;
  readonly crop: number;
  readonly learningRate: number;
  /** Pictures of A and of B. */
  readonly pictures: number;
  readonly diffusion: DiffusionSize;
}

/** What is asked for, from the options. */
export interface Plan {
  readonly worlds: readonly World[];
  readonly domains: readonly DomainName[];
  readonly arms: readonly ArmName[];
  readonly seeds: readonly number[];
  readonly startSteps: number;
  readonly settings: Omit<ArmPlan, "world" | "domain" | "seed">;
  readonly test: number;
  /** Off: what is not there stays unmeasured. */
  readonly makes: boolean;
}

/** Scores of every picture of a set. */
export interface SetScores {
  readonly psnr: readonly number[];
  readonly ssim: readonly number[];
  /** Mean slope of the restored picture over that of the clean one: the TV ratio. */
  readonly detail: readonly number[];
  readonly lpips?: readonly number[];
}

export interface Lab {
  /** Trains the network that all arms of a seed begin with, on synthetic pairs. */
  start(plan: ArmPlan, folder: string): Work<Restorer>;
  /** Goes on with it as an arm does. */
  train(arm: Arm, plan: ArmPlan, net: Restorer, folder: string): Work<Restorer>;
  /** Scores of a network, or of the degraded pictures. */
  score(
    net: Restorer | undefined,
    world: World,
    domain: DomainName,
    set: SetName,
    count: number,
  ): Work<SetScores>;
  /** The same on photographs with real damage and a truth. */
  transfer(net: Restorer | undefined, domain: DomainName): Work<SetScores>;
}

export interface LabOptions {
  readonly lpips: Lpips | undefined;
  /** Folder with `bsds500`, `real-noise`, `rain100h` and `blur`. */
  readonly data: string | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const baseSettings = ({ domain, steps, batch, crop, learningRate, seed }: ArmPlan): JointSettings => ({
  ...{ steps, batch, crop, learningRate, seed },
  ...{ warmup: 0, schedule: "cosine", clip: 0, mode: 0, timesteps: [1, 999], helperRate: 2 },
  ...{ alpha: { cap: 0, ramp: 1 }, range: DOMAINS[domain].range },
});

const silent = (): WorkEvent | undefined => undefined;

/** The lab of the study. */
export function openLab({ lpips, data, threads, signal }: LabOptions): Lab {
  const settings = threads === undefined ? {} : { threads };
  const sources = (plan: ArmPlan, oracle: boolean) =>
    sourcesOf(plan.world, plan.domain, { ...plan, oracle, data });
  const run = async function* (
    training: JointTraining<object>,
  ): Work<{ restorer: Restorer; helper: object | undefined }> {
    return yield* trainJoint({ ...training, threads, signal });
  };

  async function* scores(
    title: string,
    net: Restorer | undefined,
    pairs: Awaited<ReturnType<typeof judgedPairs>>,
  ): Work<SetScores> {
    const restoring = net && openRestoring(net, settings);
    try {
      const way = restoring ? wayOf(restoring) : unchanged;
      const { way: found } = yield* told(scored(title, { way }, pairs, { lpips, threads, signal }), silent);
      const column = (name: "psnr" | "ssim" | "detail"): number[] => found.map((one) => one[name]);
      return {
        ...{ psnr: column("psnr"), ssim: column("ssim"), detail: column("detail") },
        ...(lpips && { lpips: found.map((one) => one.lpips!) }),
      };
    } finally {
      await restoring?.close();
    }
  }

  return {
    async *start(plan, folder) {
      const net = createRestorer(RESTORER_SIZES.unet, createRng(plan.seed)) as Restorer;
      const given = baseSettings(plan);
      const way = wayOfArm({ about: "", kind: "vanilla" }, net, given, plan.diffusion);
      const stage = folder.split("/").at(-1)!;
      return (yield* run({ stage, net, sources: await sources(plan, false), settings: given, way, folder }))
        .restorer;
    },

    async *train(arm, plan, net, folder) {
      const given = armSettings(arm, baseSettings(plan));
      let way = wayOfArm(arm, net, given, plan.diffusion);
      const common = { net, sources: await sources(plan, arm.kind === "oracle") };
      if (arm.diffusion === "strong") {
        const alone: Way<NoiseGuesser> = {
          helper: way.helper as NoiseGuesser,
          held: "restorer",
          loss: aheadLoss(given),
        };
        const first = { ...given, steps: Math.ceil(given.steps / 3) };
        const { helper } = yield* run({
          ...common,
          stage: "diffusion model",
          settings: first,
          way: alone as Way<object>,
          folder: `${folder}/first`,
        });
        way = strongWay(helper as NoiseGuesser, given, way as Way<NoiseGuesser>) as Way<object>;
      }
      const waySettings = { kind: arm.kind, weight: arm.weight ?? 0, diffusion: arm.diffusion ?? "" };
      const stage = folder.split("/").at(-1)!;
      return (yield* run({ ...common, stage, settings: given, way, waySettings, folder })).restorer;
    },

    async *score(net, world, domain, set, count) {
      return yield* scores(`${domain}, ${set}`, net, await judgedPairs(world, domain, set, count, data));
    },

    async *transfer(net, domain) {
      return yield* scores(`${domain}, photographs`, net, await transferPairs(TRANSFER[domain]!, data!));
    },
  };
}

/** Everything that is done to one full-precision model in the study. What several measurements need is made once. */
import type { Labelled } from "../../data/index.ts";
import {
  type ExtractedFeatures,
  type FeatureNetwork,
  qualityOf,
  referenceOf,
  trainClassifier,
} from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { withQuantized } from "../../nn/index.ts";
import { drained, type Work } from "../../work.ts";
import { type MethodName, quantizeDiT } from "./baselines.ts";
import { classMeans } from "./data.ts";
import * as deploy from "./deploy.ts";
import type { Bits, CalibrationBatch, Groups } from "./method.ts";
import { pictureRatio, predictionErrors } from "./scores.ts";
import { type GroupSearchSettings, type GroupsFound, searchOn } from "./search.ts";
import { type StressOptions, stressed } from "./stress.ts";
import {
  type CalibrationSettings,
  calibrationBatches,
  recordTrajectory,
  type Trajectory,
  type TrajectorySettings,
} from "./trajectories.ts";
import { type Drawn, draw } from "./use.ts";

export type Condition = "natural" | "stress";

/** A model in few bits: which one, rounded how. Bits and groups mean nothing to `fp32`. */
export interface Rounding {
  readonly condition: Condition;
  readonly method: MethodName | "fp32";
  readonly bits: Bits;
  readonly groups: Groups;
}

/** How the models are made hard, calibrated and compared: plain data. */
export interface BasisSettings {
  readonly stress: StressOptions;
  readonly calibration: CalibrationSettings;
  readonly trajectory: TrajectorySettings;
}

/** Which pictures are drawn: plain data. */
export interface DrawingSettings {
  /** Of each seed. */
  readonly pictures: number;
  /** Of DDIM. */
  readonly steps: number;
  /** 1: none. */
  readonly guidance: number;
  readonly seeds: readonly number[];
}

/** Plain data: the second judge has the first one's architecture and data, and another seed. */
export interface JudgeSettings {
  readonly steps: number;
  readonly seed: number;
}

/** Of the pictures of every seed, in order. */
export interface PictureScores {
  /** Fréchet distance to the real pictures in the features that the search uses, too. */
  readonly first: readonly number[];
  /** The same in features that take no part in any search. */
  readonly second: readonly number[];
  /** Share of pictures that the first judge takes for what they were asked to be. */
  readonly agreement: readonly number[];
  /** PSNR in dB against the full-precision model's pictures of the same seed; infinite for itself. */
  readonly ratio: readonly number[];
}

/** Bits of the weights, and the size of their groups. */
export interface PackedForm {
  readonly weights: number;
  readonly group: number;
}

/** What a study asks for. Tests ask a lab that notes it. */
export interface Lab {
  trainJudge(settings: JudgeSettings): Promise<FeatureNetwork>;
  /** Signal-to-noise ratio of single predictions, dB for each step of the trajectory. */
  predictions(rounding: Rounding): Promise<number[]>;
  pictures(rounding: Rounding, drawing: DrawingSettings, second: FeatureNetwork): Promise<PictureScores>;
  /** Distances of the mean picture of every class, by both judges. */
  means(count: number, second: FeatureNetwork): Promise<[first: number, second: number]>;
  search(
    stage: string,
    rounding: Rounding,
    settings: GroupSearchSettings,
    judged: DrawingSettings,
  ): Work<GroupsFound>;
  pack(form: PackedForm): Promise<DiTTransformer2DModel>;
  /** What the model of a file weighs; of a packed form, how well it agrees with its simulation, too. */
  weigh(file: string, batch: number, form?: PackedForm): Promise<deploy.Deployed>;
  stepTimes(files: Readonly<Record<string, string>>, settings: deploy.StepSettings): Promise<deploy.TimesOf>;
  layers(shape: deploy.LayerShape, settings: deploy.TimingSettings): Promise<deploy.LayerTime[]>;
}

export interface LabOptions extends BasisSettings {
  readonly model: DiTTransformer2DModel;
  /** The judge of the search. */
  readonly judge: FeatureNetwork;
  readonly real: Labelled;
  readonly training: Labelled;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Prepared {
  readonly model: DiTTransformer2DModel;
  readonly batches: readonly CalibrationBatch[];
  readonly trajectory: Trajectory;
}

/** What was made for a key; of another key, it is made. */
function memo<T>(most = Number.POSITIVE_INFINITY) {
  const made = new Map<string, Promise<T>>();
  return (key: object | string, make: () => Promise<T>): Promise<T> => {
    const name = JSON.stringify(key);
    const found = made.get(name) ?? make();
    made.delete(name);
    made.set(name, found);
    for (const oldest of made.keys()) if (made.size > most) made.delete(oldest);
    return found;
  };
}

/** The lab that really works. */
export function openLab(options: LabOptions): Lab {
  const { judge, real, training, threads, signal } = options;
  const running = { threads, signal };
  const conditions = memo<Prepared>();
  const lastModel = memo<DiTTransformer2DModel>(1);
  const lastPacked = memo<deploy.PackedDiT>(1);
  const originals = memo<Drawn[]>();
  const references = new Map<FeatureNetwork, Promise<ExtractedFeatures>>();

  const reference = (network: FeatureNetwork): Promise<ExtractedFeatures> => {
    if (!references.has(network)) references.set(network, referenceOf(network, real));
    return references.get(network)!;
  };
  const condition = (name: Condition): Promise<Prepared> =>
    conditions(name, async () => {
      const model = name === "natural" ? options.model : await stressed(options.model, options.stress);
      return {
        model,
        batches: await calibrationBatches(model, options.calibration, running),
        trajectory: await recordTrajectory(model, options.trajectory, running),
      };
    });
  const rounded = async (rounding: Rounding): Promise<DiTTransformer2DModel> => {
    const { method, bits, groups } = rounding;
    const { model, batches } = await condition(rounding.condition);
    if (method === "fp32") return model;
    return lastModel(rounding, async () =>
      withQuantized(model, await quantizeDiT(model, method, bits, groups, batches), "simulated"),
    );
  };
  const drawn = async (model: DiTTransformer2DModel, drawing: DrawingSettings): Promise<Drawn[]> => {
    const { pictures: count, steps, guidance, seeds } = drawing;
    const all: Drawn[] = [];
    for (const seed of seeds)
      all.push(await drained(draw(model, { count, steps, guidance, seed, ...running })));
    return all;
  };
  const packed = (form: PackedForm): Promise<deploy.PackedDiT> =>
    lastPacked(form, async () => {
      const { model, batches } = await condition("natural");
      return deploy.packDiT(model, form.weights, form.group, batches);
    });

  return {
    trainJudge: ({ steps, seed }) =>
      trainClassifier(training, { steps, seed, ...(threads !== undefined && { threads }) }),

    async predictions(rounding) {
      const { trajectory } = await condition(rounding.condition);
      return predictionErrors(await rounded(rounding), trajectory, threads);
    },

    async pictures(rounding, drawing, second) {
      const original = await originals([rounding.condition, drawing], async () =>
        drawn((await condition(rounding.condition)).model, drawing),
      );
      const own = rounding.method === "fp32" ? original : await drawn(await rounded(rounding), drawing);
      const scores = { first: [], second: [], agreement: [], ratio: [] } as Record<
        keyof PictureScores,
        number[]
      >;
      for (const [i, pictures] of own.entries()) {
        const { fid, agreement } = await qualityOf(judge, await reference(judge), pictures);
        scores.first.push(fid);
        scores.agreement.push(agreement!);
        scores.second.push((await qualityOf(second, await reference(second), pictures)).fid);
        scores.ratio.push(await pictureRatio(original[i]!.values, pictures.values));
      }
      return scores;
    },

    async means(count, second) {
      const pictures = classMeans(training, count);
      const distance = async (network: FeatureNetwork): Promise<number> =>
        (await qualityOf(network, await reference(network), pictures)).fid;
      return [await distance(judge), await distance(second)];
    },

    async *search(stage, rounding, settings, judged) {
      const { model } = await condition(rounding.condition);
      const fitness = async (groups: readonly number[]): Promise<number> => {
        const [pictures] = await drawn(await rounded({ ...rounding, groups }), judged);
        return (await qualityOf(judge, await reference(judge), pictures!)).fid;
      };
      return yield* searchOn(model, rounding.bits, settings, {
        ...{ stage, fitness },
        ...(signal && { signal }),
      });
    },

    pack: async (form) => (await packed(form)).packed,

    async weigh(file, batch, form) {
      const simulated = form && (await packed(form)).simulated;
      return deploy.weigh(file, options.model, { batch, simulated, threads });
    },

    stepTimes: deploy.stepTimes,
    layers: deploy.timeLayers,
  };
}

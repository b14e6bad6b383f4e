/** Everything that is done to one full-precision model in the study. What several measurements need is made once. */
import { classMeans, type Labelled, type LabelledPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import {
  type ExtractedFeatures,
  type FeatureNetwork,
  qualityOf,
  referenceOf,
  trainClassifier,
} from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { withQuantized } from "../../nn/index.ts";
import { mean } from "../../study/index.ts";
import { drained, type Work } from "../../work.ts";
import { METHODS, type MethodName, quantizeDiT } from "./baselines.ts";
import * as deploy from "./deploy.ts";
import type { Bits, CalibrationBatch, Groups } from "./method.ts";
import { pictureRatio, predictionErrors } from "./scores.ts";
import { type Fitness, type GroupSearchSettings, type GroupsFound, searchOn } from "./search.ts";
import { type StressOptions, stressed } from "./stress.ts";
import {
  type CalibrationSettings,
  calibrationBatches,
  type Running,
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

/** Bits, and the sizes of the groups. */
export interface PackedForm {
  readonly weights: number;
  /** Default 8. */
  readonly activations?: 8 | 16;
  readonly groups: Groups;
}

/** What a study asks for. Tests ask a lab that notes it. */
export interface Lab {
  trainJudge(settings: JudgeSettings): Promise<FeatureNetwork>;
  /** Signal-to-noise ratio of single predictions, dB for each step of the trajectory. */
  predictions(rounding: Rounding): Promise<number[]>;
  pictures(rounding: Rounding, drawing: DrawingSettings, second: FeatureNetwork): Promise<PictureScores>;
  /** Distances of the mean picture of every class, by both judges. */
  means(count: number, second: FeatureNetwork): Promise<[first: number, second: number]>;
  /** Candidates are judged by the distance of their pictures, or by the error of their predictions. */
  search(
    stage: string,
    rounding: Rounding,
    settings: GroupSearchSettings,
    judged: DrawingSettings | "predictions",
  ): Work<GroupsFound>;
  pack(form: PackedForm): Promise<DiTTransformer2DModel>;
  /** What the model of a file weighs; if it is packed, how well it agrees with its simulation, too. */
  weigh(file: string, batch: number): Promise<deploy.Deployed>;
  stepTimes(files: Readonly<Record<string, string>>, settings: deploy.StepSettings): Promise<deploy.TimesOf>;
  layers(shape: deploy.LayerShape, settings: deploy.TimingSettings): Promise<deploy.LayerTime[]>;
}

export interface LabOptions extends BasisSettings, Running {
  readonly model: DiTTransformer2DModel;
  /** The judge of the search, and pictures to compare with: for everything but predictions and packing. */
  readonly judge?: FeatureNetwork | undefined;
  readonly real?: Labelled | undefined;
  readonly training?: Labelled | undefined;
}

interface Prepared {
  readonly model: DiTTransformer2DModel;
  /** Calibration samples of a seed. */
  readonly batches: (seed: number) => Promise<readonly CalibrationBatch[]>;
  readonly trajectory: () => Promise<Trajectory>;
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
  const { threads, signal, scheduler, calibration } = options;
  const running: Running = { threads, signal, scheduler };
  const conditions = memo<Prepared>();
  const lastModel = memo<DiTTransformer2DModel>(1);
  const originals = memo<Drawn[]>();
  const references = new Map<FeatureNetwork, Promise<ExtractedFeatures>>();

  const needed = <K extends "judge" | "real" | "training">(name: K): NonNullable<LabOptions[K]> => {
    const found = options[name];
    if (!found) throw new ArgumentError(`the lab has no ${name}, which pictures are compared by`);
    return found;
  };
  const qualityIn = async (network: FeatureNetwork, pictures: LabelledPictures) => {
    if (!references.has(network)) references.set(network, referenceOf(network, needed("real")));
    return qualityOf(network, await references.get(network)!, pictures);
  };
  const condition = (name: Condition): Promise<Prepared> =>
    conditions(name, async () => {
      const model = name === "natural" ? options.model : await stressed(options.model, options.stress);
      const samples = memo<readonly CalibrationBatch[]>();
      const recorded = memo<Trajectory>();
      return {
        model,
        batches: (seed) =>
          samples(String(seed), () => calibrationBatches(model, { ...calibration, seed }, running)),
        trajectory: () => recorded("", () => recordTrajectory(model, options.trajectory, running)),
      };
    });
  const rounded = async (rounding: Rounding, seed = calibration.seed): Promise<DiTTransformer2DModel> => {
    const { method, bits, groups } = rounding;
    const { model, batches } = await condition(rounding.condition);
    if (method === "fp32") return model;
    const calibrated = METHODS[method].needs !== "nothing";
    return lastModel([rounding, calibrated && seed], async () => {
      const layers = await quantizeDiT(model, method, bits, groups, calibrated ? await batches(seed) : []);
      return withQuantized(model, layers, "simulated");
    });
  };
  const drawn = async (
    model: (seed: number) => Promise<DiTTransformer2DModel>,
    { pictures: count, steps, guidance, seeds }: DrawingSettings,
  ): Promise<Drawn[]> => {
    const all: Drawn[] = [];
    for (const seed of seeds)
      all.push(await drained(draw(await model(seed), { count, steps, guidance, seed, ...running })));
    return all;
  };
  const original = (name: Condition, drawing: DrawingSettings): Promise<Drawn[]> =>
    originals([name, drawing], async () => {
      const { model } = await condition(name);
      return drawn(async () => model, drawing);
    });
  const predictions = async (rounding: Rounding, seed?: number): Promise<number[]> => {
    const { trajectory } = await condition(rounding.condition);
    return predictionErrors(await rounded(rounding, seed), await trajectory(), threads);
  };

  return {
    trainJudge: ({ steps, seed }) =>
      trainClassifier(needed("training"), { steps, seed, ...(threads !== undefined && { threads }) }),

    predictions,

    async pictures(rounding, drawing, second) {
      const floats = await original(rounding.condition, drawing);
      const calibratedFor = (seed: number) => rounded(rounding, calibration.seed + seed);
      const own = rounding.method === "fp32" ? floats : await drawn(calibratedFor, drawing);
      const scores = { first: [], second: [], agreement: [], ratio: [] } as Record<
        keyof PictureScores,
        number[]
      >;
      for (const [i, pictures] of own.entries()) {
        const { fid, agreement } = await qualityIn(needed("judge"), pictures);
        scores.first.push(fid);
        scores.agreement.push(agreement!);
        scores.second.push((await qualityIn(second, pictures)).fid);
        scores.ratio.push(await pictureRatio(floats[i]!.values, pictures.values));
      }
      return scores;
    },

    async means(count, second) {
      const pictures = classMeans(needed("training"), count);
      return [(await qualityIn(needed("judge"), pictures)).fid, (await qualityIn(second, pictures)).fid];
    },

    async *search(stage, rounding, settings, judged) {
      const { model } = await condition(rounding.condition);
      const byPredictions = async (groups: readonly number[], seed: number): Promise<Fitness> => {
        const ratio = mean(await predictions({ ...rounding, groups }, seed));
        return { fitness: -ratio, ratio };
      };
      const byPictures = async (groups: readonly number[], seed: number): Promise<Fitness> => {
        const drawing = judged as DrawingSettings;
        const [floats] = await original(rounding.condition, drawing);
        const [pictures] = await drawn(() => rounded({ ...rounding, groups }, seed), drawing);
        const { fid: fitness } = await qualityIn(needed("judge"), pictures!);
        return { fitness, ratio: await pictureRatio(floats!.values, pictures!.values) };
      };
      const fitness = judged === "predictions" ? byPredictions : byPictures;
      const { calibrations } = settings;
      const calibrated = rounding.method !== "fp32" && METHODS[rounding.method].needs !== "nothing";
      const own = { ...settings, calibrations: calibrated ? calibrations : calibrations.slice(0, 1) };
      return yield* searchOn(model, rounding.bits, own, { stage, fitness, signal });
    },

    async pack({ weights, activations = 8, groups }) {
      const { model, batches } = await condition("natural");
      return deploy.packDiT(model, { weights, activations }, groups, await batches(calibration.seed));
    },

    weigh: (file, batch) => deploy.weigh(file, options.model, { batch, threads }),

    stepTimes: deploy.stepTimes,
    layers: deploy.timeLayers,
  };
}

/** How each number of the study is asked for: every kind of cell, with all that decides it. */
import { rmdir } from "node:fs/promises";
import { ArgumentError } from "../../errors.ts";
import { type FeatureNetwork, openFeatureNetwork, saveFeatureNetwork } from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import type { Made, MeasureCell, ModelCell, Study } from "../../study/index.ts";
import { during, told, type Work } from "../../work.ts";
import { METHODS } from "./baselines.ts";
import {
  type Form,
  formName,
  groupsText,
  type Packed,
  packedName,
  pictureName,
  type Search,
  searchName,
  type View,
} from "./cells.ts";
import type { Condition, DrawingSettings, Lab, PictureScores } from "./lab.ts";
import type { Groups } from "./method.ts";
import { ditFile } from "./model.ts";
import type { ReproduceActionOptions } from "./options.ts";
import type { TimedOn } from "./page.ts";
import type { GroupsFound } from "./search.ts";

/** Fingerprints of what the study begins with, and what timings run on. */
export interface Subject extends TimedOn {
  /** The full-precision model. */
  readonly model: string;
  /** The network whose features judge the search. */
  readonly judge: string;
  /** Real pictures that drawn ones are compared with, and those that the second judge is trained on. */
  readonly real: string;
  readonly training: string;
  /** Path of the model's file: not part of what decides. */
  readonly file: string;
}

/** All settings as plain data. */
export const settingsOf = (options: ReproduceActionOptions) => ({
  stress: { seed: 7, share: 0.04, factors: [8, 32] as const },
  /** Of predictions and packed models; pictures of seed k are drawn by a model calibrated with this seed + k. */
  calibration: { samples: options.samples, batch: 32, steps: 25, seed: 1000, guidance: 1.5 },
  trajectory: { count: 48, steps: 15, seed: 2000 },
  judge: { steps: options.judgeSteps, seed: 1 },
  drawing: { pictures: options.pictures, steps: options.steps, guidance: 1, seeds: [1, 2, 3] },
  /** Of each seed, where guidance and numbers of steps are compared. */
  viewPictures: options.stepPictures,
  search: {
    population: options.population,
    generations: options.generations,
    top: 4,
    mutation: 0.1,
    space: [16, 32, 64, 128],
    budget: 64,
    seed: 5,
    calibrations: [1011, 1012],
    tie: 0.05,
  },
  /** The pictures that judge a candidate: of no seed that judges the result, neither of noise nor of calibration. */
  searchDrawing: { pictures: options.searchPictures, steps: options.searchSteps, guidance: 1, seeds: [3000] },
  /** Pictures at once where packed models are weighed and timed. */
  batch: 50,
  rounds: options.rounds,
});
export type StudySettings = ReturnType<typeof settingsOf>;

/** A model in its file. */
export interface InFile {
  readonly model: DiTTransformer2DModel;
  readonly path: string;
}

/** Says that a cell is not there, where nothing is to be made. */
const NOT_MADE = new ArgumentError("this was not measured");

/** Makes no model, and leaves no empty folder for it. */
async function* notMade(folder: string): Work<never> {
  await rmdir(folder).catch(() => undefined); // a training that was stopped may have left something
  throw NOT_MADE;
}

/** Stands for a size where there are no groups, or where a search gives them. */
const NO_GROUPS = 0;

/** The group sizes of a form. @throws ArgumentError where a search is to give them, and none is given */
function sizesOf({ groups }: Pick<Form, "groups">, search?: Made<GroupsFound>): Groups {
  if (typeof groups === "number") return groups;
  if (groups === "none") return NO_GROUPS;
  if (!search) throw new ArgumentError(`group sizes ${groupsText({ groups })}: the search comes before them`);
  return search.value[groups.take];
}

/** Shows a bar while a promise is pending. */
const pending = <T>(stage: string, promise: Promise<T>): Work<T> =>
  during(promise, () => ({ type: "progress", stage, done: 0, total: 1 }), 1000);

/** What the numbers of a study are asked of. */
interface Asked {
  readonly study: Study;
  readonly subject: Subject;
  readonly settings: StudySettings;
  readonly lab: Lab;
  /** Off: what is not there stays unmeasured. */
  readonly makes: boolean;
  /** Number of cells, for the bar. */
  readonly total: number;
}

/** Every kind of cell, with all that decides it. */
export class Cells {
  readonly asked: Asked;
  private done = 0;

  constructor(asked: Asked) {
    this.asked = asked;
  }

  /** A cell, or undefined where it is not there and nothing is made. Its own bar gives way to that of the whole. */
  private async *one<T>(name: string, cell: Work<Made<T>>): Work<Made<T> | undefined> {
    let made: Made<T> | undefined;
    try {
      made = yield* told(cell, (event) =>
        event.type === "progress" && event.stage === name && event.total === 1 ? undefined : event,
      );
    } catch (error) {
      if (error !== NOT_MADE) throw error;
    }
    const { total } = this.asked;
    yield { type: "progress", stage: "cells", done: ++this.done, total, note: name };
    return made;
  }

  measure<T>(name: string, cell: MeasureCell<T>): Work<Made<T> | undefined> {
    const { study, makes } = this.asked;
    const measure = makes ? cell.measure : () => Promise.reject(NOT_MADE);
    return this.one(name, study.measure<T>(name, { ...cell, measure }));
  }

  private model<M extends object>(name: string, cell: ModelCell<M>): Work<Made<M> | undefined> {
    const { study, makes } = this.asked;
    const make = makes ? cell.make : notMade;
    return this.one(name, study.model<M>(name, { ...cell, make }));
  }

  /** What the model of a condition is. */
  private conditionOf(name: Condition): object {
    const { subject, settings } = this.asked;
    return { model: subject.model, condition: name, ...(name === "stress" && settings.stress) };
  }

  /** What decides the codes of a form; sizes that were searched for come by `from`. */
  private roundingOf({ condition, method, bits, groups }: Form): object {
    if (method === "fp32") return this.conditionOf(condition);
    return {
      ...this.conditionOf(condition),
      ...{ method, bits, groups },
      scheme: METHODS[method].scheme(bits, typeof groups === "number" ? groups : NO_GROUPS),
      ...(METHODS[method].needs !== "nothing" && { calibration: this.asked.settings.calibration }),
    };
  }

  predictions(form: Form): Work<Made<number[]> | undefined> {
    const { trajectory } = this.asked.settings;
    return this.measure(`predictions: ${formName(form)}`, {
      given: { ...this.roundingOf(form), trajectory },
      measure: () => this.asked.lab.predictions({ ...form, groups: sizesOf(form) }),
    });
  }

  pictures(
    form: Form,
    view: View,
    second: Made<FeatureNetwork>,
    search?: Made<GroupsFound>,
  ): Work<Made<PictureScores> | undefined> {
    const { drawing: usual, viewPictures } = this.asked.settings;
    const { judge, real } = this.asked.subject;
    const isView = Object.keys(view).length > 0;
    const drawing: DrawingSettings = { ...usual, ...(isView && { pictures: viewPictures }), ...view };
    const sizes = sizesOf(form, search);
    return this.measure(`pictures: ${pictureName(form, view)}`, {
      given: { ...this.roundingOf(form), drawing, judge, real },
      from: search ? [second, search] : [second],
      measure: () => this.asked.lab.pictures({ ...form, groups: sizes }, drawing, second.value),
    });
  }

  search({ condition, method }: Search): Work<Made<GroupsFound> | undefined> {
    const { search, searchDrawing } = this.asked.settings;
    const { judge, real } = this.asked.subject;
    const name = searchName({ condition, method });
    const rounding = { condition, method, bits: { weights: 4, activations: 8 }, groups: search.budget };
    return this.measure(name, {
      given: { ...this.roundingOf(rounding), search, drawing: searchDrawing, judge, real },
      measure: () => this.asked.lab.search(name, rounding, search, searchDrawing),
    });
  }

  secondJudge(): Work<Made<FeatureNetwork> | undefined> {
    const { judge } = this.asked.settings;
    const { training } = this.asked.subject;
    const { lab } = this.asked;
    return this.model<FeatureNetwork>("second judge", {
      given: { ...judge, training },
      make: () => pending("training the second judge", lab.trainJudge(judge)),
      save: (path, network) => saveFeatureNetwork(path, network),
      load: async (path) => (await openFeatureNetwork(path, "second judge")).network,
    });
  }

  packed(one: Packed, search?: Made<GroupsFound>): Work<Made<InFile> | undefined> {
    const { calibration } = this.asked.settings;
    const { lab } = this.asked;
    const quantized = `${packedName(one)}, GPTQ on ${calibration.samples} samples`;
    return this.model<InFile>(`packed ${packedName(one)}`, {
      given: { ...this.conditionOf("natural"), weights: one.bits.weights, groups: one.groups, calibration },
      ...(search && { from: [search] }),
      make: (path) =>
        pending(
          quantized,
          lab
            .pack({ weights: one.bits.weights, groups: sizesOf(one, search) })
            .then((model) => ({ model, path })),
        ),
      save: (path, { model }) => ditFile.save(path, model, { quantized }),
      load: async (path) => ({ model: (await ditFile.load(path)).model, path }),
    });
  }
}

/** The study of Q-DiT: how each number is asked for, with all that decides it, and the page that says what came of it. */
import { rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ArgumentError } from "../../errors.ts";
import { type FeatureNetwork, openFeatureNetwork, saveFeatureNetwork } from "../../metrics/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import {
  fileFingerprint,
  fingerprint,
  judged,
  type Made,
  type MeasureCell,
  type ModelCell,
  openStudy,
  publish,
  type Study,
  summaryOf,
  type Verdict,
} from "../../study/index.ts";
import { deviceCapabilities, sessionThreads } from "../../tensor/index.ts";
import { during, told, type Work } from "../../work.ts";
import { commandLine } from "../command-line.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { METHODS } from "./baselines.ts";
import {
  CORE,
  type Form,
  FURTHER,
  formName,
  groupsText,
  PACKED,
  type Packed,
  packedName,
  pictureName,
  SEARCHED,
  SEARCHES,
  type Search,
  SHAPES,
  searchName,
  type View,
} from "./cells.ts";
import { readPictures } from "./data.ts";
import type { Deployed, LayerTime } from "./deploy.ts";
import { type Condition, type DrawingSettings, type Lab, openLab, type PictureScores } from "./lab.ts";
import type { Groups } from "./method.ts";
import { ditFile, fileOf, openModel } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { type TimedOn, tablesOf } from "./page.ts";
import { type Found, RULES } from "./rules.ts";
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
  calibration: { samples: 128, batch: 32, steps: 25, seed: 1000, guidance: 1.5 },
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
interface InFile {
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
class Cells {
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
          lab.pack({ weights: one.bits.weights, groups: sizesOf(one, search) }).then((model) => ({ model, path })),
        ),
      save: (path, { model }) => ditFile.save(path, model, { quantized }),
      load: async (path) => ({ model: (await ditFile.load(path)).model, path }),
    });
  }
}

/** Asks for everything, what decides the claim first. */
export async function* measured(
  study: Study,
  subject: Subject,
  settings: StudySettings,
  lab: Lab,
  { further, measure: makes }: Pick<ReproduceActionOptions, "further" | "measure">,
): Work<Found> {
  const wanted = further ? [CORE, FURTHER] : [CORE];
  const counts = wanted.map(({ predicted, drawn }) => predicted.length + drawn.length);
  const others = 2 + SEARCHES.length + SEARCHED.length + 2 * PACKED.length + 2 + SHAPES.length;
  const total = counts.reduce((a, b) => a + b, others);
  const ask = new Cells({ study, subject, settings, lab, makes, total });
  const predictions: Record<string, readonly number[]> = {};
  const pictures: Record<string, PictureScores> = {};
  const searches: Record<string, GroupsFound> = {};

  const second = yield* ask.secondJudge();
  const draws = async function* (form: Form, view: View, search?: Made<GroupsFound>): Work<void> {
    const made = second && (yield* ask.pictures(form, view, second, search));
    if (made) pictures[pictureName(form, view)] = made.value;
  };
  for (const { predicted, drawn } of wanted) {
    for (const [form, view] of drawn) yield* draws(form, view);
    for (const form of predicted) {
      const made = yield* ask.predictions(form);
      if (made) predictions[formName(form)] = made.value;
    }
  }
  const { pictures: count } = settings.drawing;
  const means =
    second &&
    (yield* ask.measure("mean picture of each class", {
      given: { count, training: subject.training, judge: subject.judge, real: subject.real },
      from: [second],
      measure: () => lab.means(count, second.value),
    }));

  const natural = new Map<string, Made<GroupsFound>>();
  for (const search of SEARCHES) {
    const made = yield* ask.search(search);
    if (!made) continue;
    searches[searchName(search)] = made.value;
    if (search.condition === "natural") natural.set(search.method, made);
    for (const form of SEARCHED) {
      const { condition, groups } = form;
      if (condition === search.condition && typeof groups === "object" && groups.by === search.method)
        yield* draws(form, {}, made);
    }
  }
  return {
    ...{ predictions, pictures, searches, means: means?.value },
    ...(yield* deployed(ask, natural)),
  };
}

/** What packed models and layers weigh, and how fast they are. */
async function* deployed(
  ask: Cells,
  searches: ReadonlyMap<string, Made<GroupsFound>>,
): Work<Pick<Found, "packed" | "stepTimes" | "layers">> {
  const { subject, settings, lab } = ask.asked;
  const { threads, kernels, model } = subject;
  const { batch, rounds } = settings;
  const packed: Record<string, Deployed> = {};
  const files: Record<string, string> = { "full precision": subject.file };
  const floats = yield* ask.measure("full precision", {
    given: { model, batch },
    measure: () => lab.weigh(subject.file, batch),
  });
  if (floats) packed["full precision"] = floats.value;
  const made: Made<InFile>[] = [];
  for (const one of PACKED) {
    const search = typeof one.groups === "object" ? searches.get(one.groups.by) : undefined;
    const file = typeof one.groups === "object" && !search ? undefined : yield* ask.packed(one, search);
    if (!file) continue;
    made.push(file);
    files[packedName(one)] = file.value.path;
    const weighed = yield* ask.measure(`weight of ${packedName(one)}`, {
      given: { kernels, batch },
      from: [file],
      measure: () => lab.weigh(file.value.path, batch),
    });
    if (weighed) packed[packedName(one)] = weighed.value;
  }
  const timing = { batch, rounds, threads };
  const times = yield* ask.measure("time of a step", {
    given: { ...timing, kernels, model },
    from: made,
    measure: () => lab.stepTimes(files, timing),
  });
  const layers: Record<string, readonly LayerTime[]> = {};
  for (const shape of SHAPES) {
    const name = `linear layer, ${shape.inFeatures} to ${shape.outFeatures}, ${shape.tokens} tokens`;
    const own = { rounds, threads };
    const found = yield* ask.measure(name, {
      given: { ...shape, ...own, kernels },
      measure: () => lab.layers(shape, own),
    });
    if (found) layers[name] = found.value;
  }
  return { packed, stepTimes: times?.value, layers };
}

/** What was found, the unwelcome first. */
function findingOf(verdicts: readonly Verdict[]): string {
  const failed = verdicts.filter(({ judged: found }) => found?.holds === false).map(({ name }) => name);
  return failed.length === 0 ? "" : `Does not hold: ${failed.join("; ")}.`;
}

const README = join("src", "systems", "q-dit", "README.md");

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );

/** `tweedie reproduce q-dit`: measures what is missing, and writes the page. */
export async function* reproduceAction(
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { data, threads, work, out } = options;
  const [real, training] = [await readPictures(data, "test"), await readPictures(data, "train")];
  const judgeFile = await shippedFile("checkpoints/fashion-features.safetensors");
  const { exactSignedBytes = false, roundsBlocks = false } = await deviceCapabilities("cpu");
  const file = await fileOf(options.model);
  const contentOf = (pictures: typeof real): string =>
    fingerprint({ values: pictures.values, labels: pictures.labels });
  const subject: Subject = {
    model: await fileFingerprint(file),
    judge: await fileFingerprint(judgeFile),
    real: contentOf(real),
    training: contentOf(training),
    file,
    threads: threads ?? (await sessionThreads()).threads,
    kernels: { exactSignedBytes, roundsBlocks },
  };
  const settings = settingsOf(options);
  const study = await openStudy(work, { version: 2, signal });
  const { model } = await openModel(options.model);
  const judge = (await openFeatureNetwork(judgeFile)).network;
  const lab = openLab({ ...settings, model, judge, real, training, threads, signal });
  const found = yield* measured(study, subject, settings, lab, options);
  const verdicts = judged(RULES, "Fashion-MNIST", found);
  const official = out === reproduceOptions.shape.out.parse(undefined) && (await isFile(README));
  yield* publish(out, study, {
    title: "Q-DiT in miniature, measured",
    finding: findingOf(verdicts),
    command: commandLine("reproduce q-dit", reproduceOptions, options),
    verdicts,
    tables: tablesOf(found, settings.drawing, subject),
    data: found,
    ...(official && { readme: README }),
  });
  const held = verdicts.filter(({ judged: one }) => one?.holds).length;
  return { summary: summaryOf(verdicts), metrics: { held, rules: verdicts.length } };
}

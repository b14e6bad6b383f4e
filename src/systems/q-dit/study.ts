/** The study of Q-DiT: what is asked for, and the page that says what came of it. */
import type { Labelled } from "../../data/index.ts";
import { openFeatureNetwork } from "../../metrics/index.ts";
import {
  fileFingerprint,
  fingerprint,
  judged,
  type Made,
  type Study,
  type Verdict,
} from "../../study/index.ts";
import { deviceCapabilities, sessionThreads } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { reproducing, type StudyPage } from "../reproduce.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext } from "../system.ts";
import { Cells, type InFile, type StudySettings, type Subject, settingsOf } from "./asked.ts";
import {
  CORE,
  type Form,
  FURTHER,
  formName,
  PACKED,
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
import { type Lab, openLab, type PictureScores } from "./lab.ts";
import { fileOf, openModel } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { tablesOf } from "./page.ts";
import { type Found, RULES } from "./rules.ts";
import type { GroupsFound } from "./search.ts";

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

  const searched = async function* (search: Search): Work<Made<GroupsFound> | undefined> {
    const made = yield* ask.search(search);
    if (!made) return undefined;
    searches[searchName(search)] = made.value;
    for (const form of SEARCHED) {
      const { condition, groups } = form;
      if (condition === search.condition && typeof groups === "object" && groups.by === search.method)
        yield* draws(form, {}, made);
    }
    return made;
  };
  const [first, ...rest] = SEARCHES;
  const sizes = yield* searched(first);
  const packed = yield* deployed(ask, sizes);
  for (const search of rest) yield* searched(search);
  return { predictions, pictures, searches, means: means?.value, ...(yield* timed(ask, packed)) };
}

/** Packed models by name: their files, and what these weigh. */
interface PackedFiles {
  readonly files: Readonly<Record<string, Made<InFile>>>;
  readonly weights: Readonly<Record<string, Deployed>>;
}

/** What packed models weigh; `sizes` are those of the search. */
async function* deployed(ask: Cells, sizes: Made<GroupsFound> | undefined): Work<PackedFiles> {
  const { subject, settings, lab } = ask.asked;
  const { kernels, model } = subject;
  const { batch } = settings;
  const weights: Record<string, Deployed> = {};
  const files: Record<string, Made<InFile>> = {};
  const floats = yield* ask.measure("full precision", {
    given: { model, batch },
    measure: () => lab.weigh(subject.file, batch),
  });
  if (floats) weights["full precision"] = floats.value;
  for (const one of PACKED) {
    const search = typeof one.groups === "object" ? sizes : undefined;
    if (typeof one.groups === "object" && !search) continue;
    const name = packedName(one);
    const file = yield* ask.packed(one, search);
    if (!file) continue;
    files[name] = file;
    const weighed = yield* ask.measure(`weight of ${name}`, {
      given: { kernels, batch },
      from: [file],
      measure: () => lab.weigh(file.value.path, batch),
    });
    if (weighed) weights[name] = weighed.value;
  }
  return { files, weights };
}

/** How fast packed models and layers are. */
async function* timed(
  ask: Cells,
  { files, weights }: PackedFiles,
): Work<Pick<Found, "packed" | "stepTimes" | "layers">> {
  const { subject, settings, lab } = ask.asked;
  const { threads, kernels, model } = subject;
  const { batch, rounds } = settings;
  const timing = { batch, rounds, threads };
  const paths = Object.entries(files).map(([name, { value }]) => [name, value.path]);
  const times = yield* ask.measure("time of a step", {
    given: { ...timing, kernels, model },
    from: Object.values(files),
    measure: () => lab.stepTimes({ "full precision": subject.file, ...Object.fromEntries(paths) }, timing),
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
  return { packed: weights, stepTimes: times?.value, layers };
}

/** What was found, the unwelcome first. */
function findingOf(verdicts: readonly Verdict[]): string {
  const failed = verdicts.filter(({ judged: found }) => found?.holds === false).map(({ name }) => name);
  return failed.length === 0 ? "" : `Does not hold: ${failed.join("; ")}.`;
}

const contentOf = ({ values, labels }: Labelled): string => fingerprint({ values, labels });

interface Measured {
  readonly found: Found;
  readonly settings: StudySettings;
  readonly subject: Subject;
}

/** Asks the lab of a model for what is missing. */
async function* ask(
  study: Study,
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): Work<Measured> {
  const { data, threads } = options;
  const [real, training] = [await readPictures(data, "test"), await readPictures(data, "train")];
  const judgeFile = await shippedFile("checkpoints/fashion-features.safetensors");
  const { exactSignedBytes = false, roundsBlocks = false } = await deviceCapabilities("cpu");
  const file = await fileOf(options.model);
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
  const { model } = await openModel(options.model);
  const judge = (await openFeatureNetwork(judgeFile)).network;
  const lab = openLab({ ...settings, model, judge, real, training, threads, signal });
  return { found: yield* measured(study, subject, settings, lab, options), settings, subject };
}

function page({ found, settings, subject }: Measured): StudyPage {
  const verdicts = judged(RULES, "Fashion-MNIST", found);
  return {
    title: "Q-DiT in miniature, measured",
    finding: findingOf(verdicts),
    verdicts,
    tables: tablesOf(found, settings.drawing, subject),
    data: found,
  };
}

/** `tweedie reproduce q-dit`: measures what is missing, and writes the page. */
export const reproduceAction = reproducing<ReproduceActionOptions, Measured>({
  ...{ system: "q-dit", version: 2, options: reproduceOptions, again: { measure: true } },
  ...{ ask, page },
});

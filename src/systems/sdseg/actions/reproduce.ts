/** `tweedie reproduce sdseg`: trains what the claim needs, measures it, writes tables and figures. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Dataset, fromArray, mapDataset, readAll, subset } from "../../../data/index.ts";
import { SHAPE_CLASSES, shapes } from "../../../data/world/plain-shapes.ts";
import { ArgumentError } from "../../../errors.ts";
import { encodePicture, writeFileAtomic } from "../../../io/index.ts";
import type { Section } from "../../../report/index.ts";
import { openKept } from "../../kept.ts";
import { listed } from "../../options.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { diffusionPredictor, plainPredictor } from "../baselines.ts";
import { saveSDSeg } from "../checkpoint.ts";
import { honestSentence, type Verdict, verdicts } from "../claims.ts";
import { evaluateOn, predictWith } from "../evaluate.ts";
import {
  dataOf,
  type ExperimentOptions,
  type ExperimentProgress,
  sharedAutoencoder,
  trainedBaseline,
  trainedClasses,
  trainedVariant,
  VARIANTS,
  type Variant,
} from "../experiments.ts";
import { openSegmenter } from "../infer.ts";
import {
  type MeasureOptions,
  measureCeiling,
  measureModel,
  measureTimes,
  measureWays,
  otherSamplers,
  type Score,
  type SetResults,
  type Times,
} from "../measure.ts";
import type { SDSeg } from "../model.ts";
import type { ReproduceActionOptions } from "../options.ts";
import {
  type ClassResults,
  classExamples,
  examples,
  stepsChart,
  tablesOf,
  writeFindings,
} from "../results.ts";
import { centreOf, type Sample, samplesOf } from "../samples.ts";
import { hasSet, KNOWN_SETS, knownSet } from "../sets.ts";
import type { Stability } from "../stability.ts";

/** Diffusion in pixels takes 250 calls for a picture. */
const PIXEL_PICTURES = 40;
/** Pictures with four times the pixels go through four at a time less. */
const batchFor = ({ width, height }: Sample): number =>
  Math.max(1, Math.floor((16 * 64 * 64) / (width * height)));

/** Hands on the progress of a training as events. */
async function* shown<R>(
  training: AsyncGenerator<ExperimentProgress, R>,
  stepsOf: (run: string) => number,
): AsyncGenerator<ActionEvent, R> {
  for (;;) {
    const { done, value } = await training.next();
    if (done) return value;
    const { run, event } = value;
    if (event.type === "step") {
      const note = `loss ${event.loss.toFixed(4)}  ${event.stepsPerSecond.toFixed(1)} steps/s  ${Math.ceil(event.secondsLeft)} s left`;
      yield { type: "progress", stage: run, done: event.step, total: stepsOf(run), note };
    }
    if (event.type === "validated" && event.metrics.dice !== undefined)
      yield {
        type: "message",
        text: `${run}, step ${event.step}: validation Dice ${event.metrics.dice.toFixed(4)}`,
      };
  }
}

/** The sets to work on. @throws ArgumentError for unknown names */
async function setsOf({
  data,
  sets,
}: ReproduceActionOptions): Promise<{ sets: string[]; missing: string[] }> {
  const [found, missing]: [string[], string[]] = [[], []];
  for (const name of listed(sets)) {
    const set = knownSet(name);
    if (name !== "lesions" && !set)
      throw new ArgumentError(
        `reproduce sdseg: unknown data set "${name}"; known are lesions, ${KNOWN_SETS.map((s) => s.name).join(", ")}`,
      );
    const there = !set || (data !== undefined && (await hasSet(data, set)));
    (there ? found : missing).push(name);
  }
  if (found.length === 0)
    throw new ArgumentError(
      `reproduce sdseg: none of ${missing.join(", ")} is in ${data ?? "a folder (--data)"}`,
    );
  return { sets: found, missing };
}

/** The plain U-Net over pixels, among the variants. */
const PLAIN = "plain";
const EXTRAS = ["raw-head", "frozen-vision"];

/** What is compared. @throws ArgumentError for unknown names */
function variantsOf({ variants, extras }: ReproduceActionOptions): {
  latent: Variant[];
  plain: boolean;
  extras: Variant[];
} {
  const names = listed(variants);
  const known: readonly string[] = [...VARIANTS.map(({ name }) => name), PLAIN];
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ArgumentError(`reproduce sdseg: unknown variant "${unknown}"; known are ${known.join(", ")}`);
  const chosen = (wanted: readonly string[]): Variant[] =>
    VARIANTS.filter(({ name }) => wanted.includes(name));
  return {
    latent: chosen(["lambda-1", ...names]),
    plain: names.includes(PLAIN),
    extras: extras ? chosen(EXTRAS.filter((name) => !names.includes(name))) : [],
  };
}

/** What is measured on: the first lesions, the middles of real pictures when a window is asked for. */
async function testSplit(
  set: string,
  data: ReturnType<typeof dataOf>,
  { test, window }: Pick<ReproduceActionOptions, "test" | "window">,
): Promise<Dataset<Sample>> {
  const all = await data(set, "test");
  const count = set === "lesions" ? Math.min(test, all.length) : all.length;
  const first = Array.from({ length: count }, (_, i) => i);
  const chosen = subset(all, first);
  return window === undefined ? chosen : mapDataset(chosen, (sample) => centreOf(sample, window));
}

/** Everything that is measured on one set. */
async function* measureSet(
  set: string,
  models: ReadonlyMap<string, SDSeg>,
  { options, experiment, data, test }: SetWork,
): AsyncGenerator<ActionEvent, { results: SetResults; times: Times }> {
  const { threads } = options;
  const first = await test.get(0);
  const measured = `${set}-${test.length}x${first.width}x${first.height}`;
  const kept = await openKept(join(options.work, "measured", `${measured}.json`));
  const dark = knownSet(set)?.inverted ?? false;
  const { signal } = experiment;
  const measure: MeasureOptions = {
    kept,
    test,
    seeds: options.seeds,
    dark,
    batch: batchFor(first),
    signal,
    threads,
  };
  const scores: Record<string, Score> = {};
  const stability: Record<string, Stability> = {};
  for (const [name, model] of models) {
    const measuring = measureModel(name, model, measure);
    for (;;) {
      const { done, value } = await measuring.next();
      if (done) {
        Object.assign(scores, value.scores);
        Object.assign(stability, value.stability);
        break;
      }
      yield { type: "message", text: `${set}: measured ${value}` };
    }
  }
  const method = models.get("lambda-1")!;
  Object.assign(scores, await otherSamplers("lambda-1", method, measure));
  if (variantsOf(options).plain) {
    const plain = yield* shown(trainedBaseline(set, "plain", data, experiment), () => experiment.steps(set));
    const predictor = plainPredictor(plain, { threads });
    Object.assign(scores, await measureWays([{ name: "plain U-Net", predict: predictor.predict }], measure));
    await predictor.close();
  }
  if (options.extras && set === "lesions")
    Object.assign(scores, yield* measureInPixels(measure, data, experiment));
  Object.assign(scores, await measureWays([], measure));
  const times = await kept.get("times", () => measureTimes(method, first));
  const ceiling = await measureCeiling(measure, method);
  return { results: { pictures: test.length, ceiling, scores, stability }, times };
}

/** Diffusion of the mask in pixels, on the first lesions. */
async function* measureInPixels(
  measure: MeasureOptions,
  data: ReturnType<typeof dataOf>,
  experiment: ExperimentOptions,
): AsyncGenerator<ActionEvent, Record<string, Score>> {
  const training = trainedBaseline("lesions", "diffusion", data, experiment);
  const network = yield* shown(training, () => experiment.steps("lesions"));
  const count = Math.min(PIXEL_PICTURES, measure.test.length);
  const test = subset(
    measure.test,
    Array.from({ length: count }, (_, i) => i),
  );
  const sampled = diffusionPredictor(network, { steps: 50, ensemble: 5, seed: 0 });
  const name = `diffusion in pixels, mean of 5 of 50 steps, ${count} pictures`;
  const score = await measure.kept.get(name, async () => {
    const { dice, iou } = await evaluateOn(sampled.predict, test, { batch: measure.batch });
    return { dice, iou };
  });
  await sampled.close();
  return { [name]: score };
}

const TITLES: Readonly<Record<string, string>> = {
  lesions: "lesions",
  "em-membrane": "membranes",
  "dsb2018-nuclei": "nuclei",
  "cvc-clinicdb": "polyps",
  "drive-retina": "vessels",
};

/** The method's model as it ships: in half precision, with what was measured of it. */
async function* ship(
  set: string,
  model: SDSeg,
  { ceiling, scores }: SetResults,
  { options, experiment }: SetWork,
): AsyncGenerator<ActionEvent> {
  const name = TITLES[set] ?? set;
  const path = join(options.work, `sdseg-${name}.safetensors`);
  const direct = scores["lambda-1 direct"]!;
  await saveSDSeg(path, model, {
    name,
    training: `${knownSet(set)?.title ?? "procedural lesions"}, ${experiment.steps(set)} steps`,
    seed: String(options.seed),
    date: today(),
    scale: knownSet(set)?.scale ?? 1,
    command: commandOf(options),
    metrics: { testDice: direct.dice, testIou: direct.iou, ceilingDice: ceiling.dice },
  });
  yield { type: "file", path, about: `the model for ${name} as it ships` };
}

const today = (): string => new Date().toISOString().slice(0, 10);

/** The command that gives the same again. */
function commandOf(options: ReproduceActionOptions): string {
  const { sets, variants, steps, realSteps, test, window, shapes, extras, seed } = options;
  const flags = [
    ...(options.data === undefined ? [] : ["--data DIR"]),
    `--sets ${sets}`,
    `--variants ${variants}`,
    `--steps ${steps}`,
    `--real-steps ${realSteps}`,
    `--test ${test}`,
    ...(window === undefined ? [] : [`--window ${window}`]),
    ...(shapes ? ["--shapes"] : []),
    ...(extras ? ["--extras"] : []),
    `--seed ${seed}`,
  ];
  return `tweedie reproduce sdseg ${flags.join(" ")}`;
}

/** Side of the pictures in the figure of examples. */
const EXAMPLE_SIDE = 192;

/** The figures of one set. */
async function* figuresOf(
  title: string,
  model: SDSeg,
  results: SetResults,
  { options, test }: SetWork,
): AsyncGenerator<ActionEvent, Section[]> {
  const caption = `${title}: picture, truth, one step, fifty steps`;
  const picture = await examples(
    model,
    mapDataset(test, (sample) => centreOf(sample, EXAMPLE_SIDE)),
  );
  const path = join(options.out, `examples-${title}.png`);
  await writeFileAtomic(path, await encodePicture(picture));
  yield { type: "file", path, about: caption };
  const chart = stepsChart(title, results);
  await writeFileAtomic(join(options.out, `steps-${title}.svg`), Buffer.from(chart));
  return [{ chart }, { picture, caption }];
}

/** The model of three classes, and its Dice class by class. */
async function* demonstrateClasses(
  base: SDSeg,
  options: ReproduceActionOptions,
  experiment: ExperimentOptions,
): AsyncGenerator<ActionEvent, ClassResults> {
  const model = yield* shown(trainedClasses(base, experiment), () => experiment.steps("shapes"));
  const test = await readAll(samplesOf(shapes("test"), { config: model.config }));
  const kept = await openKept(join(options.work, "measured", `shapes-${test.length}.json`));
  const segmenter = openSegmenter(model, { threads: options.threads });
  try {
    const { classes } = model.config;
    const { perClass, dice } = await kept.get("direct", async () => {
      const found = await evaluateOn(predictWith(segmenter), fromArray(test), { classes });
      return { perClass: found.perClass, dice: found.dice };
    });
    const picture = await classExamples(segmenter, test.slice(0, 4));
    const path = join(options.out, "examples-shapes.png");
    await writeFileAtomic(path, await encodePicture(picture));
    yield { type: "file", path, about: "shapes of three classes: picture, truth, one step for each class" };
    return { pictures: test.length, names: SHAPE_CLASSES, perClass, dice };
  } finally {
    await segmenter.close();
  }
}

/** What the work on one set needs. */
interface SetWork {
  readonly options: ReproduceActionOptions;
  readonly experiment: ExperimentOptions;
  readonly data: ReturnType<typeof dataOf>;
  readonly test: Dataset<Sample>;
}

/** Trains, measures, writes. What is in the work folder already is not done again. */
export async function* reproduceAction(
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { sets, missing } = await setsOf(options);
  const compared = variantsOf(options);
  if (missing.length > 0)
    yield { type: "warning", text: `not measured, because --data has no such folder: ${missing.join(", ")}` };
  const experiment: ExperimentOptions = {
    work: options.work,
    root: options.data,
    seed: options.seed,
    steps: (set) => (knownSet(set) ? options.realSteps : options.steps),
    autoencoderSteps: options.autoencoderSteps,
    decoderSteps: options.decoderSteps,
    threads: options.threads,
    signal,
  };
  await mkdir(options.work, { recursive: true });
  await mkdir(options.out, { recursive: true });
  const data = dataOf(experiment);
  const base = yield* shown(sharedAutoencoder(sets, data, experiment), (run) =>
    run === "decoder" ? options.decoderSteps : options.autoencoderSteps,
  );
  const results = new Map<string, SetResults>();
  const times = new Map<string, Times>();
  const found = new Map<string, Verdict[]>();
  const sections: Section[] = [];
  for (const set of sets) {
    const title = TITLES[set] ?? set;
    const work: SetWork = { options, experiment, data, test: await testSplit(set, data, options) };
    const models = new Map<string, SDSeg>();
    for (const variant of [...compared.latent, ...(set === "lesions" ? compared.extras : [])])
      models.set(
        variant.name,
        yield* shown(trainedVariant(set, variant, base, data, experiment), () => experiment.steps(set)),
      );
    const measured = yield* measureSet(set, models, work);
    results.set(title, measured.results);
    times.set(title, measured.times);
    if (models.has("lambda-0")) found.set(title, verdicts(measured.results, measured.times));
    yield* ship(set, models.get("lambda-1")!, measured.results, work);
    sections.push(...(yield* figuresOf(title, models.get("lambda-1")!, measured.results, work)));
  }
  const classes = options.shapes ? yield* demonstrateClasses(base, options, experiment) : undefined;
  const counts = [...results].map(([title, { pictures }]) => `${title} ${pictures}`).join(", ");
  const middle =
    options.window === undefined ? "" : `, of each the middle ${options.window}x${options.window}`;
  const how = `Seed ${options.seed}, ${options.seeds} seeds for the spread, ${options.steps} denoiser steps on procedural sets and ${options.realSteps} on real ones, ${today()}. Test pictures: ${counts}${middle}. Command: ${commandOf(options)}.`;
  const findings = { results, times, found, sections, how, ...(classes && { classes }) };
  for (const name of await writeFindings(options.out, findings))
    yield { type: "file", path: join(options.out, name), about: "what was measured" };
  yield { type: "table", title: "Pass rules", table: tablesOf(findings)["Pass rules"]! };
  const rules = [...found.values()].flat();
  const holding = rules.filter(({ holds }) => holds).length;
  return {
    summary: `${holding} of ${rules.length} rules hold. ${honestSentence(results)}`,
    metrics: { rules: rules.length, holding },
  };
}

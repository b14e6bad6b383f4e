/** `tweedie reproduce sdseg`: trains what the claim needs, measures it, writes tables and figures. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Dataset, mapDataset, subset } from "../../../data/index.ts";
import { encodePicture, writeFileAtomic } from "../../../io/index.ts";
import type { Section } from "../../../report/index.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { diffusionPredictor, plainPredictor } from "../baselines.ts";
import { saveSDSeg } from "../checkpoint.ts";
import { honestSentence, type Verdict, verdicts } from "../claims.ts";
import {
  dataOf,
  type ExperimentOptions,
  type ExperimentProgress,
  sharedAutoencoder,
  trainedBaseline,
  trainedVariant,
  VARIANTS,
} from "../experiments.ts";
import {
  type MeasureOptions,
  measureCeiling,
  measureModel,
  measureTimes,
  measureWays,
  openKept,
  otherSamplers,
  type Score,
  type SetResults,
  type Times,
} from "../measure.ts";
import type { SDSeg } from "../model.ts";
import type { ReproduceActionOptions } from "../options.ts";
import { examples, stepsChart, tablesOf, writeFindings } from "../results.ts";
import { centreOf, type Sample } from "../samples.ts";
import { hasSet, KNOWN_SETS, knownSet } from "../sets.ts";
import type { Stability } from "../stability.ts";

/** The real sets of the claim. */
const REAL_SETS = ["em-membrane", "dsb2018-nuclei"];
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

async function setsOf({ data }: ReproduceActionOptions): Promise<string[]> {
  const real: string[] = [];
  for (const set of KNOWN_SETS)
    if (data !== undefined && REAL_SETS.includes(set.name) && (await hasSet(data, set))) real.push(set.name);
  return ["lesions", ...real];
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
  given: { options: ReproduceActionOptions; experiment: ExperimentOptions; data: ReturnType<typeof dataOf> },
): AsyncGenerator<ActionEvent, { results: SetResults; times: Times }> {
  const { options, experiment, data } = given;
  const test = await testSplit(set, data, options);
  const first = await test.get(0);
  const measured = `${set}-${test.length}x${first.width}x${first.height}`;
  const kept = await openKept(join(options.work, "measured", `${measured}.json`));
  const dark = knownSet(set)?.inverted ?? false;
  const measure: MeasureOptions = {
    kept,
    test,
    seeds: options.seeds,
    dark,
    batch: batchFor(first),
    signal: experiment.signal,
    threads: options.threads,
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
  const plain = yield* shown(trainedBaseline(set, "plain", data, experiment), () => experiment.steps(set));
  const predictor = plainPredictor(plain);
  Object.assign(scores, await measureWays([{ name: "plain U-Net", predict: predictor.predict }], measure));
  await predictor.close();
  if (options.extras && set === "lesions") {
    const pixels = yield* shown(trainedBaseline(set, "diffusion", data, experiment), () =>
      experiment.steps(set),
    );
    const few = subset(
      test,
      Array.from({ length: Math.min(PIXEL_PICTURES, test.length) }, (_, i) => i),
    );
    const sampled = diffusionPredictor(pixels, { steps: 50, ensemble: 5, seed: 0 });
    const name = `diffusion in pixels, mean of 5 of 50 steps, ${few.length} pictures`;
    Object.assign(scores, await measureWays([{ name, predict: sampled.predict }], { ...measure, test: few }));
    await sampled.close();
  }
  const times = await kept.get("times", () => measureTimes(method, first));
  const ceiling = await measureCeiling(measure, method);
  return { results: { pictures: test.length, ceiling, scores, stability }, times };
}

const TITLES: Readonly<Record<string, string>> = {
  lesions: "lesions",
  "em-membrane": "membranes",
  "dsb2018-nuclei": "nuclei",
};

/** The method's model as it ships: in half precision. */
async function* ship(
  set: string,
  model: SDSeg,
  { work, seed, steps }: ExperimentOptions,
): AsyncGenerator<ActionEvent> {
  const name = TITLES[set] ?? set;
  const path = join(work, `sdseg-${name}.safetensors`);
  await saveSDSeg(path, model, {
    name,
    training: `${knownSet(set)?.title ?? "procedural lesions"}, ${steps(set)} steps`,
    seed: String(seed),
    date: new Date().toISOString().slice(0, 10),
    scale: knownSet(set)?.scale ?? 1,
  });
  yield { type: "file", path, about: `the model for ${name} as it ships` };
}

/** Trains, measures, writes. What is in the work folder already is not done again. */
export async function* reproduceAction(
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const sets = await setsOf(options);
  if (sets.length === 1)
    yield {
      type: "warning",
      text: "no real data: only the lesions are measured; --data names the folder of the sets",
    };
  const experiment: ExperimentOptions = {
    work: options.work,
    root: options.data,
    seed: options.seed,
    steps: (set) => (set === "lesions" ? options.steps : Math.round(options.steps / 2)),
    autoencoderSteps: options.autoencoderSteps,
    threads: options.threads,
    signal,
  };
  await mkdir(options.work, { recursive: true });
  await mkdir(options.out, { recursive: true });
  const data = dataOf(experiment);
  const base = yield* shown(sharedAutoencoder(sets, data, experiment), () => options.autoencoderSteps);
  const variants = VARIANTS.filter(
    ({ name }) => options.extras || !["raw-head", "frozen-vision"].includes(name),
  );
  const results = new Map<string, SetResults>();
  const times = new Map<string, Times>();
  const found = new Map<string, Verdict[]>();
  const sections: Section[] = [];
  for (const set of sets) {
    const models = new Map<string, SDSeg>();
    for (const variant of set === "lesions" ? variants : variants.slice(0, 3))
      models.set(
        variant.name,
        yield* shown(trainedVariant(set, variant, base, data, experiment), () => experiment.steps(set)),
      );
    yield* ship(set, models.get("lambda-1")!, experiment);
    const measured = yield* measureSet(set, models, { options, experiment, data });
    const title = TITLES[set] ?? set;
    results.set(title, measured.results);
    times.set(title, measured.times);
    found.set(title, verdicts(measured.results, measured.times));
    const chart = stepsChart(title, measured.results);
    const picture = await examples(models.get("lambda-1")!, await testSplit(set, data, options));
    await writeFileAtomic(join(options.out, `steps-${title}.svg`), Buffer.from(chart));
    await writeFileAtomic(join(options.out, `examples-${title}.png`), await encodePicture(picture));
    sections.push({ chart }, { picture, caption: `${title}: picture, truth, one step, fifty steps` });
    yield {
      type: "file",
      path: join(options.out, `examples-${title}.png`),
      about: `${title}: picture, truth, one step, fifty steps`,
    };
  }
  const date = new Date().toISOString().slice(0, 10);
  const counts = [...results].map(([title, { pictures }]) => `${title} ${pictures}`).join(", ");
  const how = `Seed ${options.seed}, ${options.seeds} seeds for the spread, ${options.steps} denoiser steps on lesions and ${experiment.steps("")} on the others, ${date}. Test pictures: ${counts}. Command: tweedie reproduce sdseg --data DIR --steps ${options.steps} --test ${options.test}${options.window === undefined ? "" : ` --window ${options.window}`}.`;
  const findings = { results, times, found, sections, how };
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

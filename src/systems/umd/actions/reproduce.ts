/** `tweedie reproduce umd`: the claim in miniature, or the strip of ablations. */
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Labelled, LabelledPictures } from "../../../data/picture-set.ts";
import { shapes10 } from "../../../data/world/shapes10.ts";
import { ArgumentError } from "../../../errors.ts";
import { writeFileAtomic } from "../../../io/index.ts";
import { type Table, tableMarkdown } from "../../../report/index.ts";
import { listed } from "../../options.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { PRESETS } from "../config.ts";
import { type ExperimentOptions, type ExperimentResult, runExperiment } from "../experiment.ts";
import type { ReproduceActionOptions } from "../options.ts";
import { labelled, pixelAccuracies } from "../probe.ts";
import { stepTimes } from "../speed.ts";
import { claim, type Study, strip } from "../studies.ts";
import { readingsTable, speedTable, type Verdict, verdictTable } from "../tables.ts";
import { openPictures } from "./common.ts";

/** Training and test pictures: a folder's, or shapes10 of any number. */
async function halvesOf({
  data,
  train,
  test,
  size,
}: ReproduceActionOptions): Promise<[string, Labelled, Labelled]> {
  if (data === undefined)
    return [
      "shapes10",
      labelled(shapes10({ seed: 1, count: train, size })),
      labelled(shapes10({ seed: 1, count: test, size, first: 1_000_000 })),
    ];
  const channels = 3;
  const open = (half: "train" | "test", limit: number) =>
    openPictures({ folder: data, half, size, channels, limit });
  const [a, b] = [await open("train", train), await open("test", test)];
  return [basename(a.title), labelled(a.pictures), labelled(b.pictures)];
}

/** What the protocol needs: 100 shots of every class, and as many test pictures as samples. */
function checkSizes(train: Labelled, test: LabelledPictures, options: ReproduceActionOptions): void {
  const { samples, tuneSteps } = options;
  for (const [k, name] of train.classes.entries()) {
    const count = train.labels.filter((label) => label === k).length;
    if (count < 100)
      throw new ArgumentError(
        `UMD: 100 shots of each class are needed, "${name}" has ${count} training pictures`,
      );
  }
  if (tuneSteps > 0 && samples > test.count)
    throw new ArgumentError(
      `UMD: ${samples} samples are compared with as many test pictures, there are ${test.count}`,
    );
}

/** The command that gives the same again, and when it was run. */
function commandOf(options: ReproduceActionOptions, study: Study, equal: string): string {
  const { data, train, test, size, preset, seeds, steps, tuneSteps, batch, samples, sampleSteps } = options;
  const flags = [
    ...(data === undefined ? [] : ["--data DIR"]),
    `--train ${train}`,
    `--test ${test}`,
    `--size ${size}`,
    `--preset ${preset}`,
    study.flag,
    `--seeds ${seeds}`,
    `--steps ${steps}`,
    `--tune-steps ${tuneSteps}`,
    `--batch ${batch}`,
    ...(tuneSteps > 0
      ? [`--samples ${samples}`, `--sample-steps ${sampleSteps}`, `--guidances ${options.guidances}`]
      : []),
    `--classifier-steps ${options.classifierSteps}`,
    `--equal ${equal}`,
  ];
  return `Command: \`tweedie reproduce umd ${flags.join(" ")}\`; ${new Date().toISOString().slice(0, 10)}, ${seeds === 1 ? "seed 0" : `seeds 0 to ${seeds - 1}`}.`;
}

/** Shows a table and writes it with a note below. */
async function* save(path: string, title: string, table: Table, note: string): AsyncGenerator<ActionEvent> {
  yield { type: "table", title, table };
  await writeFileAtomic(path, Buffer.from(`# ${title}\n\n${tableMarkdown(table)}\n\n${note}\n`));
  yield { type: "file", path, about: title };
}

/** Runs an experiment and writes the numbers behind its tables. */
async function* measured(
  options: ExperimentOptions,
  path: string,
): AsyncGenerator<ActionEvent, ExperimentResult> {
  const run = runExperiment(options);
  for (;;) {
    const { done, value } = await run.next();
    if (done) {
      await writeFileAtomic(path, Buffer.from(`${JSON.stringify(value, null, 1)}\n`));
      return value;
    }
    const { run: stage, done: at, total, note } = value;
    yield { type: "progress", stage, done: at, total, ...(note !== undefined && { note }) };
  }
}

/** Trains, probes and samples all methods, or the strip of ablations; tables go to the output folder. */
export async function* reproduceAction(
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { seeds, steps, batch, threads, out } = options;
  const study = (options.ablation ? strip : claim)(options);
  const [title, train, test] = await halvesOf(options);
  checkSizes(train, test, options);
  await mkdir(out, { recursive: true });
  const base = PRESETS[options.preset];
  if (!options.ablation) {
    const config = { ...base, size: train.size, channels: train.channels };
    const times = await stepTimes(config, train, { batch, repeats: 5, ...(threads && { threads }) });
    const note = "In turn, the fastest of five rounds. GFLOP are counted from the sizes.";
    const heading = `Time of a training step against the mask ratio, ${batch} pictures`;
    yield* save(join(out, "step-time.md"), heading, speedTable(times), note);
  }
  const pixels = pixelAccuracies(train, test, { shots: [10, 100], seed: 0 });
  const common: Omit<ExperimentOptions, "equal"> = {
    train,
    test,
    base,
    variants: study.variants,
    seeds: Array.from({ length: seeds }, (_, i) => i),
    steps,
    batch,
    learningRate: 1e-3,
    tuneSteps: options.tuneSteps,
    samples: options.samples,
    sampleSteps: options.sampleSteps,
    guidances: listed(options.guidances).map(Number),
    classifierSteps: options.classifierSteps,
    work: options.work,
    ...(threads && { threads }),
    ...(signal && { signal }),
  };
  const found: Verdict[][] = [];
  for (const equal of study.kinds) {
    const path = join(out, study.file(equal));
    const result = yield* measured({ ...common, equal }, `${path}.json`);
    const length = `${seeds === 1 ? "1 seed" : `${seeds} seeds`}, ${steps} steps of ${batch}`;
    const about = `${title}, ${study.title}equal ${equal}, ${length}`;
    const command = commandOf(options, study, equal);
    const judged = study.verdicts(result);
    yield* save(`${path}.md`, about, study.table(result, pixels), command);
    yield* save(`${path}-readings.md`, `${about}: every reading`, readingsTable(result), command);
    yield* save(`${path}-rule.md`, `${about}: the pass rule`, verdictTable(judged), command);
    found.push(judged);
  }
  const criteria = found[0]!.filter((v) => v.passed !== undefined);
  const passed = criteria.filter((v) => v.passed).length;
  return {
    summary: `${passed} of ${criteria.length} measured criteria hold at equal ${study.kinds[0]}, ${seeds} seeds. Tables are in ${out}.`,
    metrics: { passed, criteria: criteria.length },
  };
}

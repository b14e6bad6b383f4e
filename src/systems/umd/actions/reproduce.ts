/** `tweedie reproduce umd`: the claim in miniature. */
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { ArgumentError } from "../../../errors.ts";
import { writeFileAtomic } from "../../../io/index.ts";
import { type Table, tableMarkdown } from "../../../report/index.ts";
import { listed } from "../../options.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { PRESETS } from "../config.ts";
import type { LabelledPictures } from "../data/pictures.ts";
import { shapes10 } from "../data/shapes10.ts";
import {
  type ExperimentOptions,
  type ExperimentResult,
  runExperiment,
  VARIANTS,
  type Variant,
} from "../experiment.ts";
import type { ReproduceActionOptions } from "../options.ts";
import { type Labelled, labelled, pixelAccuracies } from "../probe.ts";
import { stepTimes } from "../speed.ts";
import { claimTable, readingsTable, speedTable, verdicts, verdictTable } from "../tables.ts";
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

/** What is compared. Throws `ArgumentError` for unknown names. */
function variantsOf({ variants }: ReproduceActionOptions): Variant[] {
  const names = listed(variants).map((name) => name.toLowerCase());
  const known = VARIANTS.map(({ name }) => name.toLowerCase());
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ArgumentError(
      `UMD: unknown variant "${unknown}"; known are ${VARIANTS.map((v) => v.name).join(", ")}`,
    );
  return VARIANTS.filter(({ name }) => ["umd", "dit", ...names].includes(name.toLowerCase()));
}

/** The command that gives the same again, and when it was run. */
function commandOf(options: ReproduceActionOptions, variants: readonly Variant[], equal: string): string {
  const { data, train, test, size, preset, seeds, steps, tuneSteps, batch, samples, sampleSteps } = options;
  const flags = [
    ...(data === undefined ? [] : ["--data DIR"]),
    `--train ${train}`,
    `--test ${test}`,
    `--size ${size}`,
    `--preset ${preset}`,
    `--variants ${variants.map((v) => v.name).join(",")}`,
    `--seeds ${seeds}`,
    `--steps ${steps}`,
    `--tune-steps ${tuneSteps}`,
    `--batch ${batch}`,
    ...(tuneSteps > 0 ? [`--samples ${samples}`, `--sample-steps ${sampleSteps}`] : []),
    `--classifier-steps ${options.classifierSteps}`,
    `--equal ${equal}`,
  ];
  return `Command: \`tweedie reproduce umd ${flags.join(" ")}\`; ${new Date().toISOString().slice(0, 10)}, ${seeds === 1 ? "seed 0" : `seeds 0 to ${seeds - 1}`}.`;
}

/** Trains, probes and samples all methods; tables go to the output folder, with the numbers behind them as JSON. */
export async function* reproduceAction(
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { seeds, steps, tuneSteps, batch, samples, sampleSteps, classifierSteps, threads, work, out } =
    options;
  const [title, train, test] = await halvesOf(options);
  checkSizes(train, test, options);
  await mkdir(out, { recursive: true });
  const base = PRESETS[options.preset];
  const variants = variantsOf(options);
  const save = async function* (
    name: string,
    heading: string,
    table: Table,
    note: string,
  ): AsyncGenerator<ActionEvent> {
    yield { type: "table", title: heading, table };
    const path = join(out, `${name}.md`);
    await writeFileAtomic(path, Buffer.from(`# ${heading}\n\n${tableMarkdown(table)}\n\n${note}\n`));
    yield { type: "file", path, about: heading };
  };

  const config = { ...base, size: train.size, channels: train.channels };
  const times = await stepTimes(config, train, { batch, repeats: 5, ...(threads && { threads }) });
  yield* save(
    "step-time",
    `Time of a training step against the mask ratio, ${batch} pictures`,
    speedTable(times),
    "In turn, the fastest of five rounds. GFLOP are counted from the sizes.",
  );

  const pixels = pixelAccuracies(train, test, { shots: [10, 100], seed: 0 });
  const common: Omit<ExperimentOptions, "equal"> = {
    train,
    test,
    base,
    variants,
    seeds: Array.from({ length: seeds }, (_, i) => i),
    steps,
    batch,
    learningRate: 1e-3,
    tuneSteps,
    samples,
    sampleSteps,
    guidances: [1, 2],
    classifierSteps,
    work,
    ...(threads && { threads }),
    ...(signal && { signal }),
  };
  const kinds = options.equal === "both" ? (["images", "flops"] as const) : [options.equal];
  let first: ExperimentResult | undefined;
  for (const equal of kinds) {
    const run = runExperiment({ ...common, equal });
    for (;;) {
      const { done, value } = await run.next();
      if (!done) {
        const { run: stage, done: at, total, note } = value;
        yield { type: "progress", stage, done: at, total, ...(note !== undefined && { note }) };
        continue;
      }
      first ??= value;
      const path = join(out, `equal-${equal}.json`);
      await writeFileAtomic(path, Buffer.from(`${JSON.stringify(value, null, 1)}\n`));
      const about = `${title}, equal ${equal}, ${seeds === 1 ? "1 seed" : `${seeds} seeds`}, ${steps} steps of ${batch}`;
      const command = commandOf(options, variants, equal);
      yield* save(`equal-${equal}`, about, claimTable(value, pixels), command);
      yield* save(`equal-${equal}-readings`, `${about}: every reading`, readingsTable(value), command);
      yield* save(`equal-${equal}-rule`, `${about}: the pass rule`, verdictTable(value), command);
      break;
    }
  }
  const all = verdicts(first!);
  const passed = all.filter((v) => v.passed).length;
  return {
    summary: `${passed} of ${all.length} criteria hold at equal ${kinds[0]}, ${seeds} seeds. Tables are in ${out}.`,
    metrics: { passed, criteria: all.length },
  };
}

/** Q-DiT's study on a study and a lab that make nothing: made-up results, and a record of what was asked for. */
import type { MeasureCell, ModelCell, Study } from "../../../src/study/index.ts";
import { type Subject, settingsOf } from "../../../src/systems/q-dit/asked.ts";
import type { Lab, PictureScores } from "../../../src/systems/q-dit/lab.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/q-dit/options.ts";
import { measured } from "../../../src/systems/q-dit/study.ts";
import { drained, type Work } from "../../../src/work.ts";
import { recordingStudy } from "../../study/recording-study.ts";
import type { StudyUnderTest } from "../deciding-options.ts";

export const optionsOf = (more: object = {}): ReproduceActionOptions =>
  reproduceOptions.parse({ data: "clothes", further: true, threads: 3, ...more });

export const subjectOf = ({ model, data, threads = 3 }: ReproduceActionOptions): Subject => ({
  model: `content of ${model}`,
  judge: "network 0",
  real: `test half of ${data}`,
  training: `training half of ${data}`,
  file: `/anywhere/${model}`,
  threads,
  kernels: { exactSignedBytes: true, roundsBlocks: true },
});

export const SCORES: PictureScores = {
  first: [1, 2, 3],
  second: [4, 5, 6],
  agreement: [0.8, 0.8, 0.8],
  ratio: [30, 30, 30],
};
const TIMES = { milliseconds: [2], median: 2, fastest: 2, text: "2 ms" };
export const SIZES = { best: [16, 16], random: [128, 128] };

/** Made-up content of a cell. */
export function contentOf(name: string): unknown {
  if (name.startsWith("predictions")) return [20, 30, 40];
  if (name.startsWith("pictures")) return SCORES;
  if (name.startsWith("search"))
    return { ...SIZES, fitness: { best: 1, uniform: 3, random: 2 }, history: [] };
  if (name === "mean picture of each class") return [900, 800];
  if (name.startsWith("weight") || name === "full precision")
    return { fileBytes: 1, share: 0.2, memoryBytes: 1, peakBytes: 1, onnxBytes: 1, agreement: 62, ratio: 40 };
  if (name === "time of a step") return { "full precision": TIMES };
  if (name.startsWith("linear"))
    return ["fp32", "W8A8 groups of 64"].map((layer) => ({ name: layer, times: TIMES, bytes: 1 }));
  return { path: `file of ${name}` };
}

/** The study, for the test of its options; nothing is made, so that the lab is not asked. */
export const STUDY: StudyUnderTest = {
  schema: reproduceOptions,
  base: { data: "clothes", threads: 3, further: true },
  run: (study, options: ReproduceActionOptions) =>
    measured(study, subjectOf(options), settingsOf(options), {} as Lab, options),
  valueFor: ({ name }) => contentOf(name),
  deciding: {
    data: { data: "shoes" },
    model: { model: "another" },
    pictures: { pictures: 7 },
    steps: { steps: 7 },
    stepPictures: { stepPictures: 7 },
    searchPictures: { searchPictures: 7 },
    searchSteps: { searchSteps: 7 },
    population: { population: 7 },
    generations: { generations: 7 },
    samples: { samples: 64 },
    judgeSteps: { judgeSteps: 7 },
    rounds: { rounds: 7 },
    further: { further: false },
    threads: { threads: 2 }, // decides the times of steps
  },
  undeciding: {
    measure: { measure: false },
    work: { work: "elsewhere" },
    out: { out: "elsewhere" },
  },
};

interface LabCall {
  readonly cell: string;
  readonly does: string;
  readonly with: readonly unknown[];
}

/** Runs the whole study: the cells that were asked for, and what the lab was told to do for each of them. */
export async function studied(options = optionsOf()) {
  const recording = recordingStudy(({ name }) => contentOf(name));
  const calls: LabCall[] = [];
  let cell = "";
  const note =
    (does: string) =>
    async (...args: readonly unknown[]): Promise<unknown> =>
      void calls.push({ cell, does, with: args });
  const names = ["trainJudge", "predictions", "pictures", "means", "pack", "weigh", "stepTimes", "layers"];
  const lab = {
    ...Object.fromEntries(names.map((name) => [name, note(name)])),
    // biome-ignore lint/correctness/useYield: it searches nothing
    async *search(...args: readonly unknown[]) {
      await note("search")(...args);
    },
  } as unknown as Lab;
  /** Makes every cell, and forgets what came of it. */
  const study: Study = {
    ...recording,
    async *model<M extends object>(name: string, asked: ModelCell<M>) {
      cell = name;
      yield* asked.make("folder");
      return yield* recording.model<M>(name, asked);
    },
    async *measure<T>(name: string, asked: MeasureCell<T>) {
      cell = name;
      const work = asked.measure();
      if (Symbol.asyncIterator in work) yield* work as Work<T>;
      else await work;
      return yield* recording.measure<T>(name, asked);
    },
  };
  const found = await drained(measured(study, subjectOf(options), settingsOf(options), lab, options));
  return { cells: recording.cells, calls, found };
}

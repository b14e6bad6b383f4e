/** What the study makes once: drawn candidates, LoRAs at several steps of their training, scores of what they draw. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Dataset, picturesToTensor } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import {
  askedShapes,
  captionAgreement,
  extractFeatures,
  type FeatureNetwork,
  frechetFeatureDistance,
  type SampleTable,
} from "../../metrics/index.ts";
import type { UNet2DConditionModel } from "../../networks/index.ts";
import { mergeLora, withLoraParameters } from "../../nn/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import type { Made, Study } from "../../study/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import {
  type CaptionedPicture,
  drawPrompts,
  heldOutShapes,
  readWeights,
  trainingShapes,
  writeTensors,
} from "../../training/index.ts";
import { told, type Work } from "../../work.ts";
import type { Arm } from "./arms.ts";
import { answersAbout, type Candidates, drawCandidates, scoredPictures } from "./make-pairs.ts";
import { type PreferencePair, pairsOf } from "./pairs.ts";
import { colourScorer } from "./scorers.ts";
import { type Adapters, freshPolicy, type TrainSettings, training, trainPreferences } from "./train.ts";

/** Guidances that candidates are drawn with. */
const GUIDANCES = [1, 1.5, 2, 3];
/** How often noisy answers are wrong: σ(4 (a - b)). */
const SHARPNESS = 4;
/** Real scenes that Fréchet distances are taken to. */
const REAL = 2000;
/** Numbers of held-out captions: first those that choose, then those that judge. */
export const TEST_FROM = 1024;

/** What everything is made of. */
export interface Bench {
  readonly components: PipelineComponents;
  /** Fingerprints of base and judge. */
  readonly base: string;
  readonly judge: string;
  readonly network: FeatureNetwork;
  readonly drawSteps: number;
  readonly threads: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Captions that the base was trained on, each once. */
export async function trainingCaptions(n: number): Promise<string[]> {
  const set = trainingShapes();
  const found = new Set<string>();
  for (let i = 0; i < set.length && found.size < n; i++) found.add((await set.get(i)).caption!);
  if (found.size < n)
    throw new ArgumentError(`the shape world has ${found.size} captions to train on, ${n} were asked for`);
  return [...found];
}

/** Captions that nothing was trained on. */
export async function heldOutCaptions(n: number, from = 0): Promise<string[]> {
  const held = heldOutShapes(from + n);
  return Promise.all(Array.from({ length: n }, async (_, i) => (await held.get(from + i)).caption));
}

/** Candidates as they are kept. */
export interface CandidateFile {
  readonly candidates: readonly Candidates[];
}

const asText = ({ candidates }: CandidateFile): string =>
  JSON.stringify(
    candidates.map(({ pictures, ...rest }) => ({
      ...rest,
      pictures: pictures.map((one) => Buffer.from(one).toString("base64")),
    })),
  );

async function loadCandidates(path: string): Promise<CandidateFile> {
  type Kept = Omit<Candidates, "pictures"> & { readonly pictures: readonly string[] };
  const kept = JSON.parse(await readFile(path, "utf8")) as Kept[];
  const candidates = kept.map(({ pictures, ...rest }) => ({
    ...rest,
    pictures: pictures.map((one) => new Uint8Array(Buffer.from(one, "base64"))),
  }));
  return { candidates };
}

/** Four scored pictures for each prompt. */
export const candidatesCell = (study: Study, bench: Bench, count: number): Work<Made<CandidateFile>> =>
  study.model<CandidateFile>("candidates", {
    given: { base: bench.base, count, guidances: GUIDANCES, steps: bench.drawSteps, scorer: "colours" },
    ending: ".candidates", // the record itself ends in .json
    make: async function* () {
      const prompts = await trainingCaptions(count);
      const { components, drawSteps: steps, threads, signal } = bench;
      const how = { prompts, scorer: colourScorer, guidances: GUIDANCES, steps, seed: 0, threads, signal };
      return { candidates: yield* drawCandidates(components, how) };
    },
    save: (path, file) => writeFileAtomic(path, Buffer.from(asText(file))),
    load: loadCandidates,
  });

/** Pairs of candidates. */
export const pairsFrom = async (
  { candidates }: CandidateFile,
  kind: "best" | "noisy",
): Promise<readonly PreferencePair[]> =>
  (await pairsOf(answersAbout(candidates, { kind, sharpness: SHARPNESS, seed: 0 }), "candidates")).pairs;

/** Adapters at some steps of their training. */
export type Trajectory = Readonly<Record<string, Adapters>>;

const atStep = (folder: string, step: number): string => join(folder, `at-${step}.safetensors`);

async function readAdapters(path: string): Promise<Adapters> {
  return Object.fromEntries((await readWeights(path)).weights);
}

const saveAdapters = (path: string, adapters: Adapters): Promise<void> =>
  writeTensors(path, new Map(Object.entries(adapters)), {}, "f32");

/** Trains an arm, and keeps its adapters at these steps, which the last one is among. */
async function* trained(
  bench: Bench,
  pairs: readonly PreferencePair[],
  settings: TrainSettings,
  steps: readonly number[],
  folder: string,
): Work<Trajectory> {
  const { components, threads, signal } = bench;
  const every = steps.reduce((a, b) => gcd(a, b));
  yield* trainPreferences({
    ...{ stage: "train", components, pairs, settings, folder, threads, signal, lookEvery: every },
    look: async function* (adapters, step) {
      if (steps.includes(step)) await saveAdapters(atStep(folder, step), adapters);
      yield* [];
    },
  });
  const found = await Promise.all(
    steps.map(async (step) => [String(step), await readAdapters(atStep(folder, step))] as const),
  );
  return Object.fromEntries(found);
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** Settings of an arm. */
export const settingsOf = (
  { about: _, ...arm }: Arm,
  own: { steps: number; batch: number; seed: number },
): TrainSettings => training({ ...arm, ...own });

/** The LoRAs of an arm, at several steps. */
export const armCell = (
  study: Study,
  bench: Bench,
  name: string,
  settings: TrainSettings,
  steps: readonly number[],
  kind: "best" | "noisy",
  candidates: Made<CandidateFile>,
): Work<Made<Trajectory>> =>
  study.model<Trajectory>(name, {
    given: { settings, steps, kind },
    from: [candidates],
    make: async function* (folder) {
      const pairs = await pairsFrom(candidates.value, kind);
      const run = trained(bench, pairs, settings, steps, folder);
      return yield* told(run, (event) => (event.type === "progress" ? { ...event, stage: name } : event));
    },
    save: (path, trajectory) =>
      writeTensors(
        path,
        new Map<string, Tensor>(
          Object.entries(trajectory).flatMap(([step, adapters]) =>
            Object.entries(adapters).map(([key, t]): [string, Tensor] => [`${step}/${key}`, t]),
          ),
        ),
        {},
        "f32",
      ),
    load: async (path) => {
      const out: Record<string, Record<string, Tensor>> = {};
      for (const [name2, t] of Object.entries(await readAdapters(path))) {
        const at = name2.indexOf("/");
        (out[name2.slice(0, at)] ??= {})[name2.slice(at + 1)] = t;
      }
      return out;
    },
  });

/** Scores of pictures, by prompt; and how far they are from real ones. */
export interface Scores {
  /** By the scorer that chose the pairs. */
  readonly colours: readonly number[];
  /** By a network that had no part in it: 1 where it sees everything that the caption asks for. */
  readonly captions: readonly number[];
  /** Fréchet distance to real scenes, in features of that network. */
  readonly frechet: number;
}

let real: Promise<SampleTable> | undefined;

/** Features of real scenes. */
async function realFeatures(network: FeatureNetwork): Promise<SampleTable> {
  const set: Dataset<CaptionedPicture> = trainingShapes(2);
  const pictures = await Promise.all(Array.from({ length: REAL }, async (_, i) => (await set.get(i)).image));
  return (await extractFeatures(network, (await picturesToTensor(pictures).data()) as Float32Array)).features;
}

/** The base with adapters folded in; as it is without. */
const withAdapters = (
  components: PipelineComponents,
  adapters: Adapters | undefined,
  rank: number,
): PipelineComponents => {
  if (!adapters) return components;
  const policy = withLoraParameters(freshPolicy(components, { rank, alpha: rank, seed: 0 }), adapters);
  const model: UNet2DConditionModel = mergeLora(policy);
  return { ...components, unet: { ...components.unet!, model } };
};

/** Draws and scores. */
async function* scored(
  bench: Bench,
  adapters: Adapters | undefined,
  rank: number,
  prompts: readonly string[],
): Work<Scores> {
  const { components, network, drawSteps: steps, threads, signal } = bench;
  const model = withAdapters(components, adapters, rank);
  const x = yield* drawPrompts(model, prompts, { steps, seed: 7, batch: 64, threads, signal });
  const pictures = await scoredPictures(x);
  const values = new Float32Array(x.size);
  for (const [i, one] of pictures.entries()) values.set(one.values, i * one.values.length);
  const found = await extractFeatures(network, values);
  real ??= realFeatures(network);
  return {
    colours: await colourScorer.score(pictures, prompts),
    captions: captionAgreement(found, prompts.map(askedShapes)).right,
    frechet: frechetFeatureDistance(await real, found.features),
  };
}

/** Scores of a LoRA at a step of its training; of the base without one. */
export const scoresCell = (
  study: Study,
  bench: Bench,
  name: string,
  lora: { readonly made: Made<Trajectory>; readonly step: number; readonly rank: number } | undefined,
  prompts: readonly string[],
): Work<Made<Scores>> =>
  study.measure<Scores>(name, {
    given: {
      ...{
        base: bench.base,
        judge: bench.judge,
        steps: bench.drawSteps,
        prompts: prompts.length,
        first: prompts[0],
      },
      ...(lora && { step: lora.step }),
    },
    from: lora ? [lora.made] : [],
    measure: () =>
      told(scored(bench, lora?.made.value[String(lora.step)], lora?.rank ?? 1, prompts), (event) =>
        event.type === "progress" ? { ...event, stage: name } : event,
      ),
  });

/** The shape world as captioned pictures, and how well a model follows its captions. */
import { type Dataset, mapDataset, openShapes, type ShapeSample, type ShapeScene } from "../../data/index.ts";
import {
  type CaptionAgreement,
  captionAgreement,
  extractFeatures,
  type FeatureNetwork,
} from "../../metrics/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import type { Work } from "../../work.ts";
import { drawPrompts, type PromptDrawing } from "./draw-prompts.ts";
import type { CaptionedPicture } from "./train.ts";

/** Side of the pictures. */
const SIZE = 32;
/** Scenes to train on; rendered when they are needed. */
const TRAINING_SCENES = 12_000;
/** Seed of the scenes that judge. */
const JUDGE_SEED = 1;

const captioned = ({ image: data, caption }: ShapeSample): CaptionedPicture => ({
  image: { width: SIZE, height: SIZE, channels: 3, data },
  caption,
});

/** Scenes to train on: of half of them the mirror image; one caption of eight is never seen. */
export const trainingShapes = (seed = 0): Dataset<CaptionedPicture> =>
  mapDataset(openShapes({ seed, count: TRAINING_SCENES, mirror: 0.5, split: "train" }), captioned);

/** Scenes of captions that training never sees. */
export const heldOutShapes = (count: number): Dataset<ShapeSample> =>
  openShapes({ seed: JUDGE_SEED, count, mirror: 0.5, split: "held-out" });

/** Pictures in [-1, 1] as planes. // [N, 3, 32, 32] */
function planes(samples: readonly ShapeSample[]): Float32Array {
  const plane = SIZE * SIZE;
  const values = new Float32Array(samples.length * 3 * plane);
  for (const [n, { image }] of samples.entries())
    for (let i = 0; i < plane; i++)
      for (let c = 0; c < 3; c++) values[(3 * n + c) * plane + i] = 2 * image[3 * i + c]! - 1;
  return values;
}

/** How well pictures agree with held-out captions: a model's, real ones (ceiling), those of other captions (floor). */
export interface CaptionAccuracy {
  readonly model: CaptionAgreement;
  readonly ceiling: CaptionAgreement;
  readonly floor: CaptionAgreement;
}

/** Draws a picture for each of `count` held-out captions and lets the shipped network `shapes-features` judge. */
export async function* captionAccuracy(
  pipeline: PipelineComponents,
  judge: FeatureNetwork,
  { count = 512, ...drawing }: PromptDrawing & { readonly count?: number } = {},
): Work<CaptionAccuracy> {
  const held = heldOutShapes(count);
  const samples = await Promise.all(Array.from({ length: count }, (_, i) => held.get(i)));
  const scenes: ShapeScene[] = samples.map(({ scene }) => scene);
  const drawn = yield* drawPrompts(
    pipeline,
    samples.map(({ caption }) => caption),
    drawing,
  );
  const values = ((await drawn.data()) as Float32Array).map((v) => Math.min(1, Math.max(-1, v)));
  const ofModel = await extractFeatures(judge, values);
  const ofReal = await extractFeatures(judge, planes(samples));
  return {
    model: captionAgreement(ofModel, scenes),
    ceiling: captionAgreement(ofReal, scenes),
    floor: captionAgreement(ofModel, [...scenes.slice(1), scenes[0]!]),
  };
}

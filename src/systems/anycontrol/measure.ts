/** Measuring what steers: the same test conditions for all, pictures, scores. */
import type { ShapeSample } from "../../data/index.ts";
import { createDraw } from "../../data/random-draws.ts";
import {
  captionAgreement,
  extractFeatures,
  type FeatureNetwork,
  frechetFeatureDistance,
  type SampleTable,
} from "../../metrics/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import type { Base } from "./base.ts";
import { type Condition, exactMap, type Unaligned, unaligned, within } from "./data.ts";
import type { SteeringModel } from "./model.ts";
import { type ControlScores, controlScores, type Reader, read } from "./scores.ts";
import type { ControlType } from "./types.ts";
import { type Drawing, drawControlled } from "./use.ts";

/** Who reads the pictures. */
export interface Judges {
  readonly reader: Reader;
  /** Answers what things of which colours are there. */
  readonly captions: FeatureNetwork;
  /** Features of many real scenes. */
  readonly real: SampleTable;
}

/** Which conditions a picture is asked for with. */
export type Asking =
  /** A background without its near thing, and that thing alone. */
  | "unaligned"
  /** The background alone: depth or seg of the scene without its near thing, as in `unaligned`. */
  | "background"
  /** Two, three or four maps of the whole scene. */
  | "two"
  | "three"
  | "four"
  | "none";

/** Type of the background's condition of test scene `i`, and of its thing's. */
export function testTypes({ full }: Unaligned, i: number): readonly [ControlType, ControlType] {
  const draw = createDraw(5, i, 0, "anycontrol test");
  const isPerson = full.scene.shapes.at(-1)!.name === "person";
  return [draw.chance(0.5) ? "depth" : "seg", isPerson ? "pose" : "edge"];
}

/** Conditions of a test scene. */
export function testConditions(scene: Unaligned, i: number, asking: Asking): Condition[] {
  const [back, fore] = testTypes(scene, i);
  const { full, background, region } = scene;
  const behind: Condition = { type: back, map: exactMap(background, back) };
  const whole = (types: readonly ControlType[]): Condition[] =>
    types.map((type) => ({ type, map: exactMap(full, type) }));
  switch (asking) {
    case "unaligned":
      return [behind, { type: fore, map: within(exactMap(full, fore), region) }];
    case "background":
      return [behind];
    case "two":
      return whole(["depth", "edge"]);
    case "three":
      return whole(["depth", "edge", "seg"]);
    case "four":
      return whole(["depth", "edge", "seg", "pose"]);
    default:
      return [];
  }
}

/** Scores of each scene, whether its caption is right, and the Fréchet distance of all from real scenes. */
export interface Scores extends ControlScores {
  readonly captions: readonly number[];
  readonly frechet: number;
}

/** Scores of pictures in [-1, 1] that were made for scenes. // [N, 3, 32, 32] */
export async function scoresOf(
  pictures: Tensor,
  scenes: readonly Unaligned[],
  { reader, captions, real }: Judges,
  threads?: number,
): Promise<Scores> {
  const seen = await read(reader, pictures, threads);
  const values = ((await pictures.data()) as Float32Array).map((v) => Math.min(1, Math.max(-1, v)));
  const answers = await extractFeatures(captions, values, Math.min(250, scenes.length), threads);
  const { right } = captionAgreement(
    answers,
    scenes.map(({ full }) => full.scene),
  );
  return {
    ...controlScores(seen, scenes),
    captions: right,
    frechet: frechetFeatureDistance(real, seen.features),
  };
}

/** Test scenes with what unaligned conditions are made of. */
export const testCases = (samples: readonly ShapeSample[]): Unaligned[] =>
  samples.map((sample) => unaligned(sample));

/** Draws a picture for each scene, and scores them. */
export async function* measured(
  base: Base,
  model: SteeringModel | undefined,
  scenes: readonly Unaligned[],
  asking: Asking,
  judges: Judges,
  drawing: Drawing,
): Work<Scores> {
  const wanted = scenes.map((scene, i) => ({
    caption: scene.full.caption,
    conditions: testConditions(scene, i, asking),
  }));
  return scoresOf(
    await (yield* drawControlled(base, model, wanted, drawing)).eval(),
    scenes,
    judges,
    drawing.threads,
  );
}

/** What decides which of two pictures is better: exact rules, a network, or a module of one's own. */

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ArgumentError, FormatError } from "../../errors.ts";
import {
  askedShapes,
  captionAgreement,
  colourScore,
  extractFeatures,
  openFeatureNetwork,
} from "../../metrics/index.ts";
import { shippedFile } from "../shipped.ts";

/** A picture as planes in [-1, 1]. // [3, H, W] */
export interface ScoredPicture {
  readonly values: Float32Array;
  readonly width: number;
  readonly height: number;
}

/** Scores pictures of prompts; more is better. */
export interface Scorer {
  readonly name: string;
  /** A score for each picture. */
  score(pictures: readonly ScoredPicture[], prompts: readonly string[]): Promise<readonly number[]>;
}

/** Scorers by name. */
export const SCORERS = ["colours", "captions"] as const;

/** The exact judge of the shape world, see `colourScore`. */
export const colourScorer: Scorer = {
  name: "colours",
  score: async (pictures, prompts) =>
    pictures.map(({ values }, i) => colourScore(values, askedShapes(prompts[i]!))),
};

const joined = (pictures: readonly ScoredPicture[]): Float32Array => {
  const all = new Float32Array(pictures.reduce((n, { values }) => n + values.length, 0));
  let at = 0;
  for (const { values } of pictures) {
    all.set(values, at);
    at += values.length;
  }
  return all;
};

/** Whether the shipped network of five answers sees everything that the caption asks for: 1 or 0. */
export async function captionScorer(): Promise<Scorer> {
  const { network } = await openFeatureNetwork(await shippedFile("checkpoints/shapes-features.safetensors"));
  return {
    name: "captions",
    score: async (pictures, prompts) =>
      captionAgreement(await extractFeatures(network, joined(pictures)), prompts.map(askedShapes)).right,
  };
}

/** A scorer by its name, or the default export of a module: `(picture, prompt) => number`. @throws ArgumentError for others */
export async function scorerNamed(name: string): Promise<Scorer> {
  if (name === "colours") return colourScorer;
  if (name === "captions") return captionScorer();
  if (!/\.[mc]?[jt]s$/.test(name))
    throw new ArgumentError(`scorer "${name}": expected ${SCORERS.join(", ")}, or the file of a module`);
  const { default: own } = (await import(pathToFileURL(resolve(name)).href)) as { default?: unknown };
  if (typeof own !== "function")
    throw new ArgumentError(`${name}: expected a function (picture, prompt) => number as default export`);
  return {
    name,
    async score(pictures, prompts) {
      const scores = await Promise.all(pictures.map((picture, i) => own(picture, prompts[i]) as number));
      const bad = scores.findIndex((score) => !Number.isFinite(score));
      if (bad >= 0) throw new FormatError(`${name}: the score of picture ${bad} is ${scores[bad]}`);
      return scores;
    },
  };
}

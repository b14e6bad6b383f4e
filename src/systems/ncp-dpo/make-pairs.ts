/** Pairs that a model draws itself: pictures of prompts, and a scorer that says which are better. */
import { createDraw, tensorToPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { encodePicture } from "../../io/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import type { Seed, Tensor } from "../../tensor/index.ts";
import { drawPrompts } from "../../training/index.ts";
import { told, type Work } from "../../work.ts";
import type { Comparison } from "./pairs.ts";
import type { ScoredPicture, Scorer } from "./scorers.ts";
import { marginOf } from "./scores.ts";

/** How pairs are made. */
export interface MakeOptions {
  readonly prompts: readonly string[];
  readonly scorer: Scorer;
  /** One picture of each prompt for each guidance: they differ in quality as well as in chance. */
  readonly guidances: readonly number[];
  readonly steps: number;
  /**
   * `best`: best against worst of a prompt, a tie when they differ by less than a quarter of the deviation of all scores. `noisy`: all pairs, the winner drawn with probability σ(sharpness (a - b))
   * (Bradley and Terry 1952), so that answers contradict each other as those of people do.
   */
  readonly kind: "best" | "noisy";
  readonly sharpness: number;
  readonly seed: Seed;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Pictures as planes in [-1, 1], cut off there. // from [N, 3, H, W] */
export async function scoredPictures(x: Tensor): Promise<ScoredPicture[]> {
  const [n, channels, height, width] = x.shape as [number, number, number, number];
  const values = (await x.data()) as Float32Array;
  const plane = channels * height * width;
  return Array.from({ length: n }, (_, i) => ({
    ...{ width, height },
    values: values.slice(i * plane, (i + 1) * plane).map((v) => Math.min(1, Math.max(-1, v))),
  }));
}

/** Pictures of one prompt, and their scores. */
export interface Candidates {
  readonly prompt: string;
  /** Encoded. */
  readonly pictures: readonly Uint8Array[];
  readonly scores: readonly number[];
}

/** How candidates are drawn. */
export type CandidateOptions = Omit<MakeOptions, "kind" | "sharpness">;

/** Draws and scores a picture of each prompt for each guidance. @throws ArgumentError without prompts, or for one picture */
export async function* drawCandidates(
  components: PipelineComponents,
  { prompts, scorer, guidances, steps, seed, threads, signal }: CandidateOptions,
): Work<Candidates[]> {
  if (prompts.length === 0) throw new ArgumentError("pairs: no prompts");
  if (guidances.length < 2) throw new ArgumentError("pairs: at least two pictures of a prompt are needed");
  const pictures: Uint8Array[][] = prompts.map(() => []);
  const scores: number[][] = prompts.map(() => []);
  for (const [k, guidance] of guidances.entries()) {
    const how = { steps, guidance, seed: 1000 * Number(seed) + k, batch: 64, threads, signal };
    const x = yield* told(drawPrompts(components, prompts, how), (event) =>
      event.type === "progress" ? { ...event, stage: `pictures at guidance ${guidance}` } : event,
    );
    const own = await scorer.score(await scoredPictures(x), prompts);
    for (const [i, picture] of (await tensorToPictures(x)).entries()) {
      pictures[i]!.push(await encodePicture(picture));
      scores[i]!.push(own[i]!);
    }
  }
  return prompts.map((prompt, i) => ({ prompt, pictures: pictures[i]!, scores: scores[i]! }));
}

/** Answers about the pictures of prompts. */
export function answersAbout(
  candidates: readonly Candidates[],
  { kind, sharpness, seed }: Pick<MakeOptions, "kind" | "sharpness" | "seed">,
): Comparison[] {
  const margin = marginOf(candidates.flatMap(({ scores }) => scores));
  return candidates.flatMap(({ prompt, pictures, scores }, index) => {
    const compared = (a: number, b: number, label: number): Comparison => ({
      ...{ prompt, label, pictures: [pictures[a]!, pictures[b]!] },
      ids: [String(a), String(b)],
    });
    const order = scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
    const [best, worst] = [order[0]!, order.at(-1)!];
    if (kind === "best") return [compared(best, worst, scores[best]! - scores[worst]! > margin ? 1 : 0.5)];
    const draw = createDraw(seed, index, 0, "noisy answers");
    return order.flatMap((_, a) =>
      order.slice(a + 1).map((__, k) => {
        const b = a + 1 + k;
        const wins = 1 / (1 + Math.exp(-sharpness * (scores[a]! - scores[b]!)));
        return compared(a, b, draw.chance(wins) ? 1 : 0);
      }),
    );
  });
}

/** Draws, scores and compares. */
export async function* makePairs(components: PipelineComponents, options: MakeOptions): Work<Comparison[]> {
  return answersAbout(yield* drawCandidates(components, options), options);
}

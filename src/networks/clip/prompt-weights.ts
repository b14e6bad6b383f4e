/** Emphasis in prompts, in the syntax of AUTOMATIC1111's web UI. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { cast, type Tensor, where } from "../../tensor/index.ts";

/** A piece of a prompt and its weight. */
export interface WeightedText {
  readonly text: string;
  readonly weight: number;
}

/** Factor of one pair of brackets. */
const STEP = 1.1;

/** Deepest nesting that is honoured: beyond it, weights leave the range of single precision. */
const MAX_DEPTH = 256;

/** Largest weight: squares of such embeddings, which norms take, are still numbers in single precision. */
const MAX_WEIGHT = 1e12;

/** An embedding whose mean is below this has none to keep. */
const LEAST_MEAN = 1e-7;

/** An escaped character, a bracket, the end of a weighted group, or text. */
const PIECE = /\\([()[\]\\])|(\\)|:\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|([()[\]])|([^\\()[\]:]+|:)/g;

/**
 * A prompt as pieces with weights: `(text)` counts 1.1 times, `[text]` 1 / 1.1 times, `(text:1.3)` 1.3 times, nested
 * groups multiply, `\(` is a plain bracket. A group that is never closed reaches to the end; a bracket that closes
 * nothing is text. Neighbours of equal weight are joined. Throws `ArgumentError` for a weight beyond 1e12.
 */
export function parsePromptWeights(prompt: string): WeightedText[] {
  const pieces: { text: string; weight: number }[] = [];
  const open: { bracket: string; start: number }[] = [];
  const close = (bracket: string, factor: number): boolean => {
    const at = open.findLastIndex((group) => group.bracket === bracket);
    if (at < 0) return false;
    const [group] = open.splice(at, 1);
    for (let i = group!.start; i < pieces.length; i++) pieces[i]!.weight *= factor;
    return true;
  };
  for (const [whole, escaped, , weight, bracket] of prompt.matchAll(PIECE)) {
    if ((bracket === "(" || bracket === "[") && open.length < MAX_DEPTH)
      open.push({ bracket, start: pieces.length });
    else if (weight !== undefined && close("(", Number(weight))) continue;
    else if (bracket === ")" && close("(", STEP)) continue;
    else if (bracket === "]" && close("[", 1 / STEP)) continue;
    else pieces.push({ text: escaped ?? (whole === "\\" ? "" : whole), weight: 1 });
  }
  while (open.length > 0) {
    const { bracket } = open.at(-1)!;
    close(bracket, bracket === "(" ? STEP : 1 / STEP);
  }
  checkWeights(pieces);
  return joinEqual(pieces);
}

function checkWeights(pieces: readonly WeightedText[]): void {
  const bad = pieces.find(({ weight }) => !(Math.abs(weight) <= MAX_WEIGHT));
  if (bad)
    throw new ArgumentError(
      `prompt: the weight of ${JSON.stringify(bad.text.slice(0, 80))} is ${bad.weight}, expected at most ${MAX_WEIGHT}`,
    );
}

function joinEqual(pieces: readonly WeightedText[]): WeightedText[] {
  const joined: { text: string; weight: number }[] = [];
  for (const { text, weight } of pieces) {
    const last = joined.at(-1);
    if (last?.weight === weight) last.text += text;
    else joined.push({ text, weight });
  }
  return joined.length > 0 ? joined : [{ text: "", weight: 1 }];
}

/**
 * Embeddings [N, T, D] times the weights [N, T] of their tokens. With `rescale` (the default, as in the web UI) each
 * sample keeps the mean it had; without, values simply grow.
 */
export function applyPromptWeights(
  embeddings: Tensor,
  weights: Tensor,
  { rescale = true }: { rescale?: boolean } = {},
): Tensor {
  if (
    embeddings.rank !== 3 ||
    weights.rank !== 2 ||
    embeddings.shape.slice(0, 2).join() !== weights.shape.join()
  )
    throw new ShapeError(
      `applyPromptWeights: expected [N, T, D] and [N, T], got ${embeddings} and ${weights}`,
    );
  const weighted = embeddings.mul(cast(weights, embeddings.dtype).unsqueeze(2));
  if (!rescale) return weighted;
  const [before, after] = [embeddings.mean([1, 2], true), weighted.mean([1, 2], true)];
  const usable = before.abs().greater(LEAST_MEAN).logicalAnd(after.abs().greater(LEAST_MEAN));
  return weighted.mul(where(usable, before.div(where(usable, after, 1)), 1));
}

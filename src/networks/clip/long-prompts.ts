/** Prompts of any length: several windows of the text encoder, their embeddings one behind the other. */
import { ArgumentError } from "../../errors.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import type { CLIPTokenizer } from "../clip-tokenizer.ts";
import { applyPromptWeights, parsePromptWeights } from "./prompt-weights.ts";

/** A prompt in windows of the tokenizer's `maxLength`: ids, and how much each token counts. */
export interface PromptChunks {
  readonly ids: readonly (readonly number[])[]; // [K][T]
  readonly weights: readonly (readonly number[])[]; // [K][T]
}

/** Options of `chunkPrompt`. */
export interface ChunkOptions {
  /** Whether brackets mean emphasis. Default true. */
  readonly emphasis?: boolean;
  /** A window may end up to so many tokens early, behind a comma, rather than inside a phrase. Default 20; 0 is off. */
  readonly commaBacktrack?: number;
}

interface Token {
  readonly id: number;
  readonly weight: number;
}

/** A word of the prompt that opens a new window. */
export const BREAK = /\s*\bBREAK\b\s*/;

/** Cuts a prompt into windows as AUTOMATIC1111's web UI does; an empty prompt is one empty window. */
export function chunkPrompt(
  tokenizer: CLIPTokenizer,
  prompt: string,
  { emphasis = true, commaBacktrack = 20 }: ChunkOptions = {},
): PromptChunks {
  const room = tokenizer.maxLength - 2;
  const comma = tokenizer.has(",</w>") ? tokenizer.idOf(",</w>") : -1;
  const chunks: Token[][] = [[]];
  const push = (token: Token): void => {
    let chunk = chunks.at(-1)!;
    if (chunk.length === room) {
      const phrase = chunk.findLastIndex(({ id }) => id === comma) + 1;
      const early = token.id !== comma && phrase > 0 && chunk.length - phrase < commaBacktrack;
      chunk = early ? chunk.splice(phrase) : [];
      chunks.push(chunk);
    }
    chunk.push(token);
  };
  for (const { text, weight } of emphasis ? parsePromptWeights(prompt) : [{ text: prompt, weight: 1 }]) {
    text.split(BREAK).forEach((part, i) => {
      if (i > 0) chunks.push([]);
      for (const id of tokenizer.tokenize(part)) push({ id, weight });
    });
  }
  if (chunks.length > 1 && chunks.at(-1)!.length === 0) chunks.pop(); // a BREAK at the end opens nothing
  return {
    ids: chunks.map((tokens) => tokenizer.wrap(tokens.map(({ id }) => id))),
    weights: chunks.map((tokens) => {
      const weights = new Array<number>(tokenizer.maxLength).fill(1);
      for (const [i, { weight }] of tokens.entries()) weights[i + 1] = weight;
      return weights;
    }),
  };
}

/** The prompts with equally many windows each, as guidance and batches need them: empty ones are added. */
export function equalChunks(tokenizer: CLIPTokenizer, prompts: readonly PromptChunks[]): PromptChunks[] {
  const count = Math.max(...prompts.map(({ ids }) => ids.length));
  const emptyIds = tokenizer.wrap([]);
  const emptyWeights = emptyIds.map(() => 1);
  return prompts.map(({ ids, weights }) => {
    const missing = count - ids.length;
    return {
      ids: [...ids, ...new Array<number[]>(missing).fill(emptyIds)],
      weights: [...weights, ...new Array<number[]>(missing).fill(emptyWeights)],
    };
  });
}

/** Ids and weights of prompts with K windows each, as the tensors of one batch: both [N K, T]. */
export function chunkTensors(prompts: readonly PromptChunks[]): { ids: Tensor; weights: Tensor } {
  const rows = prompts.flatMap(({ ids }) => ids);
  const width = rows[0]?.length;
  if (width === undefined || prompts.some(({ ids }) => ids.length !== prompts[0]!.ids.length))
    throw new ArgumentError("chunkTensors: expected prompts with equally many windows (see equalChunks)");
  const weights = prompts.flatMap((prompt) => prompt.weights.flat());
  return {
    ids: fromHost("i64", [rows.length, width], BigInt64Array.from(rows.flat(), BigInt)),
    weights: fromHost("f32", [rows.length, width], Float32Array.from(weights)),
  };
}

/** Embeddings of windows [N K, T, D], weighted by [N K, T], as those of prompts: [N, K T, D]. */
export function joinChunks(
  embeddings: Tensor,
  weights: Tensor,
  { prompts, rescale = true }: { prompts: number; rescale?: boolean },
): Tensor {
  const [rows, length, width] = embeddings.shape as [number, number, number];
  return applyPromptWeights(embeddings, weights, { rescale }).reshape([
    prompts,
    (rows / prompts) * length,
    width,
  ]);
}

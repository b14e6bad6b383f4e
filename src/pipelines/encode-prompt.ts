/** Prompts as what text-conditioned denoisers take: the features of one text encoder, or of the two of SDXL. */
import { ArgumentError } from "../errors.ts";
import {
  BREAK,
  type CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPTokenizer,
  chunkPrompt,
  chunkTensors,
  clipWords,
  equalChunks,
  joinChunks,
  type PromptChunks,
} from "../networks/index.ts";
import { concat, evaluate, type Tensor, zerosLike } from "../tensor/index.ts";
import { CompiledFunctions } from "./compiled-functions.ts";
import type { PipelineComponents, TokenizerFiles } from "./components.ts";

/** Options of `encodePrompts`. */
export interface EncodePromptOptions {
  /** Whether brackets weigh words: `(word:1.3)`. Default true. */
  readonly emphasis?: boolean;
  /** Encodes a long prompt in several windows instead of cutting it after the first. Default false. */
  readonly longPrompts?: boolean;
  /** Layers left out at the end of the text encoder. Default 0 (for SDXL one more is always left out). */
  readonly clipSkip?: number;
}

/** A prompt for a denoiser. */
export interface TextCondition {
  readonly context: Tensor; // [1, T, D]
  /** Features of the text as a whole, for SDXL. */
  readonly pooled?: Tensor; // [1, P]
}

/** Prompts as the U-Net takes them. */
export interface EncodedPrompts {
  readonly positive: TextCondition;
  readonly negative: TextCondition;
  /** Where prompts were cut. */
  readonly warnings: readonly string[];
}

/** Characters of a prompt that a warning shows. */
const SHOWN = 60;

const shorten = (text: string): string => (text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text);

/** The first window of a prompt, and a warning when there are more. */
function cutPrompt(
  name: string,
  tokenizer: CLIPTokenizer,
  chunks: PromptChunks,
  warnings: string[],
): PromptChunks {
  if (chunks.ids.length === 1) return chunks;
  const room = tokenizer.maxLength - 2;
  const kept = tokenizer.decode(chunks.ids[0]!);
  const cut = tokenizer.decode(chunks.ids.slice(1).flat());
  warnings.push(
    `the ${name} is longer than ${room} tokens: it was cut after "…${kept.slice(-SHOWN / 2)}"; left out: "${shorten(cut)}"`,
  );
  return { ids: chunks.ids.slice(0, 1), weights: chunks.weights.slice(0, 1) };
}

/** Key of a tokenizer's configuration under which trainings from nothing list the words of their captions. */
export const KNOWN_WORDS = "known_words";

/** Words of texts that a model has never seen in training; none where its tokenizer does not say what it has seen. */
export function unknownWords({ config }: TokenizerFiles, texts: readonly string[]): string[] {
  const known = config[KNOWN_WORDS];
  if (!Array.isArray(known)) return [];
  const seen = new Set(known);
  const words = texts.flatMap((text) => clipWords(text.split(BREAK).join(" ")));
  return [...new Set(words)].filter((word) => /\p{L}/u.test(word) && !seen.has(word));
}

/** Both prompts as windows of one tokenizer, equally many. */
function windows(
  tokenizer: CLIPTokenizer,
  prompts: Readonly<Record<string, string>>,
  { emphasis = true, longPrompts = false }: EncodePromptOptions,
  warnings: string[],
): PromptChunks[] {
  const commaBacktrack = longPrompts ? undefined : 0;
  const chunked = Object.entries(prompts).map(([name, prompt]) => {
    const chunks = chunkPrompt(tokenizer, prompt, { emphasis, commaBacktrack });
    // Who writes BREAK asks for windows.
    return longPrompts || BREAK.test(prompt) ? chunks : cutPrompt(name, tokenizer, chunks, warnings);
  });
  return equalChunks(tokenizer, chunked);
}

interface Layers {
  readonly skip: number;
  readonly norm: boolean;
}

/** One encoder's features of several prompts: context [N, K T, D], and the pooled text [N, P] where it has a projection. */
function features(
  encoder: CLIPTextModel,
  ids: Tensor,
  weights: Tensor,
  layers: Layers & { readonly prompts: number },
): { context: Tensor; pooled?: Tensor } {
  const { prompts, ...which } = layers;
  const output = encoder.call(ids);
  const context = joinChunks(encoder.hidden(output, which), weights, { prompts });
  const embeds =
    encoder instanceof CLIPTextModelWithProjection
      ? (output as { textEmbeds?: Tensor }).textEmbeds
      : undefined;
  const perPrompt = embeds?.reshape([prompts, -1, embeds.shape[1]!]).sliceAxis(1, 0, 1).squeeze(1); // first window
  return { context, ...(perPrompt && { pooled: perPrompt }) };
}

/** The features of prompts by one encoder. */
async function encodeWith(
  model: CLIPTextModel,
  chunks: readonly PromptChunks[],
  { skip, norm }: Layers,
  functions: CompiledFunctions,
): Promise<{ context: Tensor; pooled?: Tensor }> {
  const layers = model.textModel.encoder.layers.length;
  if (!Number.isInteger(skip) || skip < 0 || skip >= layers)
    throw new ArgumentError(`clip skip: this text encoder has ${layers} layers, ${skip} cannot be left out`);
  const { ids, weights } = chunkTensors(chunks);
  return functions.get("text encoder", features)(model, ids, weights, {
    skip,
    norm,
    prompts: chunks.length,
  });
}

const tokenizerOf = ({ merges, vocabulary, config }: TokenizerFiles): CLIPTokenizer =>
  new CLIPTokenizer({ merges, vocabulary, config });

const row = (x: Tensor, i: number): Tensor => x.sliceAxis(0, i, i + 1);

/**
 * Features of a prompt and a negative prompt. Without a negative prompt the empty text stands for it, for SDXL zeros
 * as in diffusers. The encoders are compiled for this call, or kept by `functions`.
 *
 * @throws {ArgumentError} when the pipeline has no text encoder or no tokenizer, or clipSkip leaves no layer
 */
export async function encodePrompts(
  { kind, textEncoders, tokenizers, path, zerosForEmptyPrompt = true }: PipelineComponents,
  prompt: string,
  negative: string | undefined,
  options: EncodePromptOptions = {},
  functions?: CompiledFunctions,
): Promise<EncodedPrompts> {
  if (textEncoders.length === 0 || tokenizers.length !== textEncoders.length)
    throw new ArgumentError(
      `${path}: a prompt needs a text encoder and its tokenizer, this model has ${textEncoders.length} and ${tokenizers.length}`,
    );
  const warnings: string[] = [];
  const isXl = kind === "sdxl";
  const own = functions ?? new CompiledFunctions();
  const parts: { context: Tensor; pooled?: Tensor }[] = [];
  try {
    for (const [i, { model }] of textEncoders.entries()) {
      const prompts = { prompt, "negative prompt": negative ?? "" };
      const unknown = i === 0 ? unknownWords(tokenizers[i]!, [prompt, negative ?? ""]) : [];
      if (unknown.length > 0)
        warnings.push(`words that the model has never seen in training: ${unknown.join(", ")}`);
      const chunks = windows(tokenizerOf(tokenizers[i]!), prompts, options, i === 0 ? warnings : []);
      const skip = (options.clipSkip ?? 0) + (isXl ? 1 : 0);
      parts.push(await encodeWith(model as CLIPTextModel, chunks, { skip, norm: !isXl }, own));
    }
  } finally {
    if (!functions) await own.close();
  }
  const contexts = parts.map((p) => p.context);
  const context = contexts.length === 1 ? contexts[0]! : concat(contexts[0]!, contexts.slice(1), 2); // [2, T, D]
  const pooled = isXl ? parts.at(-1)!.pooled : undefined;
  const of = (i: number): TextCondition => ({
    context: row(context, i),
    ...(pooled && { pooled: row(pooled, i) }),
  });
  const [positive, empty] = [of(0), of(1)];
  const nothing = isXl && negative === undefined && zerosForEmptyPrompt;
  const away = nothing
    ? { context: zerosLike(empty.context), ...(empty.pooled && { pooled: zerosLike(empty.pooled) }) }
    : empty;
  const all = [positive, away].flatMap(({ context: c, pooled: p }) => (p ? [c, p] : [c]));
  await evaluate(all);
  return { positive, negative: away, warnings };
}

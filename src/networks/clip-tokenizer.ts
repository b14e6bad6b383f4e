/** The tokenizer of CLIP (Radford et al. 2021): lower-cased words, byte-pair encoded. */
import { ArgumentError, FormatError } from "../errors.ts";
import {
  fromSymbols,
  mergePairs,
  readMerges,
  toSymbols,
  vocabularyOfMerges,
  WORD_END,
} from "./clip/byte-pairs.ts";
import { collapseSpaces, fixText } from "./clip/text-fix.ts";

const BOS = "<|startoftext|>";
const EOS = "<|endoftext|>";

/** Files of a tokenizer, as text. */
export interface CLIPTokenizerFiles {
  /** Text of `merges.txt`, or of the unpacked `bpe_simple_vocab_16e6.txt`. */
  readonly merges: string;
  /** Token to id: `vocab.json`, parsed or not. Default: what follows from the merges. */
  readonly vocabulary?: string | Readonly<Record<string, number>>;
  /** `tokenizer_config.json`: its `pad_token` and `model_max_length` are taken over. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** Options of `CLIPTokenizer`. */
export interface CLIPTokenizerOptions {
  /** Fills up to `maxLength`: "<|endoftext|>" (the default) in SD 1.x, "!" (id 0) in the second tokenizer of SDXL. */
  readonly padToken?: string;
  /** Tokens of an encoded prompt, both ends included. Default 77. */
  readonly maxLength?: number;
  /** Further tokens that are never split, such as those of textual inversion, with their ids. */
  readonly addedTokens?: Readonly<Record<string, number>>;
  /**
   * Whether text is repaired as ftfy does it (see `fixText`), which transformers does where ftfy is installed. Default
   * true.
   */
  readonly fixText?: boolean;
}

/** A prompt as the text encoder takes it. */
export interface EncodedPrompt {
  /** BOS, tokens, EOS, padding: `maxLength` numbers. */
  readonly ids: number[];
  /** Tokens of the prompt that are in `ids`, without BOS and EOS. */
  readonly length: number;
  /** The text that did not fit; "" when all of it did. */
  readonly cut: string;
}

/** Words as CLIP splits them: contractions, runs of letters, single digits, runs of anything else. */
const WORD = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^ \p{L}\p{N}]+/gu;

/** The words of a text, in lower case; `fix` repairs it as ftfy does. */
export const clipWords = (text: string, fix = true): string[] =>
  collapseSpaces(fix ? fixText(text) : text.normalize("NFC"))
    .toLowerCase()
    .match(WORD) ?? [];

/** Words up to this length are cached. */
const CACHED_WORDS = 10_000;
const CACHED_WORD_LENGTH = 64;

const escapeRegExp = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");

function readVocabulary(vocabulary: string | Readonly<Record<string, number>>): Map<string, number> {
  let parsed: unknown = vocabulary;
  if (typeof vocabulary === "string") {
    try {
      parsed = JSON.parse(vocabulary);
    } catch (error) {
      throw new FormatError("vocabulary: expected JSON that maps tokens to ids", { cause: error });
    }
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new FormatError("vocabulary: expected an object that maps tokens to ids");
  const entries = Object.entries(parsed) as [string, unknown][];
  for (const [token, id] of entries) {
    if (!Number.isSafeInteger(id) || (id as number) < 0)
      throw new FormatError(`vocabulary: expected an id of ${JSON.stringify(token)} from 0 up, got ${id}`);
  }
  return new Map(entries as [string, number][]);
}

/** Options that a `tokenizer_config.json` decides. A `model_max_length` of 1e30 means none was set. */
function optionsOf(config: Readonly<Record<string, unknown>> = {}): CLIPTokenizerOptions {
  const { pad_token: pad, model_max_length: length } = config;
  const padToken = typeof pad === "object" && pad !== null ? (pad as { content?: unknown }).content : pad;
  return {
    padToken: typeof padToken === "string" ? padToken : undefined,
    maxLength: typeof length === "number" && length <= 4096 ? length : undefined,
  };
}

/** Text to ids and back. Immutable, but for a cache of words. */
export class CLIPTokenizer {
  readonly bosId: number;
  readonly eosId: number;
  readonly padId: number;
  readonly maxLength: number;
  readonly #vocabulary: ReadonlyMap<string, number>;
  readonly #tokens: ReadonlyMap<number, string>;
  readonly #ranks: ReadonlyMap<string, number>;
  readonly #specials: ReadonlyMap<string, number>;
  readonly #splitter: RegExp;
  readonly #fix: boolean;
  readonly #cache = new Map<string, readonly number[]>();

  /** Throws `FormatError` for malformed files, `ArgumentError` for tokens that the vocabulary does not hold. */
  constructor(files: CLIPTokenizerFiles, options: CLIPTokenizerOptions = {}) {
    const fromConfig = optionsOf(files.config);
    const { padToken = fromConfig.padToken ?? EOS, maxLength = fromConfig.maxLength ?? 77 } = options;
    if (!Number.isInteger(maxLength) || maxLength < 3)
      throw new ArgumentError(`CLIPTokenizer: expected a maxLength of at least 3, got ${maxLength}`);
    this.#ranks = readMerges(files.merges);
    const known = files.vocabulary
      ? readVocabulary(files.vocabulary)
      : vocabularyOfMerges(this.#ranks, [BOS, EOS]);
    this.#vocabulary = new Map([...known, ...Object.entries(options.addedTokens ?? {})]);
    this.#tokens = new Map([...this.#vocabulary].map(([token, id]) => [id, token]));
    this.bosId = this.idOf(BOS);
    this.eosId = this.idOf(EOS);
    this.padId = this.idOf(padToken);
    this.maxLength = maxLength;
    const specials = new Set([BOS, EOS, padToken, ...Object.keys(options.addedTokens ?? {})]);
    this.#specials = new Map([...specials].map((token) => [token, this.idOf(token)]));
    const longestFirst = [...specials].sort((a, b) => b.length - a.length);
    this.#splitter = new RegExp(`(${longestFirst.map(escapeRegExp).join("|")})`);
    this.#fix = options.fixText ?? true;
  }

  /** Number of tokens. */
  get size(): number {
    return this.#vocabulary.size;
  }

  /** Whether there is a token, spelled as in the vocabulary. */
  has(token: string): boolean {
    return this.#vocabulary.has(token);
  }

  /** Id of a token as the vocabulary spells it, such as `cat</w>`. Throws `ArgumentError` when there is none. */
  idOf(token: string): number {
    const id = this.#vocabulary.get(token);
    if (id === undefined) throw new ArgumentError(`CLIPTokenizer: no token ${JSON.stringify(token)}`);
    return id;
  }

  /** Ids of a text, however long, without BOS and EOS. Special tokens within the text are taken as what they are. */
  tokenize(text: string): number[] {
    const ids: number[] = [];
    for (const part of text.split(this.#splitter)) {
      const special = this.#specials.get(part);
      if (special !== undefined) ids.push(special);
      else
        for (const word of clipWords(part, this.#fix)) for (const id of this.#encodeWord(word)) ids.push(id);
    }
    return ids;
  }

  /** A prompt between BOS and EOS, cut or padded to `maxLength`. */
  encode(text: string): EncodedPrompt {
    const tokens = this.tokenize(text);
    const room = this.maxLength - 2;
    return {
      ids: this.wrap(tokens.slice(0, room)),
      length: Math.min(tokens.length, room),
      cut: this.decode(tokens.slice(room), { keepSpecials: true }),
    };
  }

  /** At most `maxLength` - 2 tokens with BOS, EOS and padding. */
  wrap(tokens: readonly number[]): number[] {
    const padding = this.maxLength - 2 - tokens.length;
    if (padding < 0)
      throw new ArgumentError(
        `CLIPTokenizer: expected at most ${this.maxLength - 2} tokens, got ${tokens.length}`,
      );
    return [this.bosId, ...tokens, this.eosId, ...new Array<number>(padding).fill(this.padId)];
  }

  /** Text of ids: lower case, one space after each word. BOS, EOS and padding are left out unless they are wanted. */
  decode(ids: readonly number[], options: { keepSpecials?: boolean } = {}): string {
    const hidden = new Set(options.keepSpecials ? [] : [this.bosId, this.eosId, this.padId]);
    const texts: string[] = [];
    let symbols: string[] = [];
    const flush = (): void => {
      texts.push(fromSymbols(symbols.join("")).replaceAll(WORD_END, " "));
      symbols = [];
    };
    for (const id of ids) {
      const token = this.#tokens.get(id);
      if (token === undefined)
        throw new ArgumentError(`CLIPTokenizer: expected ids of ${this.size} tokens, got ${id}`);
      if (hidden.has(id)) continue;
      if (this.#specials.has(token)) {
        flush();
        texts.push(`${token} `);
      } else symbols.push(token);
    }
    flush();
    return texts.join("").trim();
  }

  #encodeWord(word: string): readonly number[] {
    const cached = this.#cache.get(word);
    if (cached) return cached;
    const symbols = toSymbols(word);
    symbols[symbols.length - 1] += WORD_END;
    const ids = mergePairs(symbols, this.#ranks).map((token) => this.#vocabulary.get(token) ?? this.eosId);
    if (word.length <= CACHED_WORD_LENGTH && this.#cache.size < CACHED_WORDS) this.#cache.set(word, ids);
    return ids;
  }
}

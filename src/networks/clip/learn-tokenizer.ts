/** Learns the tokenizer of CLIP's kind from texts: the byte pairs that occur most often are merged first. */
import { ArgumentError } from "../../errors.ts";
import { clipWords } from "../clip-tokenizer.ts";
import { toSymbols, vocabularyOfMerges, WORD_END } from "./byte-pairs.ts";

/** A tokenizer that was learnt from texts. */
export interface LearntTokenizer {
  /** Text of `merges.txt`. */
  readonly merges: string;
  /** Token to id, for `vocab.json`. */
  readonly vocabulary: Readonly<Record<string, number>>;
  /** All words of the texts, the most frequent first. */
  readonly words: readonly string[];
}

/** A word as its symbols so far, and how often it occurs. */
interface Word {
  symbols: string[];
  readonly count: number;
}

/** A pair "left right": how often it occurs, and in which words (or did). */
interface Pair {
  count: number;
  readonly words: Set<Word>;
}

function countWords(texts: Iterable<string>): [word: string, count: number][] {
  const counts = new Map<string, number>();
  for (const text of texts) for (const word of clipWords(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
}

/** Adds the pairs of a word, or takes them away. */
function tally(pairs: Map<string, Pair>, word: Word, sign: 1 | -1): void {
  for (let i = 1; i < word.symbols.length; i++) {
    const name = `${word.symbols[i - 1]} ${word.symbols[i]}`;
    const pair = pairs.get(name) ?? { count: 0, words: new Set() };
    pair.count += sign * word.count;
    pair.words.add(word);
    if (pair.count > 0) pairs.set(name, pair);
    else pairs.delete(name);
  }
}

/** The most frequent pair; of several the first in the alphabet. */
function best(pairs: ReadonlyMap<string, Pair>): string | undefined {
  let found: string | undefined;
  let most = 0;
  for (const [name, { count }] of pairs)
    if (count > most || (count === most && name < found!)) [found, most] = [name, count];
  return found;
}

function merged(symbols: readonly string[], left: string, right: string): string[] {
  const out: string[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const together = symbols[i] === left && symbols[i + 1] === right;
    out.push(together ? left + right : symbols[i]!);
    if (together) i++;
  }
  return out;
}

const SPECIALS = ["<|startoftext|>", "<|endoftext|>"] as const;

/**
 * Learns merges (Sennrich et al. 2016, algorithm 1) until every word is one token or there are `maxMerges` (default 4096).
 * Any other text can be encoded, too, in bytes if need be. @throws ArgumentError for texts without words
 */
export function learnTokenizer(texts: Iterable<string>, { maxMerges = 4096 } = {}): LearntTokenizer {
  if (!Number.isInteger(maxMerges) || maxMerges < 1)
    throw new ArgumentError(`learnTokenizer: expected at least 1 merge, got ${maxMerges}`);
  const counted = countWords(texts);
  if (counted.length === 0) throw new ArgumentError("learnTokenizer: the texts have no words");
  const pairs = new Map<string, Pair>();
  for (const [text, count] of counted) {
    const symbols = toSymbols(text);
    symbols[symbols.length - 1] += WORD_END;
    tally(pairs, { symbols, count }, 1);
  }
  const merges: string[] = [];
  while (merges.length < maxMerges) {
    const pair = best(pairs);
    if (pair === undefined) break;
    const [left, right] = pair.split(" ") as [string, string];
    for (const word of [...pairs.get(pair)!.words]) {
      tally(pairs, word, -1);
      word.symbols = merged(word.symbols, left, right);
      tally(pairs, word, 1);
    }
    merges.push(pair);
  }
  // A text of single letters needs no merge, and a file of merges cannot be empty.
  if (merges.length === 0) merges.push(`a a${WORD_END}`);
  const ranks = new Map(merges.map((pair, rank) => [pair, rank]));
  return {
    merges: `${["#version: 0.2", ...merges].join("\n")}\n`,
    vocabulary: Object.fromEntries(vocabularyOfMerges(ranks, SPECIALS)),
    words: counted.map(([word]) => word),
  };
}

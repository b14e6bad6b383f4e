/** Byte-pair encoding (Sennrich et al. 2016) over bytes written as printable characters, as GPT-2 and CLIP use it. */
import { FormatError } from "../../errors.ts";

/** Marks the end of a word. */
export const WORD_END = "</w>";

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Bytes in the order in which they open the vocabulary: first those that are printable in Latin-1. */
const PRINTABLE = [...range(0x21, 0x7e), ...range(0xa1, 0xac), ...range(0xae, 0xff)];
const OTHERS = range(0, 255).filter((byte) => !PRINTABLE.includes(byte));

/** Characters that stand for bytes, in the order of the vocabulary. */
const SYMBOLS: readonly (readonly [byte: number, symbol: string])[] = [
  ...PRINTABLE.map((byte) => [byte, String.fromCharCode(byte)] as const),
  ...OTHERS.map((byte, i) => [byte, String.fromCharCode(256 + i)] as const),
];
const SYMBOL_OF_BYTE = SYMBOLS.toSorted(([a], [b]) => a - b).map(([, symbol]) => symbol);
const BYTE_OF_SYMBOL = new Map(SYMBOLS.map(([byte, symbol]) => [symbol, byte]));

/** The UTF-8 bytes of a text as symbols; lone surrogates become U+FFFD. */
export const toSymbols = (text: string): string[] =>
  Array.from(new TextEncoder().encode(text), (byte) => SYMBOL_OF_BYTE[byte]!);

/** Text of symbols; bytes that are no UTF-8 become U+FFFD, symbols that stand for no byte are dropped. */
export function fromSymbols(symbols: string): string {
  const bytes = Array.from(symbols, (symbol) => BYTE_OF_SYMBOL.get(symbol)).filter((b) => b !== undefined);
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/** Merges of CLIP, of which `bpe_simple_vocab_16e6.txt` holds many more: 49,408 tokens, 512 of them bytes, 2 special. */
const MAX_MERGES = 49408 - 512 - 2;

/** Rank by pair ("left right"), from the text of `merges.txt` or `bpe_simple_vocab_16e6.txt`. Throws `FormatError`. */
export function readMerges(text: string, source = "merges"): ReadonlyMap<string, number> {
  const lines = text.split(/\r?\n/, MAX_MERGES + 1);
  if (lines[0]?.includes("#version")) lines.shift();
  const ranks = new Map<string, number>();
  for (const [i, line] of lines.slice(0, MAX_MERGES).entries()) {
    if (line === "") continue;
    if (line.split(" ").length !== 2 || line.startsWith(" ") || line.endsWith(" "))
      throw new FormatError(
        `${source}: expected two symbols in merge ${i + 1}, got ${JSON.stringify(line.slice(0, 80))}`,
      );
    if (!ranks.has(line)) ranks.set(line, ranks.size);
  }
  if (ranks.size === 0)
    throw new FormatError(`${source}: expected merges, one pair of symbols a line, got none`);
  return ranks;
}

/** Token to id of a vocabulary that follows from its merges: bytes, bytes that end a word, merges, then the specials. */
export function vocabularyOfMerges(
  ranks: ReadonlyMap<string, number>,
  specials: readonly string[],
): Map<string, number> {
  const symbols = SYMBOLS.map(([, symbol]) => symbol);
  const merged = [...ranks.keys()].map((pair) => pair.replace(" ", ""));
  const tokens = [...symbols, ...symbols.map((symbol) => symbol + WORD_END), ...merged, ...specials];
  return new Map(tokens.map((token, id) => [token, id]));
}

/** Smallest number first. */
class Heap {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const [first] = items;
    const last = items.pop();
    if (items.length === 0 || last === undefined) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= last) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return first;
  }
}

/** Ranks are kept above places in one number: 2^26 places, 2^27 ranks. */
const PLACES = 2 ** 26;

/**
 * The symbols of a word after all merges, the lowest rank first and from left to right. A queue of candidates makes
 * it n log n: a word may be a megabyte long.
 */
export function mergePairs(symbols: readonly string[], ranks: ReadonlyMap<string, number>): string[] {
  const parts: (string | undefined)[] = [...symbols];
  const next = Int32Array.from(parts, (_, i) => (i + 1 < parts.length ? i + 1 : -1));
  const previous = Int32Array.from(parts, (_, i) => i - 1);
  const queue = new Heap();
  const rankAt = (i: number): number | undefined =>
    i < 0 || next[i]! < 0 || parts[i] === undefined ? undefined : ranks.get(`${parts[i]} ${parts[next[i]!]}`);
  const offer = (i: number): void => {
    const rank = rankAt(i);
    if (rank !== undefined) queue.push(rank * PLACES + i);
  };
  for (let i = 0; i < parts.length; i++) offer(i);
  for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
    const left = item % PLACES;
    if (rankAt(left) !== Math.floor(item / PLACES)) continue; // one of the two is merged already
    const right = next[left]!;
    parts[left] = parts[left]! + parts[right]!;
    parts[right] = undefined;
    next[left] = next[right]!;
    if (next[right]! >= 0) previous[next[right]!] = left;
    offer(previous[left]!);
    offer(left);
  }
  return parts.filter((part) => part !== undefined);
}

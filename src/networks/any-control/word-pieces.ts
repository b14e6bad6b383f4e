/** The tokenizer of BERT (Devlin et al. 2019): lower-cased words, split into the longest pieces that it knows. */
import { ArgumentError, FormatError } from "../../errors.ts";

/** A text as a Q-Former takes it. */
export interface EncodedText {
  /** [CLS], pieces, [SEP], then [PAD]: `length` numbers. */
  readonly ids: number[];
  /** True where there is a token. */
  readonly mask: boolean[];
}

/** Letters that are words of their own: Chinese characters and the like. */
const IDEOGRAPH = /[\u{3400}-\u{4dbf}\u{4e00}-\u{9fff}\u{f900}-\u{faff}\u{20000}-\u{2fa1f}]/gu;
/** Words and single marks; what is neither letter, digit nor space in ASCII counts as a mark. */
const WORD = /[\p{P}$+<=>^`|~]|[^\s\p{P}$+<=>^`|~]+/gu;
const CONTROL = /[\p{Cc}\p{Cf}\u{fffd}]/gu;
const LONGEST_WORD = 100;

/** WordPiece with the rules of `bert-base-uncased`. */
export class WordPieces {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #special: Readonly<Record<"[PAD]" | "[UNK]" | "[CLS]" | "[SEP]", number>>;

  /** `vocabulary`: text of a `vocab.txt`, one piece a line. @throws FormatError without the special pieces */
  constructor(vocabulary: string) {
    const lines = vocabulary.split(/\r?\n/);
    this.#ids = new Map(lines.flatMap((piece, id) => (piece === "" ? [] : [[piece, id] as const])));
    const idOf = (piece: string): number => {
      const id = this.#ids.get(piece);
      if (id === undefined)
        throw new FormatError(`vocabulary: no piece ${piece}; is it a vocab.txt of BERT?`);
      return id;
    };
    this.#special = {
      "[PAD]": idOf("[PAD]"),
      "[UNK]": idOf("[UNK]"),
      "[CLS]": idOf("[CLS]"),
      "[SEP]": idOf("[SEP]"),
    };
  }

  /** Ids of a text without its ends. */
  tokenize(text: string): number[] {
    const plain = text
      .replace(/[\t\n\r]/g, " ")
      .replace(CONTROL, "")
      .replace(IDEOGRAPH, " $& ")
      .toLowerCase()
      .normalize("NFD")
      .replace(/\p{Mn}/gu, "");
    return (plain.match(WORD) ?? []).flatMap((word) => this.#pieces(word));
  }

  /** The longest piece that a word begins with, then again; a word with a part that is no piece is unknown as a whole. */
  #pieces(word: string): number[] {
    const found: number[] = [];
    const letters = [...word];
    for (let from = 0; from < letters.length; ) {
      let to = letters.length > LONGEST_WORD ? from : letters.length;
      const piece = (): number | undefined =>
        this.#ids.get((from > 0 ? "##" : "") + letters.slice(from, to).join(""));
      while (to > from && piece() === undefined) to--;
      if (to === from) return [this.#special["[UNK]"]];
      found.push(piece()!);
      from = to;
    }
    return found;
  }

  /** A text between its ends, cut or filled up to `length`. @throws ArgumentError for lengths below 2 */
  encode(text: string, length: number): EncodedText {
    if (!(Number.isInteger(length) && length >= 2))
      throw new ArgumentError(`WordPieces: expected a length of 2 or more, got ${length}`);
    const inner = this.tokenize(text).slice(0, length - 2);
    const tokens = [this.#special["[CLS]"], ...inner, this.#special["[SEP]"]];
    return {
      ids: Array.from({ length }, (_, i) => tokens[i] ?? this.#special["[PAD]"]),
      mask: Array.from({ length }, (_, i) => i < tokens.length),
    };
  }
}

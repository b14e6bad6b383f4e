import { existsSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { mergePairs, readMerges, toSymbols, WORD_END } from "../../src/networks/clip/byte-pairs.ts";
import { fixText } from "../../src/networks/clip/text-fix.ts";
import { CLIPTokenizer } from "../../src/networks/clip-tokenizer.ts";
import { expectLinearTime } from "../growth.ts";
import { fill } from "./tiny-models.ts";

/** A vocabulary by hand: "low", "lower", "new" and their parts. */
const MERGES = ["#version: 0.2", "l o", "lo w</w>", "lo w", "e r</w>", "low er</w>", "n e", "ne w</w>"].join(
  "\n",
);
const small = new CLIPTokenizer({ merges: MERGES });

describe("CLIP tokenizer, on a small vocabulary", () => {
  const words = (text: string): string[] => small.tokenize(text).map((id) => small.decode([id]));

  it("numbers bytes, bytes that end a word, merges, then the two special tokens", () => {
    expect(small.size).toBe(512 + 7 + 2);
    expect(small.idOf("!")).toBe(0);
    expect(small.idOf("!</w>")).toBe(256);
    expect(small.idOf("lo")).toBe(512);
    expect([small.bosId, small.eosId, small.padId]).toEqual([519, 520, 520]);
  });

  it("merges the pair of lowest rank first", () => {
    expect(words("low lower new")).toEqual(["low", "lower", "new"]);
    expect(words("slower")).toEqual(["s", "lower"]);
    expect(words("lowlow")).toEqual(["low", "low"]);
  });

  it("merges in the order of the ranks wherever pairs overlap", () => {
    const ranks = new CLIPTokenizer({ merges: "b c\na b\na a" });
    const pieces = (text: string): string[] => ranks.tokenize(text).map((id) => ranks.decode([id]));
    expect(pieces("abcx")).toEqual(["a", "bc", "x"]);
    expect(pieces("aaaaax")).toEqual(["aa", "aa", "a", "x"]);
  });

  it("lower-cases, collapses white space and splits as CLIP does", () => {
    expect(small.tokenize("  LOW\n\t\u3000lower ")).toEqual(small.tokenize("low lower"));
    expect(words("it's 42!? don't")).toEqual([
      "i",
      "t",
      "'",
      "s",
      "4",
      "2",
      "!",
      "?",
      "d",
      "o",
      "n",
      "'",
      "t",
    ]);
  });

  it("pads, and says what was cut", () => {
    const tokenizer = new CLIPTokenizer({ merges: MERGES }, { maxLength: 5 });
    const short = tokenizer.encode("new");
    expect(short).toEqual({ ids: [519, 518, 520, 520, 520], length: 1, cut: "" });
    const long = tokenizer.encode("low low new Lower low");
    expect(long.ids).toEqual([519, ...tokenizer.tokenize("low low new"), 520]);
    expect(long).toMatchObject({ length: 3, cut: "lower low" });
  });

  it("pads with another token, which is then never part of a word", () => {
    const config = { pad_token: { content: "!" }, model_max_length: 6 };
    const tokenizer = new CLIPTokenizer({ merges: MERGES, config });
    expect(tokenizer.encode("new!").ids).toEqual([519, 518, 0, 520, 0, 0]);
    expect(tokenizer.decode([519, 518, 0, 520])).toBe("new");
  });

  it("knows special and added tokens within a text", () => {
    const tokenizer = new CLIPTokenizer({ merges: MERGES }, { addedTokens: { "<cat>": 600, "<cat>+": 601 } });
    expect(tokenizer.tokenize("low<|endoftext|> <cat>+<cat>")).toEqual([513, 520, 601, 600]);
    expect(tokenizer.decode([513, 600, 520], { keepSpecials: true })).toBe("low <cat> <|endoftext|>");
    expect(() => new CLIPTokenizer({ merges: MERGES }, { padToken: "<pad>" })).toThrow(/no token "<pad>"/);
  });

  it("decodes bytes across tokens, and broken ones as U+FFFD", () => {
    const cat = small.tokenize("猫🐱");
    expect(small.decode(cat)).toBe("猫 🐱");
    expect(small.decode(cat.slice(1))).toMatch(/^\ufffd+.*🐱$/);
    expect(() => small.decode([100_000])).toThrow(/100000/);
  });

  it("survives lone surrogates, control characters and nothing at all", () => {
    expect(small.decode(small.tokenize("a\ud800b \udc00"))).toBe("a \ufffd b \ufffd");
    expect(small.decode(small.tokenize("a\u0000\u0007b\u001b[31mc\ufeff"))).toBe("abc");
    const raw = new CLIPTokenizer({ merges: MERGES }, { fixText: false });
    expect(raw.decode(raw.tokenize("a\ud800b"))).toBe("a \ufffd b");
    for (const text of ["", " ", "\n\t", "\u200b"]) expect(small.encode(text).ids).toHaveLength(77);
    expect(small.encode("").ids.slice(0, 3)).toEqual([519, 520, 520]);
  });

  it("takes a megabyte in time that grows with its length, one word or many", () => {
    for (const piece of ["low", "l", "& low ", "&amp;"])
      expectLinearTime(
        (length) => expect(small.encode(piece.repeat(length)).ids).toHaveLength(77),
        Math.floor(2 ** 20 / piece.length),
      );
  });

  it("refuses malformed files", () => {
    expect(() => new CLIPTokenizer({ merges: "" })).toThrow(FormatError);
    expect(() => new CLIPTokenizer({ merges: "a b\nabc" })).toThrow(/two symbols in merge 2, got "abc"/);
    expect(() => new CLIPTokenizer({ merges: MERGES, vocabulary: "{" })).toThrow(/JSON/);
    expect(() => new CLIPTokenizer({ merges: MERGES, vocabulary: '{"a": -1}' })).toThrow(/id of "a".*-1/);
    expect(() => new CLIPTokenizer({ merges: MERGES, vocabulary: "[]" })).toThrow(/object/);
    expect(() => new CLIPTokenizer({ merges: MERGES, vocabulary: { a: 0 } })).toThrow(
      /no token "<\|startoftext\|>"/,
    );
    expect(() => new CLIPTokenizer({ merges: MERGES }, { maxLength: 2 })).toThrow(/at least 3/);
  });
});

describe("repair of text", () => {
  it.each([
    ["“curly” ‘quotes’ ʼ", "\"curly\" 'quotes' '"],
    ["ﬁne ﬂow Ǆ", "fine flow DŽ"],
    ["ＦＵＬＬ　width ｶ", "FULL width カ"],
    ["a\r\nb\rc\u2028d", "a\nb\nc\nd"],
    ["&amp;amp; &eacute; &EACUTE; &#233; &#xe9; &nope;", "& é É é é &nope;"],
    ["&#0; &#x110000; &#150;", "\ufffd \ufffd –"],
    ["a < b &amp; c", "a < b &amp; c"],
    ["first &amp;\n< second &amp;\nthird &amp;", "first &\n< second &amp;\nthird &amp;"],
    ["quoted \x93so\x94", 'quoted "so"'],
    ["e\u0301", "é"],
  ])("%j becomes %j", (text, expected) => expect(fixText(text)).toBe(expected));
});

const folder = new URL("../../../shared/data/clip-tokenizer/", import.meta.url);
const there = existsSync(new URL("merges.txt", folder));
if (!there) console.log("clip-tokenizer.test.ts: no shared/data/clip-tokenizer, its tests are skipped");

describe.skipIf(!there)("CLIP tokenizer, on the official vocabulary", () => {
  const text = (name: string): string => readFileSync(new URL(name, folder), "utf8");
  const reference = new URL("../fixtures/networks/clip-tokens.json", import.meta.url);
  const cases = JSON.parse(readFileSync(reference, "utf8")) as { text: string; ids: number[] }[];
  const official = (): CLIPTokenizer =>
    new CLIPTokenizer({ merges: text("merges.txt"), vocabulary: text("vocab.json") });
  const openai = (): CLIPTokenizer => {
    const packed = readFileSync(new URL("bpe_simple_vocab_16e6.txt.gz", folder));
    return new CLIPTokenizer({ merges: gunzipSync(packed).toString("utf8") });
  };

  it.each([
    ["vocab.json and merges.txt", official],
    ["bpe_simple_vocab_16e6.txt", openai],
  ])("gives the reference's ids, from %s", (_, open) => {
    const tokenizer = open();
    expect(tokenizer.size).toBe(49408);
    for (const { text: prompt, ids } of cases)
      expect(tokenizer.encode(prompt).ids.slice(0, ids.length), prompt).toEqual(ids);
    expect(cases).toHaveLength(11);
  });

  it("has the same tokens from either file", () => {
    const [a, b] = [official(), openai()];
    for (let id = 0; id < 49408; id++) {
      const token = a.decode([id], { keepSpecials: true });
      if (token !== b.decode([id], { keepSpecials: true })) expect.fail(`token ${id}: ${token}`);
    }
    expect(a.idOf("cat</w>")).toBe(2368);
  });

  it("merges as the definition does: the best pair of the word, everywhere, again and again", () => {
    const ranks = readMerges(text("merges.txt"));
    const byDefinition = (symbols: string[]): string[] => {
      const rankOf = (i: number): number =>
        ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Number.POSITIVE_INFINITY;
      const best = Math.min(...symbols.slice(1).map((_, i) => rankOf(i)));
      if (!Number.isFinite(best)) return symbols;
      const merged: string[] = [];
      for (let i = 0; i < symbols.length; i++) {
        const pair = i + 1 < symbols.length && rankOf(i) === best;
        merged.push(pair ? symbols[i]! + symbols[i + 1]! : symbols[i]!);
        if (pair) i++;
      }
      return byDefinition(merged);
    };
    const letters = ["a", "e", "i", "n", "t", "s", "r", "o", "h", "l", "ing", "猫", "é", "🐱", "!", "мир"];
    for (let k = 0; k < 300; k++) {
      const draws = fill(`word ${k}`, 1 + (k % 40));
      const word = Array.from(draws, (v) => letters[Math.floor(((v + 1) / 2) * 15.99)]!).join("");
      const symbols = toSymbols(word);
      symbols[symbols.length - 1] += WORD_END;
      expect(mergePairs(symbols, ranks), word).toEqual(byDefinition(symbols));
    }
  });

  it("decodes what it encodes, and cuts at 75 tokens", () => {
    const tokenizer = official();
    const prompt = "a cat riding a bicycle , ".repeat(13);
    const { cut, length } = tokenizer.encode(prompt);
    expect(length).toBe(75);
    expect(cut).toBe("a bicycle ,");
    expect(tokenizer.decode(tokenizer.tokenize("Tweedie's formula"))).toBe("tweedie 's formula");
  });
});

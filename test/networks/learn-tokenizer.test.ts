import { describe, expect, it } from "vitest";
import { CLIPTokenizer, clipWords, learnTokenizer } from "../../src/networks/index.ts";

const CAPTIONS = ["a red circle on teal", "a red person and a blue square on pink", "two cats, 3 dogs"];

describe("a tokenizer that is learnt", () => {
  const learnt = learnTokenizer(CAPTIONS);
  const tokenizer = new CLIPTokenizer({ merges: learnt.merges, vocabulary: learnt.vocabulary });

  it("makes one token of every word of its texts", () => {
    for (const text of CAPTIONS) expect(tokenizer.tokenize(text)).toHaveLength(clipWords(text).length);
  });

  it("encodes any other text, and gives it back", () => {
    expect(tokenizer.decode(tokenizer.tokenize("Ünknown wörds 😀"))).toBe("ünknown wörds 😀");
  });

  it("has the ids that follow from its merges alone", () => {
    expect(new CLIPTokenizer({ merges: learnt.merges }).tokenize(CAPTIONS[1]!)).toEqual(
      tokenizer.tokenize(CAPTIONS[1]!),
    );
  });

  it("merges the most frequent pairs first and stops when told", () => {
    expect(learnTokenizer(["ab ab ab", "cd"], { maxMerges: 1 }).merges).toBe("#version: 0.2\na b</w>\n");
    expect(learnt.words.slice(0, 3)).toEqual(["a", "on", "red"]);
  });

  it("needs words", () => {
    expect(() => learnTokenizer(["", "  "])).toThrow(/no words/);
    expect(learnTokenizer(["a"]).merges).toContain("a a</w>"); // a file of merges is never empty
  });
});

import { describe, expect, it } from "vitest";
import { KNOWN_WORDS, unknownWords } from "../../src/pipelines/index.ts";

describe("words that a model has never seen", () => {
  const tokenizer = { merges: "", config: { [KNOWN_WORDS]: ["a", "red", "fox"] } };

  it("are named once, whatever the case, without numbers, signs and weights", () => {
    expect(unknownWords(tokenizer, ["A (Red:1.3) dragon BREAK fox, 3 dragons!", "a dragon"])).toEqual([
      "dragon",
      "dragons",
    ]);
  });

  it("are not looked for where a tokenizer does not say what it has seen", () => {
    expect(unknownWords({ merges: "", config: {} }, ["dragon"])).toEqual([]);
  });
});

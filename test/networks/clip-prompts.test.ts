import { describe, expect, it } from "vitest";
import {
  chunkPrompt,
  chunkTensors,
  equalChunks,
  joinChunks,
  type PromptChunks,
} from "../../src/networks/clip/long-prompts.ts";
import { applyPromptWeights, parsePromptWeights } from "../../src/networks/clip/prompt-weights.ts";
import { CLIPTokenizer } from "../../src/networks/clip-tokenizer.ts";
import { createRng } from "../../src/nn/index.ts";
import { tensor } from "../../src/tensor/index.ts";
import { expectLinearTime } from "../growth.ts";

describe("emphasis in prompts", () => {
  const parsed = (prompt: string): [string, number][] =>
    parsePromptWeights(prompt).map(({ text, weight }) => [text, Number(weight.toFixed(6))]);

  it.each<[string, [string, number][]]>([
    ["a cat", [["a cat", 1]]],
    ["", [["", 1]]],
    ["(a cat)", [["a cat", 1.1]]],
    ["((a cat))", [["a cat", 1.21]]],
    ["[a cat]", [["a cat", 0.909091]]],
    [
      "a (red:1.5) cat",
      [
        ["a ", 1],
        ["red", 1.5],
        [" cat", 1],
      ],
    ],
    [
      "(a (red:2) cat:0.5)",
      [
        ["a ", 0.5],
        ["red", 1],
        [" cat", 0.5],
      ],
    ],
    [
      "a: b (c: -.5 )",
      [
        ["a: b ", 1],
        ["c", -0.5],
      ],
    ],
    ["(unbalanced", [["unbalanced", 1.1]]],
    [
      "[half (open",
      [
        ["half ", 0.909091],
        ["open", 1],
      ],
    ],
    ["closes) nothing] here:1.3)", [["closes) nothing] here:1.3)", 1]]],
    ["\\(literal\\) \\[x\\] \\\\", [["(literal) [x] \\", 1]]],
    ["(a:b:1.2)", [["a:b", 1.2]]],
    ["(:1.2)", [["", 1]]],
    ["((a)(b))", [["ab", 1.21]]],
  ])("%j", (prompt, expected) => expect(parsed(prompt)).toEqual(expected));

  it("takes a megabyte of brackets in time that grows with its length, and refuses weights that overflow", () => {
    for (const piece of ["(", ")", "(a", "[a]", "(a:1.1)", ":1", "\\", "1"])
      expectLinearTime((length) => parsePromptWeights(piece.repeat(length)), 200_000);
    expectLinearTime((length) => parsePromptWeights(`:${"1".repeat(length)}`), 1 << 20);
    expect(() => parsePromptWeights(`(((a:${"9".repeat(200)}):${"9".repeat(200)}))`)).toThrow(
      /weight of "a"/,
    );
    expect(() => parsePromptWeights(`a (fox:${"9".repeat(44)})`)).toThrow(
      /the weight of "fox" is 1e\+44, expected at most 1000000000000/,
    );
  });

  it("multiplies embeddings, and keeps their mean unless told otherwise", async () => {
    const x = createRng(1).normal([2, 3, 4]).add(0.5);
    const weights = tensor([
      [1, 1.5, 1],
      [1, 1, 0.5],
    ]);
    const plain = applyPromptWeights(x, weights, { rescale: false });
    expect(
      await plain
        .sub(x.mul(weights.unsqueeze(2)))
        .abs()
        .max()
        .item(),
    ).toBe(0);
    const kept = applyPromptWeights(x, weights);
    const means = await kept.mean([1, 2]).toArray();
    for (const [i, mean] of (await x.mean([1, 2]).toArray()).entries()) expect(means[i]).toBeCloseTo(mean, 5);
    const ratio = await kept.div(plain).toArray();
    for (let i = 0; i < 12; i++) expect(ratio[i]).toBeCloseTo(ratio[0]!, 5);
    // The web UI divides by the mean, and gives NaN here.
    const centred = tensor([
      [
        [1, -1],
        [2, -2],
      ],
    ]);
    expect(await applyPromptWeights(centred, tensor([[1, 1]])).toArray()).toEqual([1, -1, 2, -2]);
    expect(await applyPromptWeights(centred, tensor([[2, 1]])).toArray()).toEqual([2, -2, 2, -2]);
    expect(() => applyPromptWeights(x, tensor([[1]]))).toThrow(/\[N, T, D\] and \[N, T\]/);
  });
});

describe("long prompts", () => {
  const tokenizer = new CLIPTokenizer({ merges: "l o" });
  const [bos, eos, comma] = [tokenizer.bosId, tokenizer.eosId, tokenizer.idOf(",</w>")];
  const letters = (count: number): string => "a ".repeat(count);
  const lengths = ({ ids }: PromptChunks): number[] => ids.map((row) => row.indexOf(eos) - 1);

  it("are cut into windows of 75 tokens", () => {
    expect(lengths(chunkPrompt(tokenizer, ""))).toEqual([0]);
    expect(lengths(chunkPrompt(tokenizer, letters(75)))).toEqual([75]);
    const chunks = chunkPrompt(tokenizer, letters(160));
    expect(lengths(chunks)).toEqual([75, 75, 10]);
    for (const row of chunks.ids) {
      expect(row).toHaveLength(77);
      expect(row[0]).toBe(bos);
    }
  });

  it("are cut behind a comma when one is near, and at BREAK", () => {
    const near = `${letters(65)}, ${letters(20)}`;
    expect(lengths(chunkPrompt(tokenizer, near))).toEqual([66, 20]);
    expect(lengths(chunkPrompt(tokenizer, near, { commaBacktrack: 0 }))).toEqual([75, 11]);
    expect(lengths(chunkPrompt(tokenizer, `${letters(40)}, ${letters(50)}`))).toEqual([75, 16]);
    expect(chunkPrompt(tokenizer, near).ids[0]!.at(66)).toBe(comma);
    expect(lengths(chunkPrompt(tokenizer, "a b BREAK c BREAKING"))).toEqual([2, 9]);
    // As in the web UI an empty window at the end is not added; one between two breaks is.
    expect(lengths(chunkPrompt(tokenizer, "a b BREAK"))).toEqual([2]);
    expect(lengths(chunkPrompt(tokenizer, "a BREAK BREAK b"))).toEqual([1, 0, 1]);
    expect(lengths(chunkPrompt(tokenizer, "BREAK"))).toEqual([0]);
  });

  it("carry the weight of every token, 1 elsewhere", () => {
    const { weights } = chunkPrompt(tokenizer, "a (b c:1.5) d");
    expect(weights[0]!.slice(0, 6)).toEqual([1, 1, 1.5, 1.5, 1, 1]);
    expect(weights[0]).toHaveLength(77);
    const off = chunkPrompt(tokenizer, "a (b:1.5)", { emphasis: false });
    expect(new Set(off.weights[0])).toEqual(new Set([1]));
    expect(lengths(off)[0]).toBeGreaterThan(4);
  });

  it("get equally many windows, whose embeddings are joined", async () => {
    const prompts = equalChunks(tokenizer, [
      chunkPrompt(tokenizer, letters(80)),
      chunkPrompt(tokenizer, "b"),
    ]);
    const { ids, weights } = chunkTensors(prompts);
    expect(ids.shape).toEqual([4, 77]);
    expect((await ids.toArray()).slice(3 * 77, 3 * 77 + 2)).toEqual([bos, eos]);
    const embeddings = createRng(1).normal([4, 77, 2]);
    const joined = joinChunks(embeddings, weights, { prompts: 2 });
    expect(joined.shape).toEqual([2, 154, 2]);
    const [got, expected] = [await joined.toArray(), await embeddings.toArray()];
    for (const [i, v] of got.entries()) expect(v).toBeCloseTo(expected[i]!, 5);
    expect(() =>
      chunkTensors([chunkPrompt(tokenizer, letters(80)), prompts[1]!, chunkPrompt(tokenizer, "")]),
    ).toThrow(/equally many windows/);
  });
});

import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ArgumentError, FormatError } from "../../../src/errors.ts";
import { encodePicture } from "../../../src/io/index.ts";
import { answersAbout } from "../../../src/systems/ncp-dpo/make-pairs.ts";
import {
  type Comparison,
  comparisonsOfFolders,
  pairsOf,
  readComparisons,
  selected,
  writePairs,
} from "../../../src/systems/ncp-dpo/pairs.ts";

const folder = mkdtempSync(join(tmpdir(), "pairs-"));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const picture = (value: number) =>
  encodePicture({ width: 4, height: 4, channels: 3, data: new Uint8Array(48).fill(value) });

beforeAll(async () => {
  for (const [i, name] of ["a", "b", "c"].entries())
    writeFileSync(join(folder, `${name}.png`), await picture(40 * i));
});

describe("tables of pairs", () => {
  it("may be of any kind, with the winner by column or by label", async () => {
    const csv = file("p.csv", "prompt,winner,loser\na cat,a.png,b.png\n");
    const chosen = file("c.csv", "prompt,chosen,rejected\na cat,a.png,b.png\n");
    const lines = file(
      "p.jsonl",
      '{"caption": "a cat", "jpg_0": "b.png", "jpg_1": "a.png", "label_0": 0, "label_1": 1}\n',
    );
    for (const path of [csv, chosen, lines]) {
      const { pairs } = await pairsOf(await readComparisons(path), path);
      expect(pairs).toEqual([
        { prompt: "a cat", winner: join(folder, "a.png"), loser: join(folder, "b.png") },
      ]);
    }
  });

  it("pass over ties and pictures that are not there, and say how many", async () => {
    const path = file(
      "t.csv",
      "prompt,winner,loser,label\nx,a.png,b.png,1\nx,a.png,c.png,0.5\nx,a.png,gone.png,1\nx,a.png,b.png,0\n",
    );
    const set = await pairsOf(await readComparisons(path), path);
    expect(set.ties).toBe(1);
    expect(set.missing).toEqual([join(folder, "gone.png")]);
    expect(set.pairs.map(({ winner }) => winner.toString().slice(-5))).toEqual(["a.png", "b.png"]);
  });

  it("are refused with row and reason when nothing is left, columns lack or labels are none", async () => {
    const ties = file("ties.csv", "prompt,winner,loser,label\nx,a.png,b.png,0.5\n");
    await expect(pairsOf(await readComparisons(ties), ties)).rejects.toThrow(
      /no pairs to train on: of 1, 1 are ties/,
    );
    for (const [text, reason] of [
      ["winner,loser\na.png,b.png\n", /row 1: expected a prompt/],
      ["prompt,winner,loser,label\nx,a.png,b.png,0.7\n", /row 1: expected a label of 1, 0 or 0.5, got "0.7"/],
      ["prompt,winner\nx,a.png\n", /row 1: expected a prompt/],
      ["prompt,winner,loser\n", /no pairs/],
    ] as const) {
      const read = readComparisons(file("bad.csv", text));
      await expect(read).rejects.toThrow(reason);
      await expect(read).rejects.toBeInstanceOf(FormatError);
    }
  });

  it("come back from a file that holds the pictures themselves", async () => {
    const path = join(folder, "own.jsonl");
    await writePairs(path, [{ prompt: 'a "cat"', winner: join(folder, "a.png"), loser: await picture(9) }]);
    const [one] = await readComparisons(path);
    expect(one!.prompt).toBe('a "cat"');
    expect(Buffer.from(one!.pictures[1] as Uint8Array).equals(await picture(9))).toBe(true);
    expect((await pairsOf([one!], path)).pairs).toHaveLength(1);
  });
});

describe("two folders", () => {
  it("belong together by name; prompts are texts beside pictures, or names", async () => {
    for (const side of ["good", "bad"]) mkdirSync(join(folder, side), { recursive: true });
    for (const side of ["good", "bad"])
      for (const name of ["a-red-cat-1", "x"])
        writeFileSync(join(folder, side, `${name}.png`), await picture(3));
    writeFileSync(join(folder, "good", "x.txt"), "a blue dog\n");
    const found = await comparisonsOfFolders(join(folder, "good"), join(folder, "bad"));
    expect(found.map(({ prompt }) => prompt)).toEqual(["a red cat", "a blue dog"]);
    writeFileSync(join(folder, "good", "alone.png"), await picture(3));
    const refused = comparisonsOfFolders(join(folder, "good"), join(folder, "bad"));
    await expect(refused).rejects.toThrow(/alone\.png/);
    await expect(refused).rejects.toBeInstanceOf(ArgumentError);
  });
});

describe("the choice of answers", () => {
  const compared = (a: string, b: string, label: number, prompt = "p"): Comparison => ({
    ...{ prompt, label, pictures: [a, b], ids: [a, b] },
  });
  // x won always; y lost to x and beat z; w drew with x of another prompt, which is another picture there.
  const all = [
    compared("y", "z", 1),
    compared("x", "y", 1),
    compared("y", "x", 0),
    compared("x", "w", 0.5, "q"),
    compared("u", "v", 0),
    compared("v", "t", 0.5),
  ];
  const names = (found: readonly Comparison[]): string[] =>
    found.map(({ ids, label }) => (label === 1 ? ids.join(">") : ids.toReversed().join(">")));

  it("keeps one answer of each picture that never lost nor drew", () => {
    expect(names(selected(all, "absolute"))).toEqual(["x>y"]);
    expect(selected(all, "all")).toHaveLength(6);
  });

  it("adds what the loser was preferred to, by the winner or by itself", () => {
    expect(names(selected(all, "absolute+second"))).toEqual(["x>y", "x>z"]);
    expect(names(selected(all, "absolute+third"))).toEqual(["x>y", "y>z"]);
  });
});

describe("answers about drawn pictures", () => {
  const candidates = [
    { prompt: "p", pictures: [0, 1, 2, 3].map((i) => Uint8Array.of(i)), scores: [0.1, 0.9, 0.5, 0.2] },
    { prompt: "q", pictures: [0, 1, 2, 3].map((i) => Uint8Array.of(i)), scores: [1, 1, 1, 1] },
  ];

  it("are best against worst, and a tie where all are alike", () => {
    const found = answersAbout(candidates, { kind: "best", sharpness: 4, seed: 0 });
    expect(found.map(({ ids, label }) => [...ids, label])).toEqual([
      ["1", "0", 1],
      ["0", "3", 0.5],
    ]);
    const close = [{ ...candidates[0]!, scores: [0.5, 0.5, 0.5, 0.51] }, { ...candidates[0]! }];
    const labels = answersAbout(close, { kind: "best", sharpness: 4, seed: 0 }).map(({ label }) => label);
    expect(labels).toEqual([0.5, 1]); // less than a quarter deviation is a tie
  });

  it("are all six when noisy, more often right the further scores lie apart", () => {
    const many = Array.from({ length: 400 }, (_, i) => ({ ...candidates[0]!, prompt: `p${i}` }));
    const found = answersAbout(many, { kind: "noisy", sharpness: 4, seed: 0 });
    expect(found).toHaveLength(2400);
    const rate = (a: string, b: string): number => {
      const own = found.filter(({ ids }) => ids[0] === a && ids[1] === b);
      return own.filter(({ label }) => label === 1).length / own.length;
    };
    expect(rate("0", "1")).toBeCloseTo(1 / (1 + Math.exp(4 * 0.8)), 1);
    expect(rate("2", "3")).toBeCloseTo(1 / (1 + Math.exp(-4 * 0.3)), 1);
    expect(answersAbout(many, { kind: "noisy", sharpness: 4, seed: 0 })).toEqual(found);
  });
});

import { readdir, readFile, writeFile } from "node:fs/promises";
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  atLeast,
  comparisonTable,
  fingerprint,
  judged,
  marksOf,
  openStudy,
  type Page,
  publish,
  type Row,
} from "../../src/study/index.ts";
import { drained } from "../../src/work.ts";
import { temporaryFolder } from "./folder.ts";

const pageOf = (dice: number, more: Partial<Page> = {}): Page => ({
  title: "Example, measured",
  finding: "Less is enough.",
  command: "tweedie reproduce example --steps 7",
  verdicts: judged([{ name: "a", says: "Dice is high", judge: () => atLeast(dice, 0.5) }], "lesions", {}),
  tables: { Scores: { columns: ["way", "Dice"], rows: [["ours", dice]] } },
  charts: [{ name: "curve", caption: "Dice by step", svg: "<svg/>" }],
  figures: [
    {
      name: "examples",
      caption: "Two pictures",
      pictures: [0, 1].map(() => ({ width: 2, height: 2, channels: 1, data: new Uint8Array(4) })),
      columns: 2,
    },
  ],
  data: { dice },
  ...more,
});

/** Measures one number and publishes it. */
async function run(work: string, out: string, more: Partial<Page> = {}) {
  const study = await openStudy(work, { version: 4 });
  const made = await drained(study.measure("dice", { measure: async () => 0.75 }));
  const events: unknown[] = [];
  await drained(publish(out, study, pageOf(made.value, more)), (event) => events.push(event));
  return { made, events };
}

const [begin, end] = marksOf();

describe("publish", () => {
  it("prints the finding, the rules, the tables, the command, and where each number comes from", async () => {
    const [work, out] = [await temporaryFolder(), await temporaryFolder()];
    const { made } = await run(work, out);
    const text = await readFile(join(out, "results.md"), "utf8");
    expect(text).toContain("Less is enough. 1 of 1 rules hold.");
    expect(text).toContain("| a: Dice is high | lesions | holds | 0.75, expected 0.5 or more |");
    expect(text).toContain("| ours | 0.75 |");
    expect(text).toContain("`tweedie reproduce example --steps 7`");
    const row = text.split("\n").find((line) => line.startsWith("| dice |"))!;
    expect(row).toContain(made.id);
    expect(row).toContain(made.date.slice(0, 10));
    expect(row).toContain(`${availableParallelism()} cores, Node ${process.versions.node}`);
    expect(row).toContain("study version 4");
    expect((await readdir(join(out, "figures"))).sort()).toEqual(["curve.svg", "examples.png"]);
    const json = JSON.parse(await readFile(join(out, "results.json"), "utf8"));
    expect(json.data).toEqual({ dice: 0.75 });
    expect(json.provenance[0]).toMatchObject({ name: "dice", id: made.id, date: made.date });
  });

  it("writes the same bytes when nothing was measured anew: the date is that of the number", async () => {
    const [work, out] = [await temporaryFolder(), await temporaryFolder()];
    await run(work, out);
    const path = join(out, "results.md");
    const first = await readFile(path, "utf8");
    await run(work, out);
    expect(await readFile(path, "utf8")).toBe(first);
    // The number as if it had been measured on another day.
    const name = (await readdir(work)).find((file) => file.endsWith(".json"))!;
    const { check: _, ...record } = JSON.parse(await readFile(join(work, name), "utf8"));
    const older = { ...record, date: "2020-01-02T03:04:05.678Z" };
    await writeFile(join(work, name), JSON.stringify({ ...older, check: fingerprint(older) }));
    await run(work, out);
    const later = await readFile(path, "utf8");
    expect(later).toContain("Measured 2020-01-02 on");
    expect(later).not.toContain(record.date.slice(0, 10));
  });

  it("replaces what stands between the marks of a README and nothing else", async () => {
    const [work, out] = [await temporaryFolder(), await temporaryFolder()];
    const readme = join(out, "README.md");
    await writeFile(readme, `# Mine\n\n${begin}\nstale text\n${end}\n\nMy words.\n`);
    await run(work, out, { readme });
    const first = await readFile(readme, "utf8");
    expect(first).toMatch(/^# Mine\n/);
    expect(first).toMatch(/My words\.\n$/);
    expect(first).toContain("| a: Dice is high | lesions | holds |");
    expect(first).not.toContain("stale");
    await run(work, out, { readme });
    expect(await readFile(readme, "utf8")).toBe(first);
    await writeFile(readme, `# Mine\n${end}\n${begin}\n`);
    await expect(run(work, out, { readme })).rejects.toThrow(/README\.md: expected the lines/);
  });

  it("says nothing of where things lie on this machine", async () => {
    const [work, out] = [await temporaryFolder(), await temporaryFolder()];
    const data = {
      file: join(process.cwd(), "checkpoints/a.safetensors"),
      home: join(homedir(), "pictures"),
    };
    await run(work, out, { data, finding: `Read from ${data.file}.` });
    for (const name of ["results.md", "results.json"]) {
      const text = await readFile(join(out, name), "utf8");
      expect(text).not.toContain(process.cwd());
      expect(text).toContain("checkpoints/a.safetensors");
      if (homedir() !== "/") expect(text).not.toContain(`${homedir()}/`);
    }
  });
});

describe("a comparison", () => {
  const dice = { name: "Dice", better: "higher" } as const;
  const seeds = (...values: number[]) => Object.fromEntries(values.map((v, seed) => [seed, v]));
  const method: Row = { name: "ours", values: seeds(0.9, 0.8, 0.85) };
  const rival: Row = { name: "U-Net", values: seeds(0.91, 0.81, 0.861) };
  const none = { none: "masks have no trivial guess" };

  it("prints the reason where there is no floor, no ceiling, no rival, no second judge", () => {
    const table = comparisonTable({
      judge: dice,
      over: "seeds",
      method,
      floor: none,
      ceiling: { none: "unknown" },
      rival: { none: "nobody tried" },
      secondJudge: { none: "nothing was chosen by Dice" },
    });
    const text = JSON.stringify(table.rows);
    for (const reason of [
      "masks have no trivial guess",
      "unknown",
      "nobody tried",
      "nothing was chosen by Dice",
    ])
      expect(text).toContain(`none: ${reason}`);
  });

  it("does not take an empty reason", () => {
    const given = { judge: dice, over: "seeds", method, ceiling: none, rival, secondJudge: none };
    expect(() => comparisonTable({ ...given, floor: { none: " " } })).toThrow(/no floor: say why/);
  });

  it("compares rows with common seeds in pairs, less the method, and others by their means, and says which", () => {
    const table = comparisonTable({
      judge: dice,
      over: "seeds",
      method,
      rival,
      floor: { name: "all background", values: { once: 0.1 } },
      ceiling: { name: "autoencoder" },
      secondJudge: none,
    });
    const [ours, theirs, floor, ceiling] = table.rows;
    expect(ours).toEqual(["ours", "0.850 ± 0.050 over 3 seeds", ""]);
    expect(theirs![0]).toBe("rival: U-Net");
    expect(theirs![2]).toMatch(/^0\.01\d+ \[0\.00\d+, 0\.01\d+\], 3 pairs$/); // the rival is better in every pair
    expect(floor).toEqual(["floor: all background", "0.1 (1 seed)", "-0.75 (not in pairs)"]);
    expect(ceiling).toEqual(["ceiling: autoencoder", "not measured", "not measured"]);
  });

  it("shows the second judge beside the first", () => {
    const second = { name: "human score", better: "higher" } as const;
    const table = comparisonTable({
      judge: dice,
      over: "seeds",
      method: { ...method, second: seeds(1, 2, 3) },
      rival,
      floor: none,
      ceiling: none,
      secondJudge: second,
    });
    expect(table.columns.at(-1)).toBe("second judge: human score (higher is better)");
    expect(table.rows[0]!.at(-1)).toBe("2.0 ± 1.0 over 3 seeds");
    expect(table.rows[1]!.at(-1)).toBe("not measured");
    expect(table.rows.every((row) => row.length === table.columns.length)).toBe(true);
  });
});

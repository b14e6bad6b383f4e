/** Q-DiT's actions on a tiny transformer and a tiny data set: training, drawing, evaluating, and the whole study once. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decodePicture } from "../../../src/io/index.ts";
import { loadDiT, saveDiT } from "../../../src/systems/q-dit/model.ts";
import { RULES } from "../../../src/systems/q-dit/rules.ts";
import { qDiT } from "../../../src/systems/q-dit/system.ts";
import type { ActionContext, ActionName } from "../../../src/systems/system.ts";
import { drained, type WorkEvent } from "../../../src/work.ts";
import { useTemporaryFolder } from "../../io/temporary-folder.ts";
import { randomDiT } from "./random-dit.ts";

const folder = useTemporaryFolder();

async function act(name: ActionName, options: object, context: ActionContext = {}) {
  const events: WorkEvent[] = [];
  const action = qDiT.actions[name]!;
  const result = await drained(action.run(action.options.parse(options), context), (event) =>
    events.push(event),
  );
  return { events, ...result };
}

/** A data set in the layout of MNIST: a bright bar for each class, at a height of its own. */
function writeClothes(name = "clothes", shade = 150): string {
  const path = folder(name);
  mkdirSync(path);
  const numbers = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
    return bytes;
  };
  for (const [half, count] of [
    ["train", 40],
    ["t10k", 20],
  ] as const) {
    const pixels = Buffer.alloc(count * 28 * 28);
    for (let i = 0; i < count; i++)
      pixels.fill(
        (half === "train" ? 150 : shade) + i,
        i * 784 + 56 * (i % 10) + 28,
        i * 784 + 56 * (i % 10) + 84,
      );
    const labels = Buffer.from(Array.from({ length: count }, (_, i) => i % 10));
    const write = (kind: string, ...parts: Buffer[]): void =>
      writeFileSync(`${path}/${half}-${kind}-ubyte.gz`, gzipSync(Buffer.concat(parts)));
    write("images-idx3", numbers(0x803, count, 28, 28), pixels);
    write("labels-idx1", numbers(0x801, count), labels);
  }
  return path;
}

/** A DiT of two blocks and four tokens, random everywhere. */
async function writeModel(name: string, seed: number): Promise<string> {
  const model = randomDiT({ patchSize: 14, layers: 2, heads: 2, headDim: 64 }, seed);
  await saveDiT(folder(name), model, {});
  return folder(name);
}

const fewest = (data: string, model: string) => ({
  ...{ data, model, threads: 1, work: folder("work"), out: folder("out") },
  ...{ pictures: 10, steps: 2, searchPictures: 4, searchSteps: 1 },
  ...{ population: 2, generations: 2, samples: 32, judgeSteps: 2, rounds: 1 },
});

interface Results {
  readonly verdicts: readonly { readonly name: string; readonly judged?: { readonly holds: boolean } }[];
  readonly provenance: readonly { readonly name: string; readonly id: string }[];
  readonly command: string;
  readonly tables: Readonly<Record<string, { readonly rows: readonly (readonly unknown[])[] }>>;
}

describe("the study of Q-DiT", () => {
  test("measures, judges and prints everything; a second run finds all of it, another model nothing", async () => {
    const [data, model] = [writeClothes(), await writeModel("tiny.safetensors", 1)];
    const readme = readFileSync("src/systems/q-dit/README.md", "utf8");
    const { events, summary } = await act("reproduce", fewest(data, model));
    const results = (): Results => JSON.parse(readFileSync(folder("out", "results.json"), "utf8"));
    const first = results();
    expect(first.verdicts).toHaveLength(RULES.length);
    expect(first.verdicts.filter(({ judged }) => !judged).map(({ name }) => name)).toEqual([
      "GPTQ at W3A8, natural", // only with --further
      "GPTQ at W3A8, stress",
    ]);
    expect(summary).toContain(`of ${RULES.length} rules hold, 2 not measured`);
    expect(first.command).toContain("--samples 32 --judge-steps 2 --rounds 1");
    expect(first.command).not.toContain(folder());
    const searched = Object.entries(first.tables).find(([title]) => title.startsWith("Searched"))![1];
    expect(searched.rows.map(([name]) => name)).toEqual([
      "natural q-dit W4A8 searched by GPTQ",
      "rival: natural q-dit W4A8 groups 64",
      "floor: natural q-dit W4A8 random by GPTQ",
      "ceiling: natural fp32",
    ]);
    const files = readdirSync(folder("work"));
    const packed = files.find((name) => /^packed-W4A8-groups-64-\w+\.safetensors$/.test(name))!;
    expect((await loadDiT(folder("work", packed))).notes).toMatchObject({ quantized: /./ });
    const bars = events.filter((event) => event.type === "progress" && event.stage === "cells");
    const [last] = bars.slice(-1) as { done: number; total: number }[];
    expect(last!.done).toBe(last!.total);
    expect(first.provenance).toHaveLength(last!.total);
    expect(readFileSync("src/systems/q-dit/README.md", "utf8")).toBe(readme); // another folder than the official one

    const page = readFileSync(folder("out", "results.md"), "utf8");
    await act("reproduce", fewest(data, model));
    expect(results()).toEqual(first); // dates and machines too
    expect(readFileSync(folder("out", "results.md"), "utf8")).toBe(page);
    expect(readdirSync(folder("work"))).toEqual(files);

    const other = await writeModel("other.safetensors", 2);
    await act("reproduce", { ...fewest(data, other), measure: false });
    const known = results().provenance.map(({ name }) => name);
    expect(known).toEqual(
      first.provenance.map(({ name }) => name).filter((name) => /judge|^mean|^linear/.test(name)),
    );
    const darker = writeClothes("darker", 90); // other real pictures, the same to train on
    await act("reproduce", { ...fewest(darker, model), measure: false });
    expect(results().provenance.map(({ name }) => name)).toEqual(
      first.provenance
        .map(({ name }) => name)
        .filter((name) => !/^(pictures|search|mean|time)|searched/.test(name)),
    );
    expect(readdirSync(folder("work"))).toEqual(files); // nothing was made
  });

  test("stops between two cells, and keeps what it has", async () => {
    const [data, model] = [writeClothes(), await writeModel("tiny.safetensors", 1)];
    const controller = new AbortController();
    const action = qDiT.actions.reproduce!;
    const run = action.run(action.options.parse(fewest(data, model)), { signal: controller.signal });
    const stopping = drained(run, (event) => {
      if (event.type === "progress" && event.stage === "cells" && event.done === 2) controller.abort();
    });
    await expect(stopping).rejects.toThrow(/stopped|abort/i);
    const kept = readdirSync(folder("work")).filter((name) => name.endsWith(".json"));
    expect(kept.map((name) => name.replace(/-\w{12}\.json$/, "")).sort()).toEqual([
      "pictures-natural-fp32",
      "second-judge",
    ]);
  });
});

describe("the other actions of Q-DiT", () => {
  test("train writes a model that run draws with and evaluate measures", async () => {
    const data = writeClothes();
    const out = folder("run");
    const trained = await act("train", { data, limit: 30, out, steps: 2, batch: 4, threads: 1 });
    const files = trained.events.flatMap((event) => (event.type === "file" ? [event.path] : []));
    expect(files).toEqual([join(out, "model.safetensors"), join(out, "run", "report.html")]);
    for (const path of files) expect(existsSync(path), path).toBe(true);
    expect(trained.events.some((event) => event.type === "metrics")).toBe(true);
    const model = folder("run", "model.safetensors");
    expect((await loadDiT(model)).notes).toMatchObject({
      data: "30 training pictures",
      steps: "2",
      batch: "4",
    });

    const file = folder("pictures", "all.png");
    const asked = { model, label: 7, count: 3, steps: 2, threads: 1, out: file };
    const { events, metrics } = await act("run", asked, { previews: true });
    const picture = await decodePicture(readFileSync(file), { name: file });
    expect(picture.width).toBeGreaterThan(3 * 56 - 1);
    expect(events.map(({ type }) => type)).toEqual([
      ...["progress", "preview", "progress", "preview"],
      ...["picture", "file"],
    ]);
    expect(metrics!.stepMilliseconds).toBeGreaterThan(0);
    await expect(act("run", { ...asked, label: 10 })).rejects.toThrow(/label: expected 0 to 9, got 10/);
    await expect(act("run", { ...asked, model: "unknown" })).rejects.toThrow(/no model "unknown"/);

    const measured = await act("evaluate", { data, model, count: 10, steps: 2, threads: 1 });
    expect(measured.summary).toMatch(/20 real.*10 generated|10.*20/);
    const limited = await act("evaluate", { data, limit: 12, model, count: 10, steps: 2, threads: 1 });
    expect(limited.summary).toMatch(/12 real.*10 generated|10.*12/);
    const chance = await act("evaluate", { data, model: "fashion", count: 20, steps: 4, threads: 1 });
    expect(chance.metrics!.agreement).toBeGreaterThan(measured.metrics!.agreement!);
  });
});

import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Made, openStudy, type Study } from "../../src/study/index.ts";
import { drained, type WorkEvent } from "../../src/work.ts";
import { temporaryFolder } from "./folder.ts";

interface Model {
  weight: number;
}

/** A study with one model and one measurement of it, that counts what it makes. */
function example(made: string[] = []) {
  const base = async (study: Study, given: object = { steps: 10 }): Promise<Made<Model>> =>
    drained(
      study.model<Model>("base", {
        given,
        async *make(folder) {
          made.push("base");
          await writeFile(join(folder, "checkpoint"), "half");
          yield { type: "progress", stage: "training", done: 1, total: 1 };
          return { weight: 0.5 };
        },
        save: (path, model) => writeFile(path, JSON.stringify(model)),
        load: async (path) => JSON.parse(await readFile(path, "utf8")) as Model,
      }),
    );
  const dice = async (study: Study, from: Made<Model>, given: object = {}): Promise<Made<number>> =>
    drained(
      study.measure("dice on lesions", {
        given,
        from: [from],
        measure: async () => {
          made.push("dice");
          return from.value.weight + 0.25;
        },
      }),
    );
  return { made, base, dice };
}

const files = async (folder: string, ending: string): Promise<string[]> =>
  (await readdir(folder)).filter((name) => name.endsWith(ending)).sort();

describe("a study", () => {
  it("makes everything once: a second run makes nothing and finds the same", async () => {
    const folder = await temporaryFolder();
    const { made, base, dice } = example();
    const run = async () => {
      const study = await openStudy(folder, { version: 1 });
      const found = await dice(study, await base(study));
      return { found, used: study.used };
    };
    const first = await run();
    expect(made).toEqual(["base", "dice"]);
    expect(first.found.value).toBe(0.75);
    expect(await run()).toEqual(first);
    expect(made).toEqual(["base", "dice"]);
  });

  it("names files by what they are and by a fingerprint of all that decides them", async () => {
    const folder = await temporaryFolder();
    const { base, dice } = example();
    const study = await openStudy(folder, { version: 1 });
    const model = await base(study);
    await dice(study, model);
    expect(await files(folder, ".safetensors")).toEqual([`base-${model.id}.safetensors`]);
    expect((await files(folder, ".json")).map((name) => name.replace(/-[0-9a-f]{12}\.json$/, ""))).toEqual([
      "base",
      "dice-on-lesions",
    ]);
    expect(await readFile(join(folder, `base-${model.id}-run`, "checkpoint"), "utf8")).toBe("half");
  });

  it.each([
    ["settings", (study: Study) => ({ study, given: { steps: 11 } })],
    ["the version", async (_: Study, folder: string) => ({ study: await openStudy(folder, { version: 2 }) })],
  ])("makes the model and what is measured of it anew with another value of %s", async (_, changed) => {
    const folder = await temporaryFolder();
    const { made, base, dice } = example();
    const study = await openStudy(folder, { version: 1 });
    await dice(study, await base(study));
    const other = (await changed(study, folder)) as { study: Study; given?: object };
    await dice(other.study, await base(other.study, other.given));
    expect(made).toEqual(["base", "dice", "base", "dice"]);
  });

  it("measures anew with other settings of the measurement, and keeps the model", async () => {
    const folder = await temporaryFolder();
    const { made, base, dice } = example();
    const study = await openStudy(folder, { version: 1 });
    const model = await base(study);
    await dice(study, model, { seeds: 3 });
    await dice(study, model, { seeds: 7 });
    expect(made).toEqual(["base", "dice", "dice"]);
    expect(study.used.map(({ name }) => name)).toEqual(["base", "dice on lesions", "dice on lesions"]);
  });

  it.each([
    ["cut off", (text: string) => text.slice(0, text.length / 2)],
    ["empty", () => ""],
    ["changed in one digit", (text: string) => text.replace("0.75", "0.85")],
  ])("measures anew, and says so, when its file is %s", async (_, damage) => {
    const folder = await temporaryFolder();
    const { made, base, dice } = example();
    const study = await openStudy(folder, { version: 1 });
    const model = await base(study);
    const { id } = await dice(study, model);
    const path = join(folder, `dice-on-lesions-${id}.json`);
    await writeFile(path, damage(await readFile(path, "utf8")));
    const events: WorkEvent[] = [];
    const again = study.measure("dice on lesions", {
      from: [model],
      measure: async () => {
        made.push("dice again");
        return 0.75;
      },
    });
    const { value } = await drained(again, (event) => events.push(event));
    expect(value).toBe(0.75);
    expect(made).toEqual(["base", "dice", "dice again"]);
    expect(events).toContainEqual({ type: "warning", text: `dice-on-lesions-${id}: damaged, and made anew` });
  });

  it.each(["deleted", "changed"])("trains anew when the file of the model was %s", async (what) => {
    const folder = await temporaryFolder();
    const { made, base } = example();
    const study = await openStudy(folder, { version: 1 });
    const { id } = await base(study);
    const path = join(folder, `base-${id}.safetensors`);
    if (what === "deleted") await rm(path);
    else await writeFile(path, '{"weight":0.6}');
    expect((await base(study)).value).toEqual({ weight: 0.5 });
    expect(made).toEqual(["base", "base"]);
  });

  it("leaves nothing behind when making fails, and tries again", async () => {
    const folder = await temporaryFolder();
    const study = await openStudy(folder, { version: 1 });
    const measure = (f: () => Promise<number>) => drained(study.measure("m", { measure: f }));
    await expect(measure(() => Promise.reject(new RangeError("no")))).rejects.toThrow("no");
    expect(await files(folder, ".json")).toEqual([]);
    expect((await measure(async () => 3)).value).toBe(3);
  });

  it("keeps numbers that JSON does not know, and refuses what it cannot keep", async () => {
    const folder = await temporaryFolder();
    const study = await openStudy(folder, { version: 1 });
    const value = { psnr: Number.POSITIVE_INFINITY, list: [Number.NaN, -0.5], none: null };
    for (let run = 0; run < 2; run++)
      expect((await drained(study.measure("m", { measure: async () => value }))).value).toEqual(value);
    const bad = study.measure<unknown>("maps", { measure: async () => ({ map: new Map() }) });
    await expect(drained(bad)).rejects.toThrow(/maps\.map cannot be kept/);
  });

  it("hands on what a measurement tells, when it is work itself", async () => {
    const study = await openStudy(await temporaryFolder(), { version: 1 });
    const events: WorkEvent[] = [];
    const work = study.measure("search", {
      async *measure() {
        yield { type: "metrics", stage: "search", step: 1, values: { loss: 2 } };
        return 5;
      },
    });
    expect((await drained(work, (event) => events.push(event))).value).toBe(5);
    expect(events).toContainEqual({ type: "metrics", stage: "search", step: 1, values: { loss: 2 } });
  });
});

describe("several processes", () => {
  it("share a list without gap or overlap, and a run without shard finds everything", async () => {
    const folder = await temporaryFolder();
    const made: string[] = [];
    const items = ["a", "b", "c", "d", "e"];
    const run = async (shard?: string) => {
      const study = await openStudy(folder, { version: 1, shard });
      for (const item of study.share(items))
        await drained(
          study.measure(item, {
            measure: async () => {
              made.push(item);
              return item;
            },
          }),
        );
      return study;
    };
    const [first] = await Promise.all([run("1/2"), run("2/2")]);
    expect(first.partial).toBe(true);
    expect([...made].sort()).toEqual(items);
    const whole = await run();
    expect(whole.partial).toBe(false);
    expect(made).toHaveLength(5);
    expect(whole.used).toHaveLength(5);
  });

  it("make a cell that both need once: the second waits for the first", async () => {
    const folder = await temporaryFolder();
    const studies = await Promise.all([1, 2].map(() => openStudy(folder, { version: 1 })));
    let finish = (): void => {};
    let count = 0;
    const slow = async (): Promise<number> => {
      count++;
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      return 7;
    };
    const events: WorkEvent[] = [];
    const see = (event: WorkEvent): void => {
      events.push(event);
      if (event.type === "message" && event.text.includes("waiting")) finish(); // only now is the first done
    };
    const both = await Promise.all(studies.map((s) => drained(s.measure("shared", { measure: slow }), see)));
    expect(both.map(({ value }) => value)).toEqual([7, 7]);
    expect(count).toBe(1);
    expect(events.some((event) => event.type === "message")).toBe(true);
  });

  it("are refused a shard or a version that is none", async () => {
    const folder = await temporaryFolder();
    await expect(openStudy(folder, { version: 1, shard: "3/2" })).rejects.toThrow(/1 <= I <= N/);
    await expect(openStudy(folder, { version: 0 })).rejects.toThrow(/version from 1 up/);
  });
});

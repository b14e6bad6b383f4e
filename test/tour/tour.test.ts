import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AbortError, ArgumentError } from "../../src/errors.ts";
import { decodePicture, type Picture } from "../../src/io/index.ts";
import { lineChart } from "../../src/report/index.ts";
import type { Tour, TourResult } from "../../src/systems/tour.ts";
import {
  beats,
  qualityText,
  runTour,
  type Stop,
  type TourOptions,
  type TourReport,
  type TourUpdate,
  tourSummary,
  writeTour,
} from "../../src/tour/index.ts";
import { sheet } from "../../src/tour/sheet.ts";
import { during, type WorkEvent } from "../../src/work.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tour-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const plain = (value: number, size = 3): Picture => ({
  width: size,
  height: size,
  channels: 1,
  data: new Uint8Array(size * size).fill(value),
});

const EVENTS: readonly WorkEvent[] = [
  { type: "progress", stage: "at it", done: 1, total: 2 },
  { type: "warning", text: "look <out>" },
  {
    type: "figure",
    name: "squares",
    caption: 'a "figure" with <b>marks</b>',
    pictures: [0, 50, 100, 150].map((v) => plain(v)),
    columns: ["left", "right & right"],
    rows: ["up", "down"],
    scale: 2,
  },
  { type: "chart", name: "line", caption: "a line", svg: lineChart([{ name: "y", x: [1, 2], y: [3, 4] }]) },
  {
    type: "table",
    title: "a table",
    table: {
      columns: ["what", "much"],
      rows: [
        ["it", 0.25],
        ["<that>", null],
      ],
    },
  },
];

const RESULT: TourResult = {
  did: "did it",
  quality: [{ name: "Dice", value: 0.9, better: "higher", baseline: { name: "guess", value: 0.5 } }],
};

async function* works(): AsyncGenerator<WorkEvent, TourResult> {
  yield* EVENTS;
  return RESULT;
}

const stop = (name: string, tour: Partial<Tour> = {}): Stop => ({
  name,
  title: `The ${name}`,
  about: "It is what it is.",
  claim: "It works.",
  tour: { about: "does it", files: [], next: [`tweedie run ${name}`], run: works, ...tour },
});

async function take(stops: readonly Stop[], options: Partial<TourOptions> = {}) {
  const updates: TourUpdate[] = [];
  const run = runTour({ stops, seed: 3, ...options });
  for (;;) {
    const { done, value } = await run.next();
    if (done) return { updates, report: value as TourReport };
    updates.push(value);
  }
}

describe("the tour", () => {
  it("visits every stop, though one fails and of one a file is missing", async () => {
    const broken = stop("broken", {
      async *run() {
        yield EVENTS[0]!;
        throw new ArgumentError("the weights are no weights");
      },
    });
    const absent = stop("absent", { files: ["checkpoints/none.safetensors"] });
    const { report } = await take([broken, absent, stop("good")], { root: folder });
    expect(report.summary.systems).toMatchObject([
      { name: "broken", status: "failed", error: "the weights are no weights" },
      { name: "absent", status: "skipped", missing: ["checkpoints/none.safetensors"] },
      { name: "good", status: "done", did: "did it", warnings: ["look <out>"], quality: RESULT.quality },
    ]);
  });

  it("counts a number that is none as a failure", async () => {
    const { report } = await take([
      stop("odd", {
        // biome-ignore lint/correctness/useYield: nothing to say before the end
        async *run() {
          return { did: "nothing", quality: [{ name: "Dice", value: Number.NaN, better: "higher" }] };
        },
      }),
    ]);
    expect(report.summary.systems[0]).toMatchObject({
      status: "failed",
      error: expect.stringMatching(/Dice is NaN/),
    });
  });

  it("gives seed, threads and signal to each, and reports its progress", async () => {
    const seen: unknown[] = [];
    const { signal } = new AbortController();
    const one = stop("one", {
      run(context) {
        seen.push(context);
        return works();
      },
    });
    const { updates } = await take([one], { threads: 1, signal });
    expect(seen).toEqual([{ seed: 3, threads: 1, signal }]);
    expect(updates.map(({ type }) => type)).toEqual(["begin", "progress", "end"]);
    expect(updates[1]).toMatchObject({ stage: "at it", done: 1, total: 2 });
  });

  it("ends when it is stopped, and frees what the system holds", async () => {
    const controller = new AbortController();
    let freed = false;
    const slow = stop("slow", {
      async *run() {
        try {
          for (;;) yield EVENTS[0]!;
        } finally {
          freed = true;
        }
      },
    });
    const run = runTour({ stops: [slow, stop("next")], seed: 0, signal: controller.signal });
    await run.next();
    await run.next();
    controller.abort();
    await expect(run.next()).rejects.toThrow(AbortError);
    expect(freed).toBe(true);
  });
});

describe("the folder of a tour", () => {
  it("has pictures, a summary that keeps to its schema, and nothing half written", async () => {
    const { report } = await take([stop("one")]);
    await writeTour(join(folder, "deep", "tour"), report);
    const names = await readdir(join(folder, "deep", "tour"));
    expect(names.sort()).toEqual(["index.html", "one-line.svg", "one-squares.png", "summary.json"]);
    const text = await readFile(join(folder, "deep", "tour", "summary.json"), "utf8");
    const summary = tourSummary.parse(JSON.parse(text));
    expect(summary.seed).toBe(3);
    expect(summary.peakMemoryBytes).toBeGreaterThan(2 ** 20);
    expect(summary.systems[0]).toMatchObject({ files: ["one-squares.png", "one-line.svg"] });
    const png = await readFile(join(folder, "deep", "tour", "one-squares.png"));
    const picture = await decodePicture(png, { colour: "rgba" });
    expect([picture.width, picture.height]).toEqual([16, 16]);
  });

  it("has a page that loads nothing and shows all there is", async () => {
    const failed = stop("bad", {
      // biome-ignore lint/correctness/useYield: it fails at once
      async *run() {
        throw new Error("a <script> of an error");
      },
    });
    const { report } = await take([stop("one"), failed]);
    const page = await readFile(await writeTour(folder, report), "utf8");
    const withoutNames = page
      .replaceAll('xmlns="http://www.w3.org/2000/svg"', "")
      .replace('<link rel="icon" href="data:,">', ""); // else browsers ask for one
    expect(withoutNames).not.toMatch(/https?:\/\/|url\(|<script|<link|@import|<iframe/);
    expect([...page.matchAll(/ src="([^"]{0,22})/g)].map(([, src]) => src)).toEqual([
      "data:image/png;base64,",
    ]);
    expect(page).toContain("default-src 'none'");
    for (const text of [
      "The one",
      "It works.",
      "Did it.",
      "0.9",
      "guess: 0.5",
      "right &#38; right",
      "a line",
    ])
      expect(page).toContain(text);
    expect(page).toContain("&#60;b&#62;marks");
    expect(page).toContain("a &#60;script&#62; of an error");
    expect(page).toContain("npx tweedie run one");
    expect(page).toContain("prefers-color-scheme: dark");
  });
});

describe("a sheet of pictures", () => {
  it("is transparent between them and where one is missing", () => {
    const pictures = [10, 20, 30].map((v) => plain(v, 2));
    const { width, height, channels, data } = sheet({
      name: "three",
      caption: "",
      pictures,
      columns: 2,
    });
    expect([width, height, channels]).toEqual([8, 8, 4]);
    const at = (x: number, y: number): number[] => [
      ...data.slice(4 * (y * width + x), 4 * (y * width + x) + 4),
    ];
    expect(at(0, 0)).toEqual([10, 10, 10, 255]);
    expect(at(7, 1)).toEqual([20, 20, 20, 255]);
    expect(at(1, 6)).toEqual([30, 30, 30, 255]);
    expect(at(3, 0)[3]).toBe(0);
    expect(at(0, 3)[3]).toBe(0);
    expect(at(7, 7)[3]).toBe(0);
  });

  it("refuses pictures of several sizes", () => {
    const pictures = [plain(0, 2), plain(0, 3)];
    expect(() => sheet({ name: "f", caption: "", pictures, columns: 2 })).toThrow(ArgumentError);
  });
});

describe("numbers", () => {
  it("know which side of their baseline is better", () => {
    const against = (value: number, better: "higher" | "lower") =>
      beats({ name: "q", value, better, baseline: { name: "b", value: 1 } });
    expect([against(2, "higher"), against(2, "lower"), against(0, "lower")]).toEqual([true, false, true]);
    expect(against(1, "higher")).toBeUndefined();
    expect(beats({ name: "q", value: 1, better: "higher" })).toBeUndefined();
  });

  it("are written with their unit and what they are compared with", () => {
    const text = qualityText({
      name: "likeness",
      value: 31.2345,
      unit: "dB",
      better: "higher",
      baseline: { name: "noise", value: -2.5 },
    });
    expect(text.replaceAll("\u00a0", " ")).toBe("likeness 31.2 dB (noise: −2.5 dB)");
  });
});

describe("work that is watched", () => {
  it("reports while it goes on, and gives what comes of it", async () => {
    let release: (value: number) => void = () => undefined;
    const work = new Promise<number>((resolve) => {
      release = resolve;
    });
    const run = during(work, () => "still", 1);
    expect(await run.next()).toEqual({ done: false, value: "still" });
    release(7);
    let last = await run.next();
    while (!last.done) last = await run.next();
    expect(last.value).toBe(7);
  });

  it("fails as it does", async () => {
    const run = during(Promise.reject(new ArgumentError("no")), () => "still", 1);
    await expect(run.next()).rejects.toThrow(ArgumentError);
  });
});

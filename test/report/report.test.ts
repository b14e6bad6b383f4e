import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { encodePicture, type Picture } from "../../src/io/index.ts";
import {
  depthPicture,
  grid,
  heatMap,
  LABEL_COLOURS,
  lineChart,
  openHistory,
  overlay,
  parseColour,
  readHistory,
  reportHtml,
  tableMarkdown,
  toRgb,
  writeRunReport,
} from "../../src/report/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const at = useTemporaryFolder();
const gray = (width: number, height: number, ...data: number[]): Picture => ({
  width,
  height,
  channels: 1,
  data: Uint8Array.from(data),
});
const pixel = (p: Picture, x: number, y: number): number[] => [
  ...p.data.subarray(3 * (y * p.width + x), 3 * (y * p.width + x) + 3),
];

describe("pixels", () => {
  test("any picture becomes 8-bit colours", () => {
    expect(pixel(toRgb(gray(1, 1, 7)), 0, 0)).toEqual([7, 7, 7]);
    expect(
      pixel(toRgb({ width: 1, height: 1, channels: 4, data: Uint16Array.of(65535, 257, 0, 9) }), 0, 0),
    ).toEqual([255, 1, 0]);
    expect(pixel(toRgb({ width: 1, height: 1, channels: 1, data: Float32Array.of(2) }), 0, 0)).toEqual([
      255, 255, 255,
    ]);
  });
  test("a grid puts each picture in its cell, scaled, with gaps", () => {
    const g = grid([gray(1, 1, 10), gray(1, 1, 20), gray(1, 1, 30)], { columns: 2, scale: 2, gap: 1 });
    expect([g.width, g.height]).toEqual([7, 7]);
    expect([pixel(g, 1, 1)[0], pixel(g, 2, 2)[0], pixel(g, 4, 1)[0], pixel(g, 1, 4)[0]]).toEqual([
      10, 10, 20, 30,
    ]);
    expect([pixel(g, 0, 0)[0], pixel(g, 3, 1)[0], pixel(g, 5, 5)[0]]).toEqual([255, 255, 255]);
    expect(() => grid([])).toThrow(ArgumentError);
  });
  test("an overlay colours labels and leaves the rest", () => {
    const o = overlay(gray(2, 1, 100, 100), [0, 1], { opacity: 0.5 });
    expect(pixel(o, 0, 0)).toEqual([100, 100, 100]);
    expect(pixel(o, 1, 0)).toEqual(LABEL_COLOURS[0]!.map((c) => Math.round((100 + c) / 2)));
    expect(() => overlay(gray(2, 1, 0, 0), [1])).toThrow(ShapeError);
  });
  test("a heat map runs over the finite range and marks what is missing", () => {
    const h = heatMap([0, 1, Number.NaN, 5], { width: 2, height: 2, range: [0, 1] });
    expect(pixel(h, 0, 0)).toEqual(parseColour("#440154"));
    expect(pixel(h, 1, 0)).toEqual(parseColour("#fde725"));
    expect(pixel(h, 1, 1)).toEqual(pixel(h, 1, 0));
    expect(pixel(h, 0, 1)).toEqual([128, 128, 128]);
    expect(pixel(depthPicture([1, 0], 2, 1), 1, 0)).toEqual([128, 128, 128]);
    expect(new Set(heatMap([3, 3], { width: 2, height: 1 }).data).size).toBeLessThanOrEqual(3);
    expect(() => heatMap([1], { width: 2, height: 1 })).toThrow(ShapeError);
  });
});

describe("charts", () => {
  test("points lie where their values say, and gaps break the line", () => {
    const svg = lineChart([{ name: "loss", x: [0, 1, 2, 3], y: [0, 1, Number.NaN, 1] }], { title: "a < b" });
    expect(svg).toContain("a &#60; b");
    expect(svg.match(/<circle/g)).toHaveLength(3);
    // From the lower left to the upper right corner of the plot; the last point stands alone after the gap.
    expect(svg).toMatch(/d="M62,280L249.3,28M624,28Z"/);
  });
  test("logarithmic axes leave out what is not positive; nothing to draw is an error", () => {
    const svg = lineChart([{ name: "a", x: [1, 10, 100], y: [1, -1, 100] }], { logX: true, logY: true });
    expect(svg.match(/<circle/g)).toHaveLength(2);
    expect(() => lineChart([{ name: "a", x: [1], y: [Number.NaN] }])).toThrow(
      /no finite values on the y axis/,
    );
    expect(() => lineChart([{ name: "a", x: [1], y: [-1] }], { logY: true })).toThrow(/no positive/);
    expect(lineChart([{ name: "a", x: [1], y: [5] }])).toContain("<circle");
  });
});

describe("reports", () => {
  test("everything is inside, and text cannot become markup", async () => {
    const html = await reportHtml({
      title: "<script>alert(1)</script>",
      sections: [
        { heading: "A & B" },
        { text: '"quoted"' },
        {
          table: {
            columns: ["name", "value"],
            rows: [
              ["<b>", 0.123456789],
              ["none", null],
            ],
          },
        },
        { chart: lineChart([{ name: "x", x: [0, 1], y: [0, 1] }]) },
        { picture: gray(2, 2, 0, 1, 2, 3), caption: "four <pixels>" },
      ],
    });
    expect(html).not.toMatch(/<script|<b>|<pixels>/);
    expect(html).not.toMatch(/(src|href)="(?!data:)/);
    expect(html).toContain("0.12346");
    expect(html).toContain("data:image/png;base64,");
  });
  test("a table as Markdown keeps its cells", () => {
    expect(
      tableMarkdown({
        columns: ["a", "b"],
        rows: [
          ["x|y", 1.23456789],
          ["z", null],
        ],
      }),
    ).toBe("| a | b |\n| --- | --: |\n| x\\|y | 1.2346 |\n| z | – |");
  });
});

describe("the history of a run", () => {
  test("goes on after a kill: a cut last line and lost steps are removed", async () => {
    const history = await openHistory(at());
    for (const step of [1, 2, 3]) await history.append({ step, loss: 1 / step });
    appendFileSync(at("history.jsonl"), '{"step":4,"lo');
    expect((await readHistory(at())).map((e) => e.step)).toEqual([1, 2, 3]);
    const resumed = await openHistory(at(), 2);
    await resumed.append({ step: 3, loss: 0.25 });
    expect(await readHistory(at())).toEqual([
      { step: 1, loss: 1 },
      { step: 2, loss: 0.5 },
      { step: 3, loss: 0.25 },
    ]);
    writeFileSync(at("history.jsonl"), "oops\n{}\n");
    await expect(readHistory(at())).rejects.toThrow(/line 1 is not JSON/);
  });
  test("becomes a page with its settings, curves and newest samples", async () => {
    await writeRunReport(at());
    expect(readFileSync(at("report.html"), "utf8")).toContain("No steps yet");
    const history = await openHistory(at());
    for (let step = 1; step <= 100; step++) await history.append({ step, loss: 100 / step ** 2, lr: null });
    mkdirSync(at("samples"));
    writeFileSync(at("samples", "step-000050.png"), await encodePicture(gray(1, 1, 0)));
    await writeRunReport(at(), { title: "A run", settings: { batch: 4, name: "x" } });
    const html = readFileSync(at("report.html"), "utf8");
    for (const part of ["A run", "100 steps", "batch", "smoothed", "step-000050", "<svg"])
      expect(html).toContain(part);
  });
});

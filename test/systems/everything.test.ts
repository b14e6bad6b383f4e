import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/run.ts";
import { actionCommand } from "../../src/cli/systems/command.ts";
import { decodePicture, encodePicture } from "../../src/io/index.ts";
import { readChoices, readControls } from "../../src/systems/inputs.ts";
import { everything } from "./everything.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-everything-"));
  const data = new Uint8Array(48).map((_, i) => 5 * i);
  const png = await encodePicture({ width: 4, height: 4, channels: 3, data });
  for (const name of ["a.png", "b.png", "c.png"]) await writeFile(join(folder, name), png);
  await writeFile(join(folder, "scan.nii"), new Uint8Array(400));
  await writeFile(join(folder, "notes.bin"), new Uint8Array(7));
  await writeFile(join(folder, "votes.csv"), "chosen,rejected\na.png,b.png\nc.png,a.png\n");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const command = () => actionCommand("run", "Runs.", [everything]);

const given = (out: string): string[] => [
  ...["everything", "--image", join(folder, "a.png"), "--others", join(folder, "b.png")],
  ...["--others", join(folder, "c.png"), "--scan", join(folder, "scan.nii"), "--prompt", "two\nlines"],
  ...["--notes", join(folder, "notes.bin"), "--votes", join(folder, "votes.csv")],
  ...["--controls", `depth=${join(folder, "b.png")}`, "--controls", `edges=${join(folder, "c.png")}`],
  ...["--camera", "swing", "--views", "5", "--style", "loud", "--out", out],
];

async function run(args: readonly string[]): Promise<{ code: number; errors: string }> {
  const errors: string[] = [];
  const code = await runCli(command(), args, { out: () => undefined, error: (line) => errors.push(line) });
  return { code, errors: errors.join("\n") };
}

describe("a system with every kind of input and result, on the command line", () => {
  it("is given all inputs by options, and leaves every result as a file", async () => {
    const out = join(folder, "out");
    expect(await run(given(out))).toEqual({ code: 0, errors: "" });
    const text = (name: string): Promise<string> => readFile(join(out, name), "utf8");
    expect(await text("what-was-given.csv")).toBe(
      [
        "what,value",
        'prompt,"two\nlines"',
        "style,loud",
        "pictures beside it,2",
        "controls,depth edges",
        "choices,2",
        "cameras,5",
        `bytes of the picture,${(await readFile(join(folder, "a.png"))).length}`,
        "bytes of the volume,400",
        "bytes of the file,7\n",
      ].join("\n"),
    );
    expect(await text("curves.csv")).toBe(
      "stage,step,measure,value\nlooking,1,loss,0.5\nlooking,2,loss,0.25\n",
    );
    expect(await text("chart.svg")).toContain("<svg");
    expect(await text("parts/weights.csv")).toBe("part,weight\nground,0.5\nthing,1\n");
    const mean = async (name: string): Promise<number> => {
      const { data } = await decodePicture(await readFile(join(out, name)));
      return Array.from(data).reduce((sum, v) => sum + v, 0) / data.length;
    };
    expect(await mean("picture.png")).toBe(117.5);
    expect(await mean("restored/001-before.png")).toBe(0);
    expect(await mean("restored/002-after.png")).toBe(200);
    expect(await mean("parts/002-thing.png")).toBe(60);
    expect(await mean("mask/002-mask.png")).toBe(127.5);
    const gif = async (name: string) => (await sharp(join(out, name), { animated: true }).metadata()).pages;
    expect([await gif("film.gif"), await gif("scene.gif")]).toEqual([3, 5]);
    const { delay } = await sharp(join(out, "film.gif"), { animated: true }).metadata();
    expect(delay).toEqual([200, 200, 200]);
  });

  it.each([
    [["--controls", "mask=x.png"], 'no type "mask"; known are edges, depth'],
    [["--controls", "x.png"], "expected TYPE=FILE"],
    [["--camera", "nowhere.json"], "nowhere.json"],
    [["--views", "0"], "--views needs a whole number from 1"],
  ])("refuses %j by name", async (more, message) => {
    const args = given(join(folder, "bad"));
    const at = args.indexOf(more[0]!);
    const without = more[0] === "--controls" ? args : [...args.slice(0, at), ...args.slice(at + 2)];
    const { code, errors } = await run([...without, ...more]);
    expect([code, errors]).toEqual([2, expect.stringContaining(message)]);
  });

  it("names an input that must be given", async () => {
    const args = given(join(folder, "bad"));
    const at = args.indexOf("--scan");
    const { code, errors } = await run([...args.slice(0, at), ...args.slice(at + 2)]);
    expect([code, errors]).toEqual([2, expect.stringContaining("--scan is needed: volume")]);
  });
});

describe("what people bring", () => {
  it("reads controls of repeated types in their order, with = in the path", () => {
    expect(readControls(["edges=a=b.png", "edges=c.png"], ["edges"])).toEqual([
      { type: "edges", path: "a=b.png" },
      { type: "edges", path: "c.png" },
    ]);
  });

  it("reads choices relative to their table, and refuses rows without two pictures", async () => {
    expect(await readChoices(join(folder, "votes.csv"))).toEqual([
      { chosen: join(folder, "a.png"), rejected: join(folder, "b.png") },
      { chosen: join(folder, "c.png"), rejected: join(folder, "a.png") },
    ]);
    await writeFile(join(folder, "half.csv"), "chosen,rejected\na.png,\n");
    await expect(readChoices(join(folder, "half.csv"))).rejects.toThrow(
      "row 1 lacks one of its two pictures",
    );
    await writeFile(join(folder, "none.csv"), "chosen,rejected\n");
    await expect(readChoices(join(folder, "none.csv"))).rejects.toThrow("no pairs");
  });
});

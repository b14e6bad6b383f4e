import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { drawShapeScene, mirrorScene, renderShapes } from "../../../src/data/index.ts";
import { createDraw } from "../../../src/data/random-draws.ts";
import { encodePicture } from "../../../src/io/index.ts";
import { PAIRS } from "../../../src/systems/anycontrol/arms.ts";
import {
  choose,
  dilated,
  exactMap,
  guideOf,
  unaligned,
  unalignedPair,
} from "../../../src/systems/anycontrol/data.ts";
import { readConditions, squashed } from "../../../src/systems/anycontrol/files.ts";
import { testConditions, testTypes } from "../../../src/systems/anycontrol/measure.ts";
import { readStrengths } from "../../../src/systems/anycontrol/run.ts";
import { controlScores } from "../../../src/systems/anycontrol/scores.ts";
import { taskWords } from "../../../src/systems/anycontrol/types.ts";
import { tinyBase } from "./tiny.ts";

const scene = (i: number) => unaligned(renderShapes(drawShapeScene(3, i, 2)));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-controls-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("unaligned pairs", () => {
  it("show a place without its near thing, and that thing alone", () => {
    const one = scene(0);
    const nearest = 1 + one.full.scene.shapes.length;
    expect(Array.from(one.background.instances)).not.toContain(nearest);
    one.full.instances.forEach((v, i) => {
      if (v === nearest) expect(one.region[i]).toBe(1);
    });
    for (let k = 0; k < 40; k++) {
      const [behind, near] = unalignedPair(createDraw(1, k, 0, "test"), one);
      expect(near!.type).not.toBe(behind!.type);
      expect(behind!.map).toEqual(exactMap(one.background, behind!.type));
      near!.map.forEach((v, i) => {
        if (one.region[Math.floor(i / 3)] === 0) expect(v).toBe(0);
      });
    }
  });

  it("take the pose of a person more often than anything else", () => {
    let i = 0;
    while (scene(i).full.scene.shapes.at(-1)!.name !== "person") i++;
    const one = scene(i);
    const types = Array.from(
      { length: 200 },
      (_, k) => unalignedPair(createDraw(2, k, 0, "test"), one)[1]!.type,
    );
    expect(types.filter((type) => type === "pose").length).toBeGreaterThan(140);
  });

  it("grow by whole pixels each way", () => {
    const mask = new Float32Array(49);
    mask[24] = 1;
    const grown = dilated(mask, 7, 1);
    expect(grown.reduce((a, b) => a + b, 0)).toBe(9);
    expect(grown[16]).toBe(1);
    expect(dilated([1, 0, 0, 0], 2, 1)).toEqual(Float32Array.of(1, 1, 1, 1));
  });
});

describe("training samples", () => {
  it("drop as the settings say", () => {
    const { full } = scene(1);
    const many = (settings: object) =>
      Array.from({ length: 400 }, (_, k) =>
        choose(createDraw(4, k, 0, "test"), full, { ...PAIRS, ...settings }),
      );
    const lone = many({}).filter(({ conditions }) => conditions.length === 1).length / 400;
    expect(lone).toBeGreaterThan(0.09);
    expect(lone).toBeLessThan(0.22);
    expect(
      many({ dropAll: 1 }).every(({ conditions, caption }) => conditions.length === 0 && caption === ""),
    ).toBe(true);
    expect(many({ dropText: 0, dropAll: 0 }).every(({ caption }) => caption === full.caption)).toBe(true);
    expect(
      many({ only: "depth" }).every(
        ({ conditions }) => conditions.length === 1 && conditions[0]!.type === "depth",
      ),
    ).toBe(true);
    expect(new Set(many({ all: true }).map(({ conditions }) => conditions.length))).toEqual(
      new Set([0, 1, 2, 3, 4]),
    );
  });

  it("mirror joints and things alike", () => {
    const one = drawShapeScene(3, 5, 2);
    const mirrored = renderShapes(mirrorScene(one)).instances;
    const plain = renderShapes(one).instances;
    let same = 0;
    for (let i = 0; i < 1024; i++)
      same += Number(mirrored[i] === plain[32 * Math.floor(i / 32) + 31 - (i % 32)]);
    expect(same).toBeGreaterThan(980); // silhouettes differ by half a pixel at their borders
  });
});

describe("a guide", () => {
  it("packs conditions or puts them in the place of their type, and words do not tell their order", async () => {
    const base = tinyBase();
    const map = (v: number) => new Float32Array(3 * 32 * 32).fill(v);
    const row = {
      caption: "a red circle",
      conditions: [
        { type: "seg" as const, map: map(1) },
        { type: "edge" as const, map: map(0.5) },
      ],
    };
    const packed = guideOf(base, [row], { size: 32, layout: "packed", most: 3 });
    expect(packed.conditions.shape).toEqual([1, 3, 3, 32, 32]);
    expect(Array.from((await packed.weights.data()) as Float32Array)).toEqual([1, 1, 0]);
    const slots = guideOf(base, [row], { size: 32, layout: "slots", most: 3 });
    expect(Array.from((await slots.weights.data()) as Float32Array)).toEqual([1, 0, 1, 0]);
    const plane = 3 * 1024;
    const values = (await slots.conditions.data()) as Float32Array;
    expect([values[0], values[plane], values[2 * plane]]).toEqual([0, -1, 1]);
    expect(taskWords(["seg", "edge", "seg"])).toBe(taskWords(["edge", "seg"]));
    expect(Array.from((await packed.textMask.data()) as Int32Array).slice(0, 2)).toEqual([1, 1]);
    await base.close();
  });
});

describe("scores", () => {
  const scenes = [0, 1, 2, 3].map(scene);
  const flat = (f: (one: (typeof scenes)[number]) => ArrayLike<number>) =>
    scenes.flatMap((one) => Array.from(f(one)));

  it("are perfect for the truth, and tell a missing thing from a wrong background", () => {
    const truth = controlScores(
      {
        classes: Int32Array.from(flat(({ full }) => full.classes)),
        depth: Float32Array.from(flat(({ full }) => full.depth)),
      },
      scenes,
    );
    expect(truth.foreground).toEqual([1, 1, 1, 1]);
    expect(truth.background.every((v) => v > 0.999)).toBe(true);
    expect(truth.edges).toEqual([1, 1, 1, 1]);
    expect(Math.max(...truth.depth)).toBeLessThan(1e-6);
    const empty = controlScores(
      {
        classes: Int32Array.from(flat(({ background }) => background.classes)),
        depth: new Float32Array(4 * 1024),
      },
      scenes,
    );
    expect(empty.foreground.every((v) => v < 0.2)).toBe(true);
    expect(empty.background.every((v) => v > 0.999)).toBe(true);
    expect(Math.min(...empty.depth)).toBeGreaterThan(0.1);
  });

  it("are asked for with the conditions of the specification", () => {
    for (const [i, one] of scenes.entries()) {
      const [back, fore] = testTypes(one, i);
      expect(["depth", "seg"]).toContain(back);
      expect(fore).toBe(one.full.scene.shapes.at(-1)!.name === "person" ? "pose" : "edge");
      expect(testConditions(one, i, "unaligned").map(({ type }) => type)).toEqual([back, fore]);
      expect(testConditions(one, i, "four").length).toBe(4);
    }
  });
});

describe("conditions from files", () => {
  const write = async (
    name: string,
    width: number,
    height: number,
    value: (i: number) => number,
  ): Promise<string> => {
    const path = join(folder, name);
    const data = Uint8Array.from({ length: width * height }, (_, i) => value(i));
    await writeFile(path, await encodePicture({ width, height, channels: 1, data }));
    return path;
  };

  it("are read with their regions, and what is odd about them is said", async () => {
    const line = await write("line.png", 64, 32, (i) => (i % 64 === 20 ? 255 : 0));
    const flat = await write("flat.png", 32, 32, () => 9);
    const half = await write("half.png", 32, 32, (i) => (i % 32 < 16 ? 255 : 0));
    const [edge, depth, masked] = await readConditions(
      [`edge=${line}`, `depth=${flat}`, `seg=${flat}:${half}`],
      32,
    );
    expect(edge!.map.some((v) => v === 1)).toBe(true); // a line of one pixel survives
    expect(edge!.notes.join()).toMatch(/64 x 32 pixels, squashed/);
    expect(depth!.notes.join()).toMatch(/all pixels are alike/);
    expect([masked!.map[0]! > 0, masked!.map[3 * 20]]).toEqual([true, 0]);
    await expect(readConditions(["smell=a.png"], 32)).rejects.toThrow(
      /no type "smell"; known are edge, depth, seg, pose/,
    );
    await expect(readConditions([`edge=${join(folder, "none.png")}`], 32)).rejects.toThrow(/none\.png/);
  });

  it("keep the colours of classes when they shrink", () => {
    const data = Uint8Array.from(
      { length: 64 * 64 * 3 },
      (_, i) =>
        [
          [10, 20, 30],
          [200, 100, 50],
        ][Math.floor(i / 3) % 64 < 31 ? 0 : 1]![i % 3]!,
    );
    const small = squashed({ width: 64, height: 64, channels: 3, data }, 32, true);
    const colours = new Set(
      Array.from({ length: 1024 }, (_, i) =>
        small
          .slice(3 * i, 3 * i + 3)
          .map((v) => Math.round(255 * v))
          .join(),
      ),
    );
    expect([...colours].sort()).toEqual(["10,20,30", "200,100,50"]);
  });

  it("have strengths by type and for all", () => {
    const conditions = (["edge", "depth"] as const).map((type) => ({ type, map: new Float32Array(0) }));
    expect(readStrengths(["depth=0.8"], conditions)).toEqual([1, 0.8]);
    expect(readStrengths(["0.5", "edge=2"], conditions)).toEqual([1, 0.5]);
    for (const bad of ["depth=3", "depth", "smell=1", "pose=1", "depth=-1"])
      expect(() => readStrengths([bad], conditions)).toThrow(/strength/);
  });
});

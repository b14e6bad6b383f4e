import { describe, expect, test } from "vitest";
import {
  BLOCK_COLOURS,
  captionShapes,
  coverage,
  drawShapeScene,
  encodeCaption,
  floorColour,
  GROUNDS,
  heart,
  LIT_BALL_FACTORS,
  openBlocks,
  openLitBalls,
  openShapes,
  openSprites,
  renderLitBall,
  renderShapes,
  renderSprite,
  SHAPE_COLOURS,
  SHAPES,
  SPRITE_LEVELS,
  square,
  TETROMINOES,
  triangle,
  withoutNearest,
} from "../../../src/data/world/index.ts";
import { ArgumentError } from "../../../src/errors.ts";

describe("shape world", () => {
  test("captions name what is there, in known words", () => {
    for (let i = 0; i < 50; i++) {
      const scene = drawShapeScene(1, i);
      const caption = captionShapes(scene);
      for (const s of scene.shapes) expect(caption).toContain(`${s.colour} ${s.name}`);
      expect(encodeCaption(caption, 16)).not.toContain(1);
    }
  });
  test("maps agree with each other and with the picture", () => {
    for (let i = 0; i < 20; i++) {
      const s = renderShapes(drawShapeScene(2, i));
      s.instances.forEach((instance, at) => {
        if (instance >= 2) {
          const shape = s.scene.shapes[instance - 2]!;
          expect(s.classes[at]).toBe(2 + SHAPES.indexOf(shape.name));
          expect(s.depth[at]).toBeCloseTo(shape.depth, 6);
        } else expect(s.classes[at]).toBe(instance);
      });
      const wall = s.instances.indexOf(0);
      expect([...s.image.subarray(3 * wall, 3 * wall + 3)].map((x) => x.toFixed(4))).toEqual(
        GROUNDS[s.scene.ground].map((x) => x.toFixed(4)),
      );
    }
  });
  test("only persons have a pose; leaving out the nearest thing uncovers what is behind", () => {
    let persons = 0;
    for (let i = 0; i < 40; i++) {
      const scene = drawShapeScene(3, i, 2);
      const [full, bare] = [renderShapes(scene), renderShapes(withoutNearest(scene))];
      const hasPerson = scene.shapes.some((s) => s.name === "person");
      expect(full.pose.some((x) => x > 0)).toBe(hasPerson);
      if (hasPerson) persons++;
      expect(bare.scene.shapes).toHaveLength(1);
      full.instances.forEach((instance, at) => {
        if (instance < 3) expect(bare.instances[at]).toBe(instance);
      });
    }
    expect(persons).toBeGreaterThan(5);
  });
  test("a scene looks the same at twice the size", () => {
    const scene = drawShapeScene(4, 5);
    const [small, large] = [renderShapes(scene, 32), renderShapes(scene, 64)];
    let gap = 0;
    for (let y = 0; y < 32; y++)
      for (let x = 0; x < 32; x++) {
        const mean = [0, 1, 64, 65].reduce(
          (sum, o) => sum + large.image[3 * (2 * y * 64 + 2 * x + o)]! / 4,
          0,
        );
        gap += Math.abs(mean - small.image[3 * (y * 32 + x)]!) / 1024;
      }
    expect(gap).toBeLessThan(0.01);
    expect(() => renderShapes(scene, 4)).toThrow(ArgumentError);
  });
  test("colours stay apart from grounds and floors", () => {
    const grounds = Object.values(GROUNDS).flatMap((g) => [g, floorColour(g)]);
    for (const c of Object.values(SHAPE_COLOURS))
      for (const g of grounds) expect(Math.hypot(...c.map((x, k) => x - g[k]!))).toBeGreaterThan(0.25);
  });
});

describe("worlds of known factors", () => {
  test("there are 19 tetrominoes of four joined cells", () => {
    expect(TETROMINOES).toHaveLength(19);
    for (const cells of TETROMINOES) {
      expect(cells).toHaveLength(4);
      for (const [x, y] of cells)
        expect(cells.some(([u, v]) => Math.abs(u - x) + Math.abs(v - y) === 1)).toBe(true);
    }
  });
  test("blocks do not overlap, and masks, colours and factors say the same", async () => {
    const set = openBlocks({ seed: 1, count: 30, size: 16, objects: 3 });
    for (let i = 0; i < 30; i++) {
      const { image, masks, factors } = await set.get(i);
      for (const mask of masks) expect(mask.reduce((a, b) => a + b, 0)).toBe(4 * 2 * 2);
      for (let at = 0; at < 256; at++) {
        const owners = masks.flatMap((mask, k) => (mask[at] ? [k] : []));
        expect(owners.length).toBeLessThan(2);
        const colour = owners.length ? BLOCK_COLOURS[factors[4 * owners[0]! + 1]!]! : [0, 0, 0];
        expect([...image.subarray(3 * at, 3 * at + 3)]).toEqual(colour.map((c) => Math.fround(c)));
      }
    }
    expect(() => openBlocks({ seed: 1, count: 1, size: 12 })).toThrow(/multiple of 8/);
    expect(() => openBlocks({ seed: 1, count: 1, objects: 9 })).toThrow(/1 to 6/);
  });
  test("every factor of the lit ball and of the sprites changes the picture; all levels occur", async () => {
    const differs = (render: (f: number[]) => { image: Float32Array }, levels: readonly number[]): void => {
      const base = levels.map((n) => Math.floor(n / 3));
      const image = render(base).image;
      levels.forEach((_, k) => {
        const moved = base.map((v, j) => (j === k ? v + 1 : v));
        expect(render(moved).image).not.toEqual(image);
      });
    };
    differs(renderLitBall, [10, 10, 10, 10, 10]);
    differs(renderSprite, SPRITE_LEVELS);
    const balls = openLitBalls({ seed: 2, count: 200, size: 8 });
    const seen = new Set<string>();
    for (let i = 0; i < 200; i++)
      for (const [k, f] of (await balls.get(i)).factors.entries()) seen.add(`${k}:${f}`);
    expect(seen.size).toBe(LIT_BALL_FACTORS.length * 10);
  });
  test("pictures are within [0, 1] and the same however they are reached", async () => {
    for (const set of [
      openLitBalls({ seed: 3, count: 9 }),
      openSprites({ seed: 3, count: 9, size: 32 }),
      openBlocks({ seed: 3, count: 9 }),
    ]) {
      const first = await set.get(4);
      await set.get(2);
      expect(await set.get(4)).toEqual(first);
      expect(first.image.every((x) => x >= 0 && x <= 1)).toBe(true);
    }
    const shapes = openShapes({ seed: 3, count: 9 });
    expect(await shapes.get(4)).toEqual(await openShapes({ seed: 3, count: 5 }).get(4));
  });
  test("shapes cover their area whatever their turn", () => {
    const areaOf = (shape: Parameters<typeof coverage>[0]): number =>
      coverage(shape, 64, 64).reduce((a, b) => a + b, 0);
    for (const angle of [0, 0.4, 1.1]) {
      expect(areaOf(square(32, 32, 10, angle))).toBeCloseTo(400, -1);
      expect(areaOf(triangle(32, 32, 8, angle))).toBeCloseTo(3 * Math.sqrt(3) * 64, -1);
      expect(areaOf(heart(32, 32, 12, angle)) / areaOf(heart(32, 32, 12))).toBeCloseTo(1, 1);
    }
  });
});

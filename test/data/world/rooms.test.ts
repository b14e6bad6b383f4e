import { describe, expect, test } from "vitest";
import {
  CLASSES,
  captionScene,
  colourAlongRay,
  decodeCaption,
  describeScene,
  drawCameras,
  drawScene,
  encodeCaption,
  openClips,
  openScenes,
  PATHS,
  renderView,
  type Scene,
  type SceneObject,
  type Solid,
  VOCABULARY,
} from "../../../src/data/world/index.ts";
import { ArgumentError } from "../../../src/errors.ts";
import {
  type Camera,
  cameraCentre,
  IDENTITY,
  intrinsicsFromFov,
  project,
  rigidError,
  subVectors,
  unproject,
  type Vector3,
} from "../../../src/geometry/index.ts";

const SEEDS = [0, 1, 2, 3, 4, 5, 6, 7];

/** A scene with one solid in the middle of a plain room, 3 m before a camera at the origin. */
function sceneWith(solid: Solid, yaw = 0): Scene {
  const plain = { pattern: "solid", period: 1, colours: [[1, 1, 1], [1, 1, 1]] } as const; // biome-ignore format: one row
  const object: SceneObject = {
    className: "sphere",
    colour: "red",
    centre: [0, 0, 3],
    yaw,
    solids: [solid],
    texture: plain,
    footprint: 0.5,
  };
  const room = {
    half: [4, 4, 6] as Vector3,
    faces: Array(6).fill(plain),
    wallColour: "white",
    floorColour: "white",
  } as const;
  return { room, objects: [object], light: { kind: "flat" } };
}
const camera: Camera = { ...intrinsicsFromFov(65, 65, 60), worldToCamera: IDENTITY };

describe("one seed is one scene", () => {
  test("whatever is drawn before, and differing from its neighbours", () => {
    const alone = drawScene(4, 17);
    for (const i of SEEDS) drawScene(4, i);
    expect(drawScene(4, 17)).toEqual(alone);
    expect(new Set(SEEDS.map((i) => JSON.stringify(drawScene(4, i)))).size).toBe(SEEDS.length);
    expect(drawScene(5, 17)).not.toEqual(alone);
  });
  test("objects stand on the floor, inside, apart from each other, each in a colour of its own", () => {
    for (let i = 0; i < 60; i++) {
      const { objects, room } = drawScene(1, i, { figure: 0.5 });
      expect(objects.length).toBeGreaterThanOrEqual(2);
      for (const [k, o] of objects.entries()) {
        expect(Math.abs(o.centre[0]) + o.footprint).toBeLessThan(room.half[0]);
        expect(Math.abs(o.centre[2]) + o.footprint).toBeLessThan(room.half[2]);
        for (const other of objects.slice(k + 1))
          expect(Math.hypot(o.centre[0] - other.centre[0], o.centre[2] - other.centre[2])).toBeGreaterThan(
            o.footprint + other.footprint,
          );
      }
      const colours = objects.filter((o) => o.className !== "person").map((o) => o.colour);
      expect(new Set(colours).size).toBe(colours.length);
    }
  });
  test("captions are true, of the known words, and survive their numbers", () => {
    for (let i = 0; i < 60; i++) {
      const scene = drawScene(2, i, { figure: 0.5 });
      for (const caption of [captionScene(scene, 2, i, "walk"), describeScene(scene)]) {
        const numbers = encodeCaption(caption, 48);
        expect(numbers).not.toContain(1);
        expect(decodeCaption(numbers)).toBe(caption);
        for (const [, colour, thing] of caption.matchAll(
          /an? (\w+) (sphere|cube|tower|cylinder|cone|person)/g,
        ))
          expect(scene.objects.some((o) => o.colour === colour && o.className === thing)).toBe(true);
        expect(caption).not.toMatch(/\ba [aeiou]|\ban [^aeiou]/);
      }
    }
    expect(() => encodeCaption("a red cube on a blue floor", 4)).toThrow(ArgumentError);
    expect([...encodeCaption("a zebra", 3)]).toEqual([VOCABULARY.indexOf("a"), 1, 0]);
  });
});

describe("exact geometry", () => {
  test.each<[string, Solid, number, number]>([
    ["sphere", { kind: "sphere", radius: 0.5 }, 2.5, 0],
    ["box", { kind: "box", half: [0.5, 0.4, 0.3] }, 2.7, 0],
    ["turned box", { kind: "box", half: [0.5, 0.4, 0.3] }, 2.5, Math.PI / 2],
    ["cylinder", { kind: "cylinder", radius: 0.4, halfHeight: 0.5 }, 2.6, 0],
    ["cone", { kind: "cone", radius: 0.4, halfHeight: 0.5 }, 2.8, 0],
    ["capsule", { kind: "capsule", from: [-1, 0, 0], to: [1, 0, 0], radius: 0.25 }, 2.75, 0],
  ])("depth of a %s is its closed form", (_, solid, depth, yaw) => {
    const view = renderView(sceneWith(solid, yaw), camera);
    const middle = 32 * 65 + 32;
    expect(view.depth[middle]).toBeCloseTo(depth, 5);
    expect(view.instances[middle]).toBe(6);
    expect(view.depth[0]).toBeGreaterThan(3);
  });
  test("normals are unit vectors that turn towards the camera, and slope as depth does", () => {
    const view = renderView(sceneWith({ kind: "sphere", radius: 0.8 }), camera);
    for (let at = 0; at < 65 * 65; at++) {
      const n = view.normals.subarray(3 * at, 3 * at + 3);
      expect(Math.hypot(...n)).toBeCloseTo(1, 5);
      if (view.instances[at] !== 6) continue;
      const p = unproject(camera, (at % 65) + 0.5, Math.floor(at / 65) + 0.5, view.depth[at]!);
      // On a sphere the normal is the direction from its centre.
      const [x, y, z] = subVectors(p, [0, 0, 3]).map((c) => c / 0.8) as [number, number, number];
      expect([n[0], n[1], n[2]]).toEqual([expect.closeTo(x, 4), expect.closeTo(y, 4), expect.closeTo(z, 4)]);
    }
  });
  test("any two views of a scene agree: pixels reproject to the depth and the colour of the other view", () => {
    let [compared, border] = [0, 0];
    for (const i of SEEDS) {
      const scene = drawScene(3, i, { light: i % 2 ? "lamp" : "flat" });
      const [a, b] = drawCameras(scene, 3, i, { kind: "wander", frames: 2, size: 48 }) as [Camera, Camera];
      const view = renderView(scene, a);
      const eyes = [cameraCentre(a), cameraCentre(b)] as const;
      for (let at = 0; at < 48 * 48; at += 5) {
        const p = unproject(a, (at % 48) + 0.5, Math.floor(at / 48) + 0.5, view.depth[at]!);
        const target = project(b, p);
        if (!(target.depth > 0 && target.x > 0 && target.y > 0 && target.x < 48 && target.y < 48)) continue;
        const [own, other] = eyes.map((eye) => colourAlongRay(scene, eye, subVectors(p, eye))) as [
          ReturnType<typeof colourAlongRay>,
          ReturnType<typeof colourAlongRay>,
        ];
        expect(own.t).toBeCloseTo(1, 4);
        if (other.t < 1 - 1e-4) continue; // hidden from the other eye
        expect(other.t).toBeCloseTo(1, 4);
        const gap = Math.max(...own.colour.map((c, k) => Math.abs(c - other.colour[k]!)));
        compared++;
        // On the border of a pattern or a shadow rounding decides; everywhere else colours are equal.
        if (gap > 1e-3) border++;
      }
    }
    expect(compared).toBeGreaterThan(500);
    expect(border / compared).toBeLessThan(0.01);
  });
  test("edges lie where instances meet, classes follow instances", () => {
    const { scene, view } = openScenes({ seed: 8, count: 3, size: 32 }).get(1) as Awaited<
      ReturnType<ReturnType<typeof openScenes>["get"]>
    >;
    view.instances.forEach((instance, at) => {
      const name = CLASSES[view.classes[at]!];
      if (instance >= 6) expect(name).toBe(scene.objects[instance - 6]!.className);
      else expect(name).toBe(["wall", "wall", "ceiling", "floor", "wall", "wall"][instance]);
      const right = at % 32 < 31 && view.instances[at + 1] !== instance;
      const below = at < 31 * 32 && view.instances[at + 32] !== instance;
      expect(view.edges[at]).toBe(right || below ? 1 : 0);
    });
  });
  test("a lamp's shadow darkens the floor under an object, softly", () => {
    const scene = sceneWith({ kind: "sphere", radius: 0.6 });
    const lit: Scene = {
      ...scene,
      light: { kind: "lamp", position: [0, -3.9, 3], halfSize: 0.4, colour: [1, 1, 1], ambient: 0.4 },
    };
    const floorAt = (x: number): number => colourAlongRay(lit, [x, 1, 3], [0, 1, 0]).colour[0]!;
    expect(floorAt(0)).toBeCloseTo(0.4, 6);
    expect(floorAt(2.5)).toBeGreaterThan(0.45);
    const shades = Array.from({ length: 40 }, (_, i) => floorAt(0.5 + i / 20));
    expect(new Set(shades.map((s) => s.toFixed(2))).size).toBeGreaterThan(3);
  });
});

describe("cameras and sets", () => {
  test.each(PATHS)("a %s keeps clear of walls and objects", (kind) => {
    for (let i = 0; i < 25; i++) {
      const scene = drawScene(6, i);
      const cameras = drawCameras(scene, 6, i, { kind, frames: 7, size: 32 });
      expect(cameras).toHaveLength(7);
      for (const c of cameras) {
        expect(rigidError(c.worldToCamera)).toBeLessThan(1e-9);
        const eye = cameraCentre(c);
        eye.forEach((x, k) => {
          expect(Math.abs(x)).toBeLessThan(scene.room.half[k]!);
        });
        for (const o of scene.objects)
          expect(Math.hypot(o.centre[0] - eye[0], o.centre[2] - eye[2])).toBeGreaterThan(o.footprint);
      }
      const [first, last] = [cameraCentre(cameras[0]!), cameraCentre(cameras[6]!)];
      const turned = cameras[6]!.worldToCamera.map((x, k) => Math.abs(x - cameras[0]!.worldToCamera[k]!));
      expect(Math.hypot(...subVectors(first, last)) + Math.max(...turned)).toBeGreaterThan(0.1);
    }
  });
  test("a sample is the same alone and among others; clips show one scene", async () => {
    const options = { seed: 9, count: 12, size: 16, frames: 4 };
    const [a, b] = [openClips(options), openClips(options)];
    await a.get(3);
    expect(await a.get(7)).toEqual(await b.get(7));
    const clip = await a.get(7);
    expect([clip.views.length, clip.cameras.length]).toEqual([4, 4]);
    expect(() => openScenes({ seed: 1, count: 0 })).toThrow(ArgumentError);
  });
  test("key-points of a figure lie on it where they are visible", async () => {
    const set = openScenes({ seed: 10, count: 60, size: 64, figure: 1 });
    let visible = 0;
    for (let i = 0; i < 60; i++) {
      const { view, scene, keyPoints } = await set.get(i);
      const person = 6 + scene.objects.findIndex((o) => o.className === "person");
      for (const { x, y, visible: seen } of keyPoints ?? []) {
        if (!seen) continue;
        visible++;
        const near = [-1, 0, 1].some((dx) =>
          [-1, 0, 1].some((dy) => view.instances[Math.floor(y + dy) * 64 + Math.floor(x + dx)] === person),
        );
        expect(near).toBe(true);
      }
    }
    expect(visible).toBeGreaterThan(50);
  });
});

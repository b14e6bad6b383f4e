/**
 * Rooms with objects: what a seed stands for. Axes as cameras have them: x right, y down, z forwards; the floor lies at
 * y = +half height. Lengths are metres.
 */
import type { Vector3 } from "../../geometry/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { createDraw, type Draw } from "../random-draws.ts";
import { drawFigure, type Figure } from "./figure.ts";
import { COLOUR_NAMES, type Colour, type ColourName, drawTexture, type Texture } from "./materials.ts";
import { OBJECT_CLASSES, type SceneObject, type Solid } from "./objects.ts";

/** Shading that no view changes: by the surface's direction alone, or a lamp with soft shadows. */
export type Light =
  | { readonly kind: "flat" }
  | {
      readonly kind: "lamp";
      readonly position: Vector3;
      /** Half the side of the square lamp: the larger, the softer the shadows. */
      readonly halfSize: number;
      readonly colour: Colour;
      readonly ambient: number;
    };

/** The room that a scene lies in. */
export interface Room {
  readonly half: Vector3;
  /** Textures of the faces -x, +x, -y (ceiling), +y (floor), -z, +z. */
  readonly faces: readonly Texture[];
  readonly wallColour: ColourName;
  readonly floorColour: ColourName;
}

/** Everything in a scene. */
export interface Scene {
  readonly room: Room;
  readonly objects: readonly SceneObject[];
  readonly light: Light;
  /** The figure among the objects, with its joints, when there is one. */
  readonly figure?: Figure;
}

/** Options of `drawScene`. */
export interface SceneOptions {
  /** Least and most objects. Default [2, 5]. */
  readonly objects?: readonly [least: number, most: number];
  /** Default both: a lamp in half of the scenes. */
  readonly light?: "flat" | "lamp" | "either";
  /** Chance of a figure. Default 0.25. */
  readonly figure?: number;
  /** Half sizes of the room. Default x in [1.8, 2.6], y in [1.1, 1.5], z in [2.2, 3.2]. */
  readonly halfSizes?: readonly [x: Range, y: Range, z: Range];
}
type Range = readonly [low: number, high: number];

const HALF_SIZES = [
  [1.8, 2.6],
  [1.1, 1.5],
  [2.2, 3.2],
] as const;

/** The scene of a seed: the same whatever was drawn before. `index` counts scenes of a set. */
export function drawScene(seed: Seed, index: number, options: SceneOptions = {}): Scene {
  const draw = createDraw(seed, index, 0, "world scene");
  const {
    objects: [least, most] = [2, 5],
    light = "either",
    figure = 0.25,
    halfSizes = HALF_SIZES,
  } = options;
  const half = halfSizes.map(([low, high]) => draw.uniform(low, high)) as unknown as Vector3;
  const room = drawRoom(draw, half);
  const count = least + draw.integer(most - least + 1);
  const objects: SceneObject[] = [];
  const person = draw.chance(figure)
    ? placed(draw, half, [], 0.35, (x, z) => drawFigure(draw, half[1], x, z))
    : undefined;
  if (person) objects.push(person.object);
  // A colour stands for one object, so that captions are not ambiguous.
  const colours = shuffled(
    draw,
    COLOUR_NAMES.filter((c) => c !== room.floorColour),
  );
  while (objects.length < count + (person ? 1 : 0)) {
    const colour = colours[objects.length % colours.length]!;
    const next = placed(draw, half, objects, 0.6, (x, z) => ({
      object: drawObject(draw, colour, half[1], x, z),
    }));
    if (!next) break;
    objects.push(next.object);
  }
  const lit = light === "lamp" || (light === "either" && draw.chance(0.5));
  return {
    room,
    objects,
    light: lit ? drawLamp(draw, half) : { kind: "flat" },
    ...(person ? { figure: person.figure } : {}),
  };
}

function shuffled<T>(draw: Draw, items: readonly T[]): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = draw.integer(i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

function drawRoom(draw: Draw, half: Vector3): Room {
  const [wallColour, floorColour] = shuffled(draw, COLOUR_NAMES) as [ColourName, ColourName];
  const wall = (): Texture => drawTexture(draw, wallColour, [0.4, 1]);
  const ceiling: Texture = { ...drawTexture(draw, "white", [0.4, 1]), pattern: "solid" };
  const floor = drawTexture(draw, floorColour, [0.4, 1]);
  return { half, faces: [wall(), wall(), ceiling, floor, wall(), wall()], wallColour, floorColour };
}

/** What `make` gives at a free place on the floor, or nothing when 60 places were taken. */
function placed<P extends { readonly object: SceneObject }>(
  draw: Draw,
  half: Vector3,
  others: readonly SceneObject[],
  margin: number,
  make: (x: number, z: number) => P,
): P | undefined {
  for (let attempt = 0; attempt < 60; attempt++) {
    const x = draw.uniform(-half[0] + margin, half[0] - margin);
    const z = draw.uniform(-half[2] + margin + 0.8, half[2] - margin);
    const made = make(x, z);
    const { footprint } = made.object;
    const free = others.every(
      (o) => Math.hypot(o.centre[0] - x, o.centre[2] - z) > o.footprint + footprint + 0.05,
    );
    const inside = Math.abs(x) + footprint < half[0] && Math.abs(z) + footprint < half[2];
    if (free && inside) return made;
  }
  return undefined;
}

/** An object of a class and size, standing on the floor. */
export function drawObject(draw: Draw, colour: ColourName, floor: number, x: number, z: number): SceneObject {
  const className = draw.pick(OBJECT_CLASSES);
  const size = draw.uniform(0.22, 0.5);
  const [solid, height, footprint] = solidOf(className, size);
  return {
    className,
    colour,
    centre: [x, floor - height, z],
    yaw: draw.uniform(0, 2 * Math.PI),
    solids: [solid],
    texture: drawTexture(draw, colour, [0.2, 0.4]),
    footprint,
  };
}

/** The solid of a class, the height of its centre above the floor, and its footprint. */
function solidOf(className: (typeof OBJECT_CLASSES)[number], size: number): [Solid, number, number] {
  switch (className) {
    case "sphere":
      return [{ kind: "sphere", radius: size }, size, size];
    case "cube":
      return [
        { kind: "box", half: [size * 0.8, size * 0.8, size * 0.8] },
        size * 0.8,
        size * 0.8 * Math.SQRT2,
      ];
    case "tower":
      return [
        { kind: "box", half: [size * 0.5, size * 1.6, size * 0.5] },
        size * 1.6,
        size * 0.5 * Math.SQRT2,
      ];
    case "cylinder":
      return [{ kind: "cylinder", radius: size * 0.7, halfHeight: size }, size, size * 0.7];
    case "cone":
      return [{ kind: "cone", radius: size * 0.9, halfHeight: size }, size, size * 0.9];
  }
}

function drawLamp(draw: Draw, half: Vector3): Light {
  const warm = draw.uniform(0.85, 1);
  return {
    kind: "lamp",
    position: [draw.uniform(-0.6, 0.6) * half[0], -half[1] * 0.97, draw.uniform(-0.6, 0.6) * half[2]],
    halfSize: draw.uniform(0.08, 0.3),
    colour: [1, 0.5 + 0.5 * warm, warm],
    ambient: draw.uniform(0.35, 0.55),
  };
}

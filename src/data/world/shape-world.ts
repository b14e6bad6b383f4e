/**
 * Shape world: flat scenes of one or two things before a wall and a floor, with captions and exact control maps (edges,
 * depth, classes, pose). Small enough for text-to-image and control studies on a CPU.
 */
import { ArgumentError } from "../../errors.ts";
import type { Seed } from "../../tensor/index.ts";
import { type Dataset, dataset } from "../dataset.ts";
import { createDraw, type Draw } from "../random-draws.ts";
import { coverage, type Distance, disc, paint, square, stroke, triangle, union } from "./canvas.ts";
import { withArticle } from "./captions.ts";
import { type Colour, scaleColour } from "./materials.ts";

/** Shapes of the flat world. */
export const SHAPES = ["circle", "square", "triangle", "person"] as const;
/** Name of a shape. */
export type ShapeName = (typeof SHAPES)[number];

/** Colours of shapes by name. */
export const SHAPE_COLOURS = {
  red: [0.9, 0.15, 0.15],
  green: [0.15, 0.75, 0.2],
  blue: [0.2, 0.3, 0.95],
  yellow: [0.95, 0.9, 0.15],
  purple: [0.65, 0.2, 0.8],
  orange: [1, 0.55, 0.1],
} as const satisfies Record<string, Colour>;
/** Name of a shape's colour. */
export type ShapeColour = keyof typeof SHAPE_COLOURS;

/** Grounds by name. */
export const GROUNDS = {
  teal: [0.1, 0.45, 0.45],
  brown: [0.4, 0.27, 0.16],
  gray: [0.45, 0.45, 0.48],
  pink: [0.6, 0.4, 0.46],
} as const satisfies Record<string, Colour>;
/** Name of a ground. */
export type Ground = keyof typeof GROUNDS;

/** Colour of the floor before a wall. */
export const floorColour = (wall: Colour): Colour => {
  const lit = wall.map((c) => Math.min(1, 1.35 * c + 0.08));
  return [lit[0]!, lit[1]!, lit[2]!];
};

/** One thing. Lengths are pixels of a 32 x 32 picture and scale with the size. */
export interface Shape {
  readonly name: ShapeName;
  readonly colour: ShapeColour;
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  /** 0 far to 1 near. */
  readonly depth: number;
  /** Joints of a person: head, neck, hip, hands and feet. */
  readonly joints?: readonly (readonly [x: number, y: number])[];
}

/** Everything in a picture of the flat world. */
export interface ShapeScene {
  readonly ground: Ground;
  /** Row where the floor begins. */
  readonly horizon: number;
  /** Far to near. */
  readonly shapes: readonly Shape[];
}

/** Limbs of a person as pairs of joints, and the colours that pose maps give them. */
export const PERSON_LIMBS = [
  [0, 1],
  [1, 2],
  [1, 3],
  [1, 4],
  [2, 5],
  [2, 6],
] as const;
/** Colours of the limbs of a pose map. */
export const LIMB_COLOURS: readonly Colour[] = [
  [1, 0, 0],
  [1, 1, 0],
  [0, 1, 0],
  [0, 1, 1],
  [0, 0, 1],
  [1, 0, 1],
];

const BASE = 32;

function drawShape(
  draw: Draw,
  colour: ShapeColour,
  depth: readonly [number, number],
  x: readonly [number, number],
): Shape {
  const name = draw.pick(SHAPES);
  const radius = draw.uniform(4.5, 8) * (name === "triangle" ? 0.7 : 1);
  const place = { x: draw.uniform(...x), y: draw.uniform(13, 22), depth: draw.uniform(...depth) };
  const shape = { name, colour, radius, ...place };
  return name === "person"
    ? { ...shape, joints: drawJoints(draw, place.x, 16 + draw.uniform(-2, 2)) }
    : shape;
}

/** A person about 20 pixels high with arms and legs at random angles. */
function drawJoints(draw: Draw, x: number, y: number): [number, number][] {
  const [neck, hip]: [[number, number], [number, number]] = [
    [x, y - 5],
    [x + draw.uniform(-1, 1), y + 2],
  ];
  const end = ([jx, jy]: [number, number], length: number, angle: number): [number, number] => [
    jx + length * Math.sin(angle),
    jy + length * Math.cos(angle),
  ];
  return [
    [x + draw.uniform(-0.7, 0.7), y - 8.5],
    neck,
    hip,
    end(neck, 7, -draw.uniform(0.4, 2.6)),
    end(neck, 7, draw.uniform(0.4, 2.6)),
    end(hip, 8, -draw.uniform(0.1, 0.7)),
    end(hip, 8, draw.uniform(0.1, 0.7)),
  ];
}

/** The scene of a seed. `things` fixes how many there are. */
export function drawShapeScene(seed: Seed, index: number, things?: 1 | 2): ShapeScene {
  const draw = createDraw(seed, index, 0, "shape world");
  const colours = Object.keys(SHAPE_COLOURS) as ShapeColour[];
  const count = things ?? 1 + draw.integer(2);
  const first = draw.pick(colours);
  const second = draw.pick(colours.filter((c) => c !== first));
  const [left, right] = draw.chance(0.5) ? [first, second] : [second, first];
  const shapes =
    count === 1
      ? [drawShape(draw, first, [0.75, 1], [8, 24])]
      : [drawShape(draw, left, [0.5, 0.7], [6, 15]), drawShape(draw, right, [0.75, 1], [17, 26])];
  return { ground: draw.pick(Object.keys(GROUNDS) as Ground[]), horizon: 12 + draw.integer(13), shapes };
}

/** The scene as a mirror shows it, joints of persons included. */
export const mirrorScene = (scene: ShapeScene): ShapeScene => ({
  ...scene,
  shapes: scene.shapes.map(({ joints, ...shape }) => ({
    ...shape,
    x: BASE - shape.x,
    ...(joints && { joints: joints.map(([x, y]) => [BASE - x, y] as const) }),
  })),
});

/** `a red person and a blue square on teal`. */
export const captionShapes = ({ shapes, ground }: ShapeScene): string =>
  `${shapes.map((s) => withArticle(`${s.colour} ${s.name}`)).join(" and ")} on ${ground}`;

function outline({ name, x, y, radius, joints }: Shape, scale: number): Distance {
  const [cx, cy, r] = [x * scale, y * scale, radius * scale];
  if (name === "circle") return disc(cx, cy, r);
  if (name === "square") return square(cx, cy, r * 0.85);
  if (name === "triangle") return triangle(cx, cy, r);
  const at = (k: number): [number, number] => [joints![k]![0] * scale, joints![k]![1] * scale];
  const limbs = PERSON_LIMBS.map(([a, b], i) => stroke(...at(a), ...at(b), (i < 2 ? 1.9 : 1.3) * scale));
  return union(disc(...at(0), 2.4 * scale), ...limbs);
}

/** A picture of the flat world with caption and control maps. */
export interface ShapeSample {
  readonly scene: ShapeScene;
  readonly caption: string;
  /** // [H, W, 3], in [0, 1] */
  readonly image: Float32Array;
  /** 0 wall, 1 floor, 2 + k for the k-th of `SHAPES`. // [H, W] */
  readonly classes: Int32Array;
  /** 0 wall, 1 floor, 2 + k for thing k. // [H, W] */
  readonly instances: Int32Array;
  /** 0 far to 1 near. // [H, W] */
  readonly depth: Float32Array;
  /** 1 where the right or lower neighbour is another instance. // [H, W] */
  readonly edges: Float32Array;
  /** Limbs of persons in their colours on black. // [H, W, 3] */
  readonly pose: Float32Array;
}

/** A scene as a picture with all its maps, at any size. @throws ArgumentError for sizes below 8. */
export function renderShapes(scene: ShapeScene, size = BASE): ShapeSample {
  if (!(Number.isSafeInteger(size) && size >= 8))
    throw new ArgumentError(`renderShapes: size must be an integer of at least 8, got ${size}`);
  const scale = size / BASE;
  const wall: Colour = GROUNDS[scene.ground];
  const [floor, horizon, pixels] = [floorColour(wall), Math.round(scene.horizon * scale), size * size];
  const image = new Float32Array(3 * pixels);
  const depth = new Float32Array(pixels);
  const instances = new Int32Array(pixels);
  for (let at = 0; at < pixels; at++) {
    const y = Math.floor(at / size);
    const below = y >= horizon;
    image.set(below ? floor : wall, 3 * at);
    instances[at] = below ? 1 : 0;
    depth[at] = below ? 0.1 + (0.4 * (y - horizon)) / Math.max(1, size - 1 - horizon) : 0.1;
  }
  for (const [k, shape] of scene.shapes.entries()) {
    const mask = coverage(outline(shape, scale), size, size);
    const [top, span] = [(shape.y - shape.radius) * scale, 2 * shape.radius * scale];
    const shaded = (_x: number, y: number): Colour => {
      const down = Math.min(1, Math.max(0, (y - top) / span));
      return scaleColour(SHAPE_COLOURS[shape.colour], 1.25 - 0.5 * down);
    };
    paint(image, mask, shaded, size);
    mask.forEach((alpha, at) => {
      if (alpha < 0.5) return;
      instances[at] = 2 + k;
      depth[at] = shape.depth;
    });
  }
  const classes = instances.map((i) => (i < 2 ? i : 2 + SHAPES.indexOf(scene.shapes[i - 2]!.name)));
  const edges = edgeMap(instances, size);
  return {
    scene,
    caption: captionShapes(scene),
    image,
    classes,
    instances,
    depth,
    edges,
    pose: poseMap(scene, size),
  };
}

function edgeMap(instances: Int32Array, size: number): Float32Array {
  return Float32Array.from(instances, (own, at) => {
    const right = (at + 1) % size !== 0 && instances[at + 1] !== own;
    const below = at + size < instances.length && instances[at + size] !== own;
    return right || below ? 1 : 0;
  });
}

function poseMap({ shapes }: ShapeScene, size: number): Float32Array {
  const scale = size / BASE;
  const map = new Float32Array(3 * size * size);
  for (const { joints } of shapes) {
    if (!joints) continue;
    for (const [i, [a, b]] of PERSON_LIMBS.entries()) {
      const [from, to] = [joints[a]!, joints[b]!];
      const limb = stroke(from[0] * scale, from[1] * scale, to[0] * scale, to[1] * scale, 0.8 * scale);
      paint(map, coverage(limb, size, size), LIMB_COLOURS[i]!, size);
    }
  }
  return map;
}

/** The same scene without its nearest thing: what lies behind it, for controls that do not fit together. */
export const withoutNearest = (scene: ShapeScene): ShapeScene => ({
  ...scene,
  shapes: scene.shapes.slice(0, -1),
});

/** Which scenes `openShapes` gives. */
export interface ShapeOptions {
  readonly seed: Seed;
  readonly count: number;
  readonly size?: number;
  readonly things?: 1 | 2;
  /** Probability that a scene is mirrored: the near thing of two always stands on the right otherwise. Default 0. */
  readonly mirror?: number;
  /** Only scenes whose caption is in one part, see `captionSplit`. Default: all. */
  readonly split?: "train" | "held-out";
}

/** One caption of so many is held out, whatever the order of its things. */
const HELD_OUT = 8;

/** Whether a model that trains on the part "train" sees this caption, with its things in this order or in the other. */
export function captionSplit({ shapes, ground }: ShapeScene): "train" | "held-out" {
  const things = shapes.map(({ colour, name }) => `${colour} ${name}`).sort();
  return createDraw(0, 0, 0, `${things} on ${ground}`).integer(HELD_OUT) === 0 ? "held-out" : "train";
}

/** Draws until a scene is in the part that is asked for: at most this often. */
const DRAWS = 1000;

function drawChosen({ seed, count, things, mirror = 0, split }: ShapeOptions, index: number): ShapeScene {
  for (let k = 0; k < DRAWS; k++) {
    const at = index + k * count;
    const scene = drawShapeScene(seed, at, things);
    if (split !== undefined && captionSplit(scene) !== split) continue;
    return createDraw(seed, at, 0, "shape mirror").chance(mirror) ? mirrorScene(scene) : scene;
  }
  throw new ArgumentError(`openShapes: no scene of the part "${split}" in ${DRAWS} draws`);
}

/** Shape world as a dataset: a pure function of seed and index. */
export const openShapes = (options: ShapeOptions): Dataset<ShapeSample> =>
  dataset(options.count, (index) => renderShapes(drawChosen(options, index), options.size));

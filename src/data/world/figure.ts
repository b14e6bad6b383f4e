/** An articulated figure: joints, the limbs between them, and the capsules that give it a body. */
import { addVectors, type Vector3 } from "../../geometry/index.ts";
import type { Draw } from "../random-draws.ts";
import { COLOUR_NAMES, drawTexture } from "./materials.ts";
import { FIGURE_CLASS, type SceneObject, type Solid } from "./objects.ts";

/** Joints of a figure, in order. */
export const JOINTS = [
  "head",
  "neck",
  "hip",
  "left elbow",
  "left hand",
  "right elbow",
  "right hand",
  "left knee",
  "left foot",
  "right knee",
  "right foot",
] as const;

/** Limbs as pairs of joint numbers. */
export const LIMBS: readonly (readonly [from: number, to: number])[] = [
  [0, 1],
  [1, 2],
  [1, 3],
  [3, 4],
  [1, 5],
  [5, 6],
  [2, 7],
  [7, 8],
  [2, 9],
  [9, 10],
];

/** A figure of limbs. */
export interface Figure {
  /** Places in the world, in the order of `JOINTS`. */
  readonly joints: readonly Vector3[];
}

/** Point at a length from another, at an angle from straight down in the plane that the figure faces. */
const limbEnd = (from: Vector3, length: number, angle: number, yaw: number): Vector3 =>
  addVectors(from, [
    length * Math.sin(angle) * Math.cos(yaw),
    length * Math.cos(angle),
    length * Math.sin(angle) * Math.sin(yaw),
  ]);

/** A standing figure of random height and pose at a place on the floor. */
export function drawFigure(
  draw: Draw,
  floor: number,
  x: number,
  z: number,
): { object: SceneObject; figure: Figure } {
  const height = Math.min(draw.uniform(1.1, 1.6), 1.8 * floor);
  const yaw = draw.uniform(0, 2 * Math.PI);
  const spread = (low: number, high: number): number => draw.uniform(low, high);
  const legs = 0.25 * height;
  const [leftLeg, rightLeg] = [spread(-0.5, -0.05), spread(0.05, 0.5)];
  const hip: Vector3 = [0, floor - 2 * legs * Math.cos(Math.max(-leftLeg, rightLeg)) - 0.02, 0];
  const neck = addVectors(hip, [0, -0.3 * height, 0]);
  const head = addVectors(neck, [0, -0.11 * height, 0]);
  const arm = (side: 1 | -1): [Vector3, Vector3] => {
    const upper = side * spread(0.2, 1.6);
    const elbow = limbEnd(neck, 0.17 * height, upper, yaw);
    return [elbow, limbEnd(elbow, 0.16 * height, upper + side * spread(0, 1.4), yaw)];
  };
  const leg = (angle: number): [Vector3, Vector3] => {
    const knee = limbEnd(hip, legs, angle, yaw);
    return [knee, limbEnd(knee, legs, angle * draw.uniform(0.6, 1), yaw)];
  };
  const joints = [head, neck, hip, ...arm(-1), ...arm(1), ...leg(leftLeg), ...leg(rightLeg)];
  const place = (joint: Vector3): Vector3 => [joint[0] + x, joint[1], joint[2] + z];
  return {
    object: { ...bodyOf(draw, joints, height), centre: [x, 0, z] },
    figure: { joints: joints.map(place) },
  };
}

function bodyOf(draw: Draw, joints: readonly Vector3[], height: number): SceneObject {
  const colour = draw.pick(COLOUR_NAMES);
  const capsule = (from: Vector3, to: Vector3, radius: number): Solid => ({
    kind: "capsule",
    from,
    to,
    radius,
  });
  const limbs = LIMBS.slice(1).map(([a, b], i) =>
    capsule(joints[a]!, joints[b]!, (i === 0 ? 0.07 : 0.04) * height),
  );
  const head: Solid = capsule(joints[0]!, addVectors(joints[0]!, [0, -0.02 * height, 0]), 0.08 * height);
  const reach = Math.max(...joints.map(([x, , z]) => Math.hypot(x, z)));
  return {
    className: FIGURE_CLASS,
    colour,
    centre: [0, 0, 0],
    yaw: 0,
    solids: [head, ...limbs],
    texture: { ...drawTexture(draw, colour, [0.2, 0.4]), pattern: "solid" },
    footprint: reach + 0.08 * height,
  };
}
